"""HTTP routes of resources: network resources and vault mounts. Buckets are connected by the files room."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends
from pydantic import Field

from limen.control.resources.model import Resource
from limen.control.resources.service import ResourcesService
from limen.db.database import Database
from limen.kernel.access import ResourceKind
from limen.kernel.principal import Permission, Principal
from limen.runtime.http import Body, SecureRouter, View, principal, tenant_of

Caller = Annotated[Principal, Depends(principal)]


class PortRangeBody(Body):
    """``protocol`` tcp, udp or icmp; ports inclusive."""

    protocol: Literal["tcp", "udp", "icmp"]
    first: int = Field(0, ge=0, le=65535)
    last: int = Field(0, ge=0, le=65535)


class NewResource(Body):
    """A resource to create. ``cidr`` and ``ports`` are for the network kind only."""

    kind: Literal["network", "vault"]
    name: str = Field(max_length=64)
    cidr: str | None = Field(None, max_length=64)
    ports: list[PortRangeBody] = []


class ResourceView(View):
    """A resource as the API shows it."""

    id: UUID
    kind: str
    name: str
    cidr: str | None = None
    ports: list[dict[str, str | int]] = []
    builtin: bool = False


class ResourceList(View):
    """Resources."""

    resources: list[ResourceView]


def view(resource: Resource) -> ResourceView:
    """Render one resource."""
    return ResourceView(
        id=resource.id,
        kind=resource.kind,
        name=resource.name,
        cidr=resource.attributes.get("cidr"),
        ports=list(resource.attributes.get("ports", [])),
        builtin=resource.builtin,
    )


def router(database: Database, resources: ResourcesService) -> SecureRouter:
    """The routes under ``/resources``."""
    routes = SecureRouter(prefix="/resources", tags=["resources"])

    @routes.read("", Permission.READ_RESOURCES)
    async def list_resources(who: Caller, kind: ResourceKind | None = None) -> ResourceList:
        async with database.transaction(tenant_of(who)) as tx:
            return ResourceList(resources=[view(resource) for resource in await resources.list_all(tx, kind)])

    @routes.act("", Permission.MANAGE_RESOURCES, status_code=201)
    async def create_resource(who: Caller, body: NewResource) -> ResourceView:
        kind = ResourceKind(body.kind)
        attributes = (
            {"cidr": body.cidr, "ports": [entry.model_dump() for entry in body.ports]}
            if kind is ResourceKind.NETWORK
            else {}
        )
        async with database.transaction(tenant_of(who)) as tx:
            return view(await resources.create(tx, who.actor, kind, body.name, attributes))

    @routes.remove("/{resource_id}", Permission.MANAGE_RESOURCES, status_code=204)
    async def delete_resource(who: Caller, resource_id: UUID) -> None:
        async with database.transaction(tenant_of(who)) as tx:
            await resources.remove(tx, who.actor, resource_id)

    return routes
