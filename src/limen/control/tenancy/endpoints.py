"""``/tenants``: for platform operators only."""

from datetime import datetime
from uuid import UUID

from fastapi import Request
from pydantic import Field

from limen.control.tenancy.model import Tenant
from limen.control.tenancy.service import TenancyService
from limen.kernel.principal import Permission
from limen.runtime.http import Body, SecureRouter, View, principal


class NewTenant(Body):
    """What opening a tenant takes."""

    slug: str = Field(max_length=63)
    name: str = Field(max_length=400)


class TenantView(View):
    """A tenant as operators see it."""

    id: UUID
    slug: str
    name: str
    state: str
    created_at: datetime


class CreatedTenantView(TenantView):
    """A new tenant; ``setup_token`` is shown this once and lets one person become its owner (24 hours)."""

    setup_token: str


class TenantList(View):
    """All tenants."""

    tenants: list[TenantView]


def router(tenancy: TenancyService) -> SecureRouter:
    """Routes of tenancy."""
    routes = SecureRouter(tags=["tenants"])

    @routes.act("/tenants", Permission.OPERATE_PLATFORM, status_code=201)
    async def create_tenant(request: Request, body: NewTenant) -> CreatedTenantView:
        """Open a tenant and return its owner's one-time set-up token."""
        created = await tenancy.create_tenant(principal(request).actor, body.slug, body.name)
        return CreatedTenantView(**dict(_view(created.tenant)), setup_token=created.setup_token)

    @routes.read("/tenants", Permission.OPERATE_PLATFORM)
    async def list_tenants() -> TenantList:
        """All tenants: names and states, nothing from inside."""
        return TenantList(tenants=[_view(tenant) for tenant in await tenancy.list_tenants()])

    return routes


def _view(tenant: Tenant) -> TenantView:
    return TenantView(
        id=tenant.id,
        slug=tenant.slug,
        name=tenant.name,
        state=tenant.state.value,
        created_at=tenant.created_at,
    )
