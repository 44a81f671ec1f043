"""Subject, Resource, Action, Decision, Grant: the one idea of Limen as types.

A subject asks for actions on a resource; the engine answers with a Decision; an allowing Decision becomes a
Grant; an enforcement point opens exactly the Grant. Terms: NIST SP 800-207 (subject, resource, enforcement
point), SP 800-162 (action, environment).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SubjectKind(StrEnum):
    """Who can hold a grant."""

    PERSON = "person"
    WORKLOAD = "workload"


class ResourceKind(StrEnum):
    """What can be granted; each kind has one door."""

    NETWORK = "network"
    BUCKET = "bucket"
    VAULT = "vault"
    CONSOLE = "console"


class Door(StrEnum):
    """Which enforcement point opens a grant."""

    NETWORK = "network"
    FILES = "files"
    VAULT = "vault"
    CONSOLE = "console"


class Action(StrEnum):
    """The closed set of actions a policy can name."""

    CONNECT = "connect"
    READ = "read"
    WRITE = "write"
    LIST = "list"
    DELETE = "delete"
    SIGN_IN = "sign-in"


ACTIONS_OF_KIND: dict[ResourceKind, frozenset[Action]] = {
    ResourceKind.NETWORK: frozenset({Action.CONNECT}),
    ResourceKind.BUCKET: frozenset({Action.READ, Action.WRITE, Action.LIST, Action.DELETE}),
    ResourceKind.VAULT: frozenset({Action.READ, Action.WRITE, Action.LIST, Action.DELETE}),
    ResourceKind.CONSOLE: frozenset({Action.SIGN_IN}),
}

DOOR_OF_KIND: dict[ResourceKind, Door] = {
    ResourceKind.NETWORK: Door.NETWORK,
    ResourceKind.BUCKET: Door.FILES,
    ResourceKind.VAULT: Door.VAULT,
    ResourceKind.CONSOLE: Door.CONSOLE,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A person or workload, with the device and credential it acts through.

    ``credential_id`` is the sign-in session, vault token or SSH credential the request came with: when that
    ends, every grant that was issued through it ends.
    """

    tenant_id: UUID
    kind: SubjectKind
    id: UUID
    device_id: UUID | None = None
    credential_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """How one typed condition of a policy came out, in words a person can act on."""

    kind: str
    holds: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The engine's answer. ``expires_at`` is absolute and the minimum over all that limits it (UTC)."""

    allowed: bool
    reason: str
    policy_id: UUID | None
    conditions: tuple[ConditionResult, ...]
    expires_at: datetime | None
    version: int


class GrantState(StrEnum):
    """A grant is live until exactly one of the other states is reached; no state is left again."""

    LIVE = "live"
    REVOKED = "revoked"
    EXPIRED = "expired"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Grant:
    """A narrow, short-lived, continuously re-decided authorization.

    ``number`` (1..2**32-1) is the grant's name in a packet mark; it starts at random and is unique among the
    live grants of a tenant. ``agent_id`` is the enforcement point that opens it, ``None`` for the doors that
    the control plane itself enforces (vault, console).
    """

    id: UUID
    number: int
    subject: Subject
    resource_id: UUID
    resource_kind: ResourceKind
    actions: frozenset[Action]
    policy_id: UUID
    version: int
    issued_at: datetime
    expires_at: datetime
    agent_id: UUID | None = None
