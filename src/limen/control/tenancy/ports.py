"""What opening a tenant needs from outside the room."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from limen.control.tenancy.model import Tenant
from limen.db.database import Tx


class TenantKeys(Protocol):
    """Key custody, as far as tenancy needs it."""

    async def create_tenant(self, tenant_id: UUID) -> None:
        """Make the tenant's keys. Idempotent."""
        ...


class OwnerInvitations(Protocol):
    """Who makes the one-time set-up link of the first owner (the identity room)."""

    async def invite_owner(self, tx: Tx, now: datetime) -> str:
        """Return the token of a fresh link, valid 24 hours; earlier unused ones of the tenant are void."""
        ...


# Runs in the transaction that opens a tenant.
TenantCreatedHook = Callable[[Tx, Tenant], Awaitable[None]]
