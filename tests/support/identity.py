"""Tenants with people who can really sign in: identity, tenancy, policy and grants over a real database."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import argon2
import httpx
from starlette.types import ASGIApp

from limen.api.access import SessionAuthenticator
from limen.api.app import AppSettings, create_app
from limen.api.hosts import HostRules
from limen.control.grants.service import GrantLedger
from limen.control.identity.endpoints import routers as identity_routers
from limen.control.identity.model import IssuedSession, SessionKind
from limen.control.identity.ports import SessionKey
from limen.control.identity.service import IdentityService, PasswordHasher
from limen.control.policy.administrator import PolicyAdministrator
from limen.control.policy.model import AccessRequest, SubjectState
from limen.control.policy.service import PolicyService
from limen.control.resources.service import ResourcesService
from limen.control.tenancy.endpoints import router as tenancy_router
from limen.control.tenancy.model import Tenant
from limen.control.tenancy.service import TenancyService
from limen.db.database import Database, Tx
from limen.kernel.access import Action, Decision, Grant, Subject
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind, Principal, Role
from limen.runtime.http import SecureRouter
from tests.support.policy import SteppedClock

PASSWORD = "a lamp beside the old door"
SOURCE = "203.0.113.7"
BASE = "limen.test"


class QuickHasher(PasswordHasher):
    """Real argon2id at a cost that suits tests."""

    def __init__(self, workers: int = 1, queue: int = 64) -> None:
        super().__init__(workers, queue)
        self._argon2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        self.verified = 0

    async def matches(self, password: bytes, encoded: str | None) -> bool:
        """Counts what was hashed, so that a test sees whether throttling came first."""
        self.verified += 1
        return await super().matches(password, encoded)


class MemoryKeys:
    """``identity.ports.SessionKeys`` and ``tenancy.ports.TenantKeys`` in memory."""

    def __init__(self) -> None:
        self.keys: dict[UUID, dict[bytes, bytes]] = {}
        self.latest: dict[UUID, bytes] = {}

    async def create_tenant(self, tenant_id: UUID) -> None:
        """First key."""
        if tenant_id not in self.keys:
            self.rotate(tenant_id)

    def rotate(self, tenant_id: UUID) -> None:
        """A new current key."""
        key_id = os.urandom(16)
        self.keys.setdefault(tenant_id, {})[key_id] = os.urandom(32)
        self.latest[tenant_id] = key_id

    async def current(self, tenant_id: UUID) -> SessionKey:
        """The newest key."""
        key_id = self.latest[tenant_id]
        return SessionKey(key_id, self.keys[tenant_id][key_id])

    async def by_id(self, tenant_id: UUID, key_id: bytes) -> SessionKey | None:
        """Any key."""
        key = self.keys.get(tenant_id, {}).get(key_id)
        return SessionKey(key_id, key) if key is not None else None


@dataclass
class Subjects:
    """``policy.ports.SubjectSource`` on identity, as the process's main joins them."""

    identity: IdentityService

    async def state(self, tx: Tx, subject: Subject) -> SubjectState:
        """Facts of a person."""
        facts = await self.identity.subject_facts(tx, subject.id, subject.credential_id)
        if facts is None:
            return SubjectState(frozenset(), active=False, device_verified=False)
        return SubjectState(facts.groups, active=facts.active, device_verified=False)

    async def shielded(self, tx: Tx, subject_id: UUID, actor: Actor) -> str:
        """No reason."""
        return ""

    async def principal_kind(self, tx: Tx, principal_id: UUID) -> str | None:
        """Group or person."""
        return await self.identity.principal_kind(tx, principal_id)

    async def names(self, tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
        """Names."""
        return await self.identity.names(tx, ids)


@dataclass
class ConsoleGate:
    """``identity.ports.SessionGate`` on the policy administrator, as the process's main joins them."""

    administrator: PolicyAdministrator
    resources: ResourcesService

    async def admit(self, tx: Tx, subject: Subject, source: str, not_after: datetime) -> Grant | Decision:
        """Ask for the console."""
        console = await self.resources.console(tx)
        request = AccessRequest(subject, console.id, frozenset({Action.SIGN_IN}), source, not_after=not_after)
        return await self.administrator.issue(tx, request)


class IdentityWorld:
    """One platform."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SteppedClock()
        self.keys = MemoryKeys()
        self.hasher = QuickHasher()
        self.identity = IdentityService(database, self.clock, self.keys, self.hasher)
        self.resources = ResourcesService(self.clock)
        self.ledger = GrantLedger(self.clock)
        subjects = Subjects(self.identity)
        self.policies = PolicyService(self.resources, subjects, self.clock)
        self.administrator = PolicyAdministrator(database, self.ledger, self.resources, subjects, self.clock)
        self.administrator.add_ender(self.identity)
        database.fact_hook = self.administrator.redecide
        self.tenancy = TenancyService(
            database, self.clock, self.keys, self.identity, [self.identity.tenant_created, self._policies_of]
        )
        self.identity.open(ConsoleGate(self.administrator, self.resources), self.tenancy)
        self.operator = Actor(ActorKind.OPERATOR, new_id(), SOURCE)

    async def _policies_of(self, tx: Tx, _tenant: Tenant) -> None:
        await self.policies.set_up_tenant(tx, await self.identity.everyone(tx))

    async def tenant(self, slug: str) -> "TenantWorld":
        """Open a tenant and make its owner."""
        created = await self.tenancy.create_tenant(self.operator, slug, slug.title())
        email = f"owner@{slug}.example"
        owner = await self.identity.passwords.set_up(created.setup_token, PASSWORD, SOURCE, email, "Olive Owner")
        who = Principal(created.tenant.id, owner.id, None, Role.OWNER, SOURCE)
        return TenantWorld(self, created.tenant.id, slug, who, email)

    def app(self, routers: Sequence[SecureRouter] = ()) -> ASGIApp:
        """The HTTP application with the routes of this room's owner, and more if given."""
        return create_app(
            AppSettings(HostRules(BASE)),
            SessionAuthenticator(self.identity, self.tenancy),
            [tenancy_router(self.tenancy), *identity_routers(self.identity), *routers],
            health={},
        )

    def client(self, host: str = BASE, app: ASGIApp | None = None, source: str = SOURCE) -> httpx.AsyncClient:
        """An HTTP client of the application, without a socket."""
        transport = httpx.ASGITransport(app or self.app(), raise_app_exceptions=False, client=(source, 40000))
        return httpx.AsyncClient(transport=transport, base_url=f"https://{host}")


@dataclass
class TenantWorld:
    """One tenant with its owner."""

    world: IdentityWorld
    id: UUID
    slug: str
    owner: Principal
    owner_email: str

    async def person(self, name: str, role: Role = Role.MEMBER, password: str = PASSWORD) -> UUID:
        """Invite a person and have them set their password; their address is ``<name>@<slug>.example``."""
        directory = self.world.identity.directory
        invited = await directory.create_person(self.owner, self.email(name), name.title(), role)
        await self.world.identity.passwords.set_up(invited.setup_token, password, SOURCE)
        return invited.person.id

    def email(self, name: str) -> str:
        """The address of a person."""
        return f"{name}@{self.slug}.example"

    async def sign_in(
        self,
        name: str,
        password: str = PASSWORD,
        source: str = SOURCE,
        kind: SessionKind = SessionKind.BEARER,
    ) -> IssuedSession:
        """Sign a person in."""
        return await self.world.identity.sign_in_password(self.slug, self.email(name), password, source, kind)

    async def principal(self, name: str) -> Principal:
        """Sign a person in and return who they then are."""
        session = await self.sign_in(name)
        return await self.world.identity.check_session(session.token, SOURCE)
