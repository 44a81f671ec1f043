"""What the audit trail speaks of: events, records, seals, checkpoints. Frozen values, no behaviour but
validation.

Times are aware datetimes in UTC at microsecond resolution.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limen.kernel.principal import Actor, ActorKind

DetailValue = str | int | bool | None
"""Types of plain detail. No floats: their text form is not the same everywhere."""

_ACTION = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*){2}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OBJECT_KIND = re.compile(r"([a-z][a-z0-9_-]{0,62})?")
MAX_ACTION_CHARS = 100


class Outcome(StrEnum):
    """How an act came out."""

    OK = "ok"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One act worth remembering.

    ``action`` is a tag ``room.object.action``. ``detail`` is stored in the clear: no personal data, no
    address, no secret. ``personal`` (e-mail, paths, names) and the actor's source address are sealed under
    the tenant's key. Over-long text is cut when it is recorded, so that no input can prevent its own
    record.

    Raises:
        ValueError: when a tag or a key breaks its form; that is a defect of the calling code.
    """

    action: str
    outcome: Outcome
    actor: Actor
    object_kind: str = ""
    object_id: UUID | None = None
    detail: Mapping[str, DetailValue] = field(default_factory=dict)
    personal: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ACTION.fullmatch(self.action) or len(self.action) > MAX_ACTION_CHARS:
            raise ValueError(f"audit action is not of the form room.object.action: {self.action!r}")
        if not _OBJECT_KIND.fullmatch(self.object_kind):
            raise ValueError(f"audit object kind is not a tag: {self.object_kind!r}")
        for name in (*self.detail, *self.personal):
            if not _NAME.fullmatch(name):
                raise ValueError(f"audit detail has a bad name: {name!r}")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A record as a reader sees it.

    ``source`` and ``personal`` are None when they were not opened or have been erased; ``erased`` says that
    the side table no longer holds the values (the leaf and its proof stand).
    """

    id: UUID
    at: datetime
    action: str
    outcome: Outcome
    actor_kind: ActorKind
    actor_id: UUID | None
    object_kind: str
    object_id: UUID | None
    detail: Mapping[str, DetailValue]
    source: str | None
    personal: Mapping[str, str] | None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records to read, newest first. ``since`` is inclusive, ``until`` exclusive; ``limit`` is
    1..1000.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor_id: UUID | None = None
    action_prefix: str = ""
    object_kind: str = ""
    object_id: UUID | None = None
    outcome: Outcome | None = None
    source: str = ""
    before: tuple[datetime, UUID] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Member:
    """One leaf as a seal names it: when, which, and the RFC 6962 hash of its bytes."""

    at: datetime
    id: UUID
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """One batch of a tenant's leaves.

    ``number`` counts from 1 without gaps; ``before`` is how many leaves the earlier seals hold;
    ``first_at`` and ``last_at`` bound the times of the leaves; ``root`` is the RFC 6962 root over them in
    order; ``previous`` is the hash of the seal before (32 zero bytes for the first); ``checkpoint`` the
    number of its checkpoint.
    """

    tenant_id: UUID
    number: int
    checkpoint: int
    before: int
    count: int
    first_at: datetime
    last_at: datetime
    root: bytes
    previous: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a seal stands in its checkpoint: number ``index`` of ``size``, with the audit path to the root."""

    index: int
    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One signed step of the whole installation's chain.

    ``root`` is the RFC 6962 root over the hashes of the ``size`` seals made in this step, in order of
    tenant id; ``previous`` the hash of the checkpoint before (32 zero bytes for the first); ``key_id`` the
    first 8 bytes of the SHA-256 of the raw public key that signs it.
    """

    number: int
    at: datetime
    size: int
    root: bytes
    previous: bytes
    key_id: bytes


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and its Ed25519 signature (64 bytes) for the purpose ``audit-checkpoint``."""

    checkpoint: Checkpoint
    signature: bytes


@dataclass(frozen=True, slots=True)
class SealedStep:
    """A seal with the checkpoint that signs it and the proof that joins the two."""

    seal: Seal
    proof: Proof
    signed: SignedCheckpoint
