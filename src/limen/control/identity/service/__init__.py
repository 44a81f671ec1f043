"""What other rooms and the processes see of identity: :class:`IdentityService` and its parts.

``identity.directory`` (people, groups), ``identity.sessions`` (check, list, end), ``identity.passwords``
(one-time links, password change), ``identity.throttle`` and ``identity.hasher`` (shared with the file door).
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from limen.control.identity.model import (
    CheckedSession,
    EndReason,
    IssuedSession,
    PersonFacts,
    SessionKind,
    TokenPurpose,
)
from limen.control.identity.ports import SessionGate, SessionKeys
from limen.control.identity.service import links
from limen.control.identity.service.directory import Directory
from limen.control.identity.service.own_password import OwnPassword
from limen.control.identity.service.passwords import PasswordHasher
from limen.control.identity.service.sessions import Sessions, end_all_sessions
from limen.control.identity.service.sign_in import SignIn, TenantFinder
from limen.control.identity.service.throttle import Attempt, Throttle
from limen.control.identity.store import groups as group_store
from limen.control.identity.store import people as people_store
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.principal import Principal

__all__ = ["Attempt", "IdentityService", "PasswordHasher", "Throttle"]


class IdentityService:
    """Identity of one platform. Set ``gate`` (the policy administrator) and ``tenants`` before the first sign-in."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        keys: SessionKeys,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self.hasher = hasher if hasher is not None else PasswordHasher()
        self.throttle = Throttle()
        self.directory = Directory(database, clock)
        self.sessions = Sessions(database, clock, keys)
        self.passwords = OwnPassword(database, clock, self.hasher, self.throttle)
        self.sign_in = SignIn(database, clock, keys, self.hasher, self.throttle)
        self._clock = clock

    def open(self, gate: SessionGate, tenants: TenantFinder) -> None:
        """Join the rooms that are made after this one: who decides on sign-ins, and who knows host labels."""
        self.sign_in.gate = gate
        self.sign_in.tenants = tenants

    # --- what a decision rests on ---------------------------------------------------------------------------

    async def subject_facts(self, tx: Tx, person_id: UUID, credential_id: UUID | None = None) -> PersonFacts | None:
        """State, role and groups of a person, and how the session ``credential_id`` was signed in to."""
        found = await group_store.facts(tx, [person_id], credential_id)
        return found[0] if found else None

    async def facts_of(self, tx: Tx, person_ids: Iterable[UUID]) -> dict[UUID, PersonFacts]:
        """The same for many people at once, without the sign-in method."""
        return {facts.person_id: facts for facts in await group_store.facts(tx, list(person_ids), None)}

    async def everyone(self, tx: Tx) -> UUID:
        """The tenant's built-in group."""
        return await group_store.everyone(tx)

    async def principal_kind(self, tx: Tx, principal_id: UUID) -> str | None:
        """``group`` or ``person``; ``None`` when this tenant has neither of this id."""
        return await group_store.principal_kind(tx, principal_id)

    async def names(self, tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
        """Display names of the people (removed ones included) and groups among ``ids``."""
        return {**await people_store.names(tx, ids), **await group_store.names(tx, ids)}

    async def end_credentials(self, tx: Tx, subject_id: UUID, reason: str = EndReason.SUSPENDED) -> int:
        """End every session of a person, for example because of a suspension; return how many."""
        return await end_all_sessions(tx, subject_id, reason, self._clock.now())

    # --- sign-in ------------------------------------------------------------------------------------------

    async def sign_in_password(
        self, tenant: str, email: str, password: str, source: str, kind: SessionKind = SessionKind.BEARER
    ) -> IssuedSession:
        """See :meth:`.sign_in.SignIn.password`."""
        return await self.sign_in.password(tenant, email, password, source, kind)

    async def check_session(self, token: str, source: str, kind: SessionKind | None = None) -> Principal:
        """See :meth:`.sessions.Sessions.check`."""
        return (await self.sessions.check(token, source, kind)).principal

    async def authenticate(self, token: str, source: str, kind: SessionKind | None = None) -> CheckedSession:
        """The same with the CSRF token and the session's expiry."""
        return await self.sessions.check(token, source, kind)

    # --- for tenancy --------------------------------------------------------------------------------------

    async def invite_owner(self, tx: Tx, now: datetime) -> str:
        """The one-time set-up token of a tenant's first owner (``tenancy.ports.OwnerInvitations``)."""
        return await links.issue(tx, TokenPurpose.OWNER_SETUP, None, now)

    async def tenant_created(self, tx: Tx, _tenant: object) -> None:
        """The hook that gives a new tenant its ``everyone`` group (``tenancy.ports.TenantCreatedHook``)."""
        await self.directory.create_everyone(tx)
