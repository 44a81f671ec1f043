"""Use cases of tenancy: open a tenant, list tenants, find one by its host label, operators' tokens."""

import secrets
import time
from collections.abc import Sequence
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.tenancy import rules, store
from limen.control.tenancy.model import CreatedTenant, Operator, Tenant, TenantState
from limen.control.tenancy.ports import OwnerInvitations, TenantCreatedHook, TenantKeys
from limen.db.database import Database
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, Unauthenticated
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind

_CACHE_SECONDS = 5.0
_CACHE_SIZE = 4096


class TenancyService:
    """Tenants and operators of one platform.

    ``on_created`` hooks run in the transaction that opens a tenant, in order: whatever every tenant is born with.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        keys: TenantKeys,
        invitations: OwnerInvitations,
        on_created: Sequence[TenantCreatedHook] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self._keys = keys
        self._invitations = invitations
        self._on_created = tuple(on_created)
        self._by_slug: dict[str, tuple[float, UUID | None]] = {}

    async def create_tenant(self, actor: Actor, slug: str, name: str) -> CreatedTenant:
        """Open a tenant: keys, row, built-in objects, the owner's link. All of it or nothing visible.

        Raises:
            Malformed: when slug or name break their rules.
            Conflict: when the slug is taken.
            Unavailable: when keyd or the database do not answer.
        """
        tenant = Tenant(new_id(), rules.check_slug(slug), rules.check_name(name), TenantState.ACTIVE, self._clock.now())
        if await store.find_by_slug(self._database, slug) is not None:
            raise _taken()
        # Keys first: should the rest fail, keys of an id that nobody uses are left over, and nothing else.
        await self._keys.create_tenant(tenant.id)
        async with self._database.transaction(tenant.id) as tx:
            if not await store.insert_tenant(tx, tenant):
                raise _taken()
            for hook in self._on_created:
                await hook(tx, tenant)
            token = await self._invitations.invite_owner(tx, tenant.created_at)
            event = AuditEvent(
                "tenancy.tenant.create", Outcome.OK, actor, "tenant", tenant.id, detail={"slug": tenant.slug}
            )
            await record(tx, event, tenant.created_at)
        self._by_slug.pop(slug, None)
        return CreatedTenant(tenant, token)

    async def list_tenants(self) -> list[Tenant]:
        """All tenants, by slug: names and states, nothing from inside."""
        return await store.list_tenants(self._database)

    async def find_tenant_id(self, slug: str) -> UUID | None:
        """The id of the active tenant at a host label, ``None`` if there is none. Remembered for 5 s."""
        if not rules.is_slug(slug):
            return None
        kept = self._by_slug.get(slug)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        found = await store.find_by_slug(self._database, slug)
        tenant_id = found[0] if found is not None and found[1] is TenantState.ACTIVE else None
        if len(self._by_slug) >= _CACHE_SIZE:
            self._by_slug.clear()
        self._by_slug[slug] = (time.monotonic() + _CACHE_SECONDS, tenant_id)
        return tenant_id

    async def mint_operator(self, name: str) -> str:
        """Return a fresh token for the operator of this name, making the operator if need be.

        An earlier token of the same operator stops working. Called by ``limen up`` and the operator's command line
        on the server itself, never over the network.
        """
        secret = secrets.token_urlsafe(32)
        hashed = rules.hash_secret(secret)
        operator_id = await store.replace_token(self._database, name, hashed)
        if operator_id is None:
            operator_id = new_id()
            await store.insert_operator(self._database, Operator(operator_id, rules.check_name(name)), hashed)
        return rules.operator_token(operator_id, secret)

    async def check_operator(self, token: str) -> Operator:
        """Whose token it is.

        Raises:
            Unauthenticated: when it is nobody's.
        """
        operator_id, secret = rules.parse_operator_token(token)
        found = await store.find_operator(self._database, operator_id)
        if found is None:
            raise Unauthenticated("the operator token is not valid", fix="use the token that 'limen up' printed")
        rules.check_secret(secret, found[1])
        return found[0]


def operator_actor(operator_id: UUID | None, source: str) -> Actor:
    """An operator as the audit trail names one."""
    return Actor(ActorKind.OPERATOR, operator_id, source)


def _taken() -> Conflict:
    return Conflict("this slug is taken", fix="choose another one")
