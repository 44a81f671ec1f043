"""Joins between rooms that are blind to each other, and between rooms and keyd."""

from datetime import datetime
from uuid import UUID

from limen.control.custody.service import KeydClient
from limen.control.devices.service import AgentRegistry
from limen.control.identity.service import IdentityService
from limen.control.policy.model import AccessRequest, SubjectState
from limen.control.policy.service import PolicyAdministrator, PolicyService
from limen.control.resources.service import ResourcesService
from limen.control.tenancy.model import Tenant
from limen.control.vault.model import WorkloadState
from limen.control.vault.service import WorkloadService
from limen.db.database import Tx
from limen.kernel.access import Action, Decision, Grant, Subject, SubjectKind
from limen.kernel.principal import Actor, ActorKind, Role
from limen.wire.keyd import SigningPurpose


class Subjects:
    """People, workloads, groups and devices as the policy room asks for them (``policy.ports.SubjectSource``)."""

    def __init__(self, identity: IdentityService, workloads: WorkloadService, agents: AgentRegistry) -> None:
        self._identity = identity
        self._workloads = workloads
        self._agents = agents

    async def state(self, tx: Tx, subject: Subject) -> SubjectState:
        """Groups and standing of a subject, and whether the device it acts through is enrolled for it."""
        verified = await self._device_verified(tx, subject)
        # An access through a device that is no longer enrolled has lost what it rests on.
        standing = subject.device_id is None or verified
        if subject.kind is SubjectKind.WORKLOAD:
            workload = await self._workloads.state(tx, subject.id)
            return SubjectState(frozenset(), standing and workload is WorkloadState.ACTIVE, verified)
        facts = await self._identity.subject_facts(tx, subject.id, subject.credential_id)
        if facts is None:
            return SubjectState(frozenset(), False, verified)
        return SubjectState(facts.groups, standing and facts.active, verified)

    async def principal_kind(self, tx: Tx, principal_id: UUID) -> str | None:
        """``group``, ``person`` or ``workload``; None when this tenant has none of this id."""
        kind = await self._identity.principal_kind(tx, principal_id)
        if kind is None and await self._workloads.state(tx, principal_id) is not None:
            return "workload"
        return kind

    async def shielded(self, tx: Tx, subject_id: UUID, actor: Actor) -> str:
        """Nobody locks out themselves, and only an owner an owner: a tenant must not lose its last one by a click."""
        if actor.kind is not ActorKind.PERSON or actor.id is None:
            return ""
        if actor.id == subject_id:
            return "you cannot suspend yourself"
        facts = await self._identity.facts_of(tx, [subject_id, actor.id])
        roles = {person_id: found.role for person_id, found in facts.items()}
        if roles.get(subject_id) is Role.OWNER and roles.get(actor.id) is not Role.OWNER:
            return "only an owner can suspend an owner"
        return ""

    async def names(self, tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
        """Display names of the people, groups and workloads among ``ids``."""
        return {**await self._workloads.names(tx, ids), **await self._identity.names(tx, ids)}

    async def _device_verified(self, tx: Tx, subject: Subject) -> bool:
        if subject.device_id is None:
            return False
        agent = await self._agents.active_agent(tx, subject.device_id)
        return agent is not None and agent.person_id == subject.id


class ConsoleGate:
    """Sign-in needs a grant on the tenant's console (``identity.ports.SessionGate``)."""

    def __init__(self, administrator: PolicyAdministrator, resources: ResourcesService) -> None:
        self._administrator = administrator
        self._resources = resources

    async def admit(self, tx: Tx, subject: Subject, source: str, not_after: datetime) -> Grant | Decision:
        """Issue the console grant of this session, or return the denial."""
        console = await self._resources.console(tx)
        request = AccessRequest(subject, console.id, frozenset({Action.SIGN_IN}), source, not_after=not_after)
        return await self._administrator.issue(tx, request)


class TenantBirth:
    """What every tenant is born with: its ``everyone`` group, its console, and the policy that joins them."""

    def __init__(self, identity: IdentityService, policies: PolicyService) -> None:
        self._identity = identity
        self._policies = policies

    async def __call__(self, tx: Tx, _tenant: Tenant) -> None:
        """Run in the transaction that opens the tenant."""
        everyone = await self._identity.directory.create_everyone(tx)
        await self._policies.set_up_tenant(tx, everyone)


class CheckpointSigner:
    """keyd's key for audit checkpoints (``audit.ports.Signer``)."""

    def __init__(self, keyd: KeydClient) -> None:
        self._keyd = keyd

    async def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature."""
        return await self._keyd.sign(SigningPurpose.AUDIT_CHECKPOINT, message)

    async def public_key(self) -> bytes:
        """The raw public key."""
        return await self._keyd.signing_key(SigningPurpose.AUDIT_CHECKPOINT)
