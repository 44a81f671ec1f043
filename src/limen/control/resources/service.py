"""Use cases of resources. Each runs in the caller's transaction, so that a room above can add its own rows."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.resources import rules, store
from limen.control.resources.model import Resource
from limen.db.database import Tx
from limen.db.errors import ReferenceViolated
from limen.kernel.access import ResourceKind
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor

CONSOLE_NAME = "console"


class ResourcesService:
    """Create, find and remove resources."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def create(
        self,
        tx: Tx,
        actor: Actor,
        kind: ResourceKind,
        name: str,
        attributes: Mapping[str, Any],
        *,
        builtin: bool = False,
    ) -> Resource:
        """Create a resource.

        Raises:
            Malformed: when the name or the attributes are wrong.
            Conflict: when the name is taken within its kind.
        """
        resource = Resource(
            tenant_id=tx.tenant_id,
            id=new_id(),
            kind=kind,
            name=rules.checked_name(name, kind),
            attributes=rules.checked_attributes(kind, attributes),
            builtin=builtin,
            created_at=self._clock.now(),
        )
        if not await store.insert(tx, resource, self._clock.now()):
            raise Conflict(f"a {kind} resource named '{name}' exists", fix="choose another name")
        await self._record(tx, actor, "create", resource)
        tx.fact_changed(Fact(FactKind.RESOURCE, resource.id))
        return resource

    async def remove(self, tx: Tx, actor: Actor, resource_id: UUID) -> None:
        """Remove a resource; every grant on it ends with this transaction.

        Raises:
            NotFound: when there is no such resource in this tenant.
            Conflict: for a built-in resource, and for one that still holds something (a mount with secrets).
        """
        resource = await self.get(tx, resource_id)
        if resource.builtin:
            raise Conflict("a built-in resource cannot be removed", fix="change the policies that name it instead")
        try:
            await store.delete(tx, resource_id)
        except ReferenceViolated as exc:
            raise Conflict(
                f"the {resource.kind} resource '{resource.name}' is not empty", fix="remove what it holds first"
            ) from exc
        await self._record(tx, actor, "delete", resource)
        tx.fact_changed(Fact(FactKind.RESOURCE, resource_id))

    async def get(self, tx: Tx, resource_id: UUID) -> Resource:
        """One resource.

        Raises:
            NotFound: when there is no such resource in this tenant.
        """
        resource = await store.find(tx, resource_id)
        if resource is None:
            raise NotFound("no such resource", fix="list them with 'limen resource list'")
        return resource

    async def named(self, tx: Tx, kind: ResourceKind, name: str) -> Resource | None:
        """The resource of that kind and name, if there is one."""
        return await store.find_named(tx, kind, name)

    async def console(self, tx: Tx) -> Resource:
        """The tenant's console.

        Raises:
            NotFound: when the tenant was not set up.
        """
        found = await store.find_named(tx, ResourceKind.CONSOLE, CONSOLE_NAME)
        if found is None:
            raise NotFound("this tenant has no console", fix="create the tenant with 'limen tenant create'")
        return found

    async def many(self, tx: Tx, ids: Iterable[UUID]) -> list[Resource]:
        """Those of ``ids`` that exist."""
        return await store.find_many(tx, ids)

    async def list_all(self, tx: Tx, kind: ResourceKind | None = None) -> list[Resource]:
        """All resources of the tenant."""
        return await store.list_all(tx, kind)

    async def _record(self, tx: Tx, actor: Actor, verb: str, resource: Resource) -> None:
        event = AuditEvent(
            action=f"resources.{resource.kind}.{verb}",
            outcome=Outcome.OK,
            actor=actor,
            object_kind="resource",
            object_id=resource.id,
            detail={"name": resource.name, "cidr": resource.attributes.get("cidr")},
        )
        await record(tx, event, self._clock.now())
