"""Facts that grants rest on, and what a change of facts did: the content of one outbox row."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class FactKind(StrEnum):
    """What can change under a grant."""

    PERSON = "person"
    GROUP = "group"
    DEVICE = "device"
    CREDENTIAL = "credential"  # sign-in session, vault token, SSH credential
    RESOURCE = "resource"
    POLICY = "policy"
    BLOCK = "block"  # suspension or denial, set or lifted
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Fact:
    """One changed fact. ``FactKind.POLICY`` and ``TENANT`` may concern any grant of the tenant."""

    kind: FactKind
    id: UUID


@dataclass(frozen=True, slots=True)
class RevokedGrant:
    """A grant that ended with this version, as the enforcement points need to know it."""

    id: UUID
    number: int
    door: str
    reason: str
    agent_id: UUID | None
    subject_id: UUID
    credential_id: UUID | None


@dataclass(frozen=True, slots=True)
class Change:
    """One version of a tenant: which facts changed and which grants ended by it."""

    tenant_id: UUID
    version: int
    facts: tuple[Fact, ...]
    revoked: tuple[RevokedGrant, ...]
