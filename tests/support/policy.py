"""A policy administrator over a real database, with subjects that a test sets directly."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from limen.control.grants.service import GrantLedger
from limen.control.policy.model import StoredPolicy, SubjectState
from limen.control.policy.service import PolicyAdministrator, PolicyService
from limen.control.resources.model import Resource
from limen.control.resources.service import ResourcesService
from limen.db.database import Database, Tx
from limen.engine.model import Effect
from limen.kernel.access import ResourceKind, Subject, SubjectKind
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor


class SteppedClock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """The instant set last."""
        return self.instant

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.instant += timedelta(seconds=seconds)


@dataclass
class Directory:
    """Subjects, their groups and devices, per tenant."""

    groups: dict[tuple[UUID, UUID], set[UUID]] = field(default_factory=dict)
    kinds: dict[tuple[UUID, UUID], str] = field(default_factory=dict)
    inactive: set[UUID] = field(default_factory=set)
    devices: set[UUID] = field(default_factory=set)

    async def state(self, tx: Tx, subject: Subject) -> SubjectState:
        """As the rooms of people and devices would answer."""
        known = (tx.tenant_id, subject.id) in self.kinds
        return SubjectState(
            groups=frozenset(self.groups.get((tx.tenant_id, subject.id), set())),
            active=known and subject.id not in self.inactive,
            device_verified=subject.device_id in self.devices,
        )

    async def principal_kind(self, tx: Tx, principal_id: UUID) -> str | None:
        """What the id is in this tenant."""
        return self.kinds.get((tx.tenant_id, principal_id))

    async def shielded(self, tx: Tx, subject_id: UUID, actor: Actor) -> str:
        """Nobody may suspend themselves."""
        return "not yourself" if subject_id == actor.id else ""

    async def names(self, tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
        """Ids as names."""
        return {one: str(one) for one in ids}


class PolicyWorld:
    """Everything that a policy test needs, for any number of tenants."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SteppedClock()
        self.directory = Directory()
        self.ledger = GrantLedger(self.clock)
        self.resources = ResourcesService(self.clock)
        self.policies = PolicyService(self.resources, self.directory, self.clock)
        self.administrator = PolicyAdministrator(database, self.ledger, self.resources, self.directory, self.clock)
        database.fact_hook = self.administrator.redecide

    def person(self, tenant: UUID, *groups: UUID) -> Subject:
        """A person in some groups, signed in."""
        subject = Subject(tenant, SubjectKind.PERSON, new_id(), credential_id=new_id())
        self.directory.kinds[tenant, subject.id] = "person"
        self.directory.groups[tenant, subject.id] = set(groups)
        return subject

    def group(self, tenant: UUID) -> UUID:
        """A group."""
        group = new_id()
        self.directory.kinds[tenant, group] = "group"
        return group

    async def leave(self, subject: Subject, group: UUID) -> None:
        """Take a person out of a group, as the identity room would."""
        async with self.database.transaction(subject.tenant_id) as tx:
            self.directory.groups[subject.tenant_id, subject.id].discard(group)
            tx.fact_changed(Fact(FactKind.PERSON, subject.id))

    async def resource(self, tenant: UUID, name: str, kind: ResourceKind = ResourceKind.NETWORK) -> Resource:
        """A resource."""
        attributes = {"cidr": "10.9.8.7"} if kind is ResourceKind.NETWORK else {}
        async with self.database.transaction(tenant) as tx:
            return await self.resources.create(tx, SYSTEM, kind, name, attributes)

    async def policy(
        self,
        tenant: UUID,
        name: str,
        principal: UUID,
        resource: UUID,
        *actions: str,
        effect: Effect = Effect.ALLOW,
        conditions: list[dict[str, object]] | None = None,
    ) -> StoredPolicy:
        """A policy."""
        async with self.database.transaction(tenant) as tx:
            return await self.policies.create(
                tx,
                SYSTEM,
                name=name,
                effect=effect,
                principals=[principal],
                resources=[resource],
                actions=actions or ["connect"],
                conditions=conditions or [],
            )

    async def drop_policy(self, tenant: UUID, policy_id: UUID) -> None:
        """Delete a policy."""
        async with self.database.transaction(tenant) as tx:
            await self.policies.remove(tx, SYSTEM, policy_id)
