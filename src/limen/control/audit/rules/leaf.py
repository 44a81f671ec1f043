"""The canonical bytes of a record, version 1.

::

    leaf = "LMA1" | tenant (16) | id (16) | at (8, signed, microseconds since 1970 UTC)
         | length of action (2) | action (UTF-8) | one commitment (32) for each of FIELDS, in that order

    commitment = SHA-256(lp("limen.commit", "audit." + field, salt, canonical JSON of the value))

Integers are big-endian; ``lp`` puts each piece after its length in 4 bytes (:mod:`limen.crypto.encoding`).
Canonical JSON is ASCII with ``\\uXXXX`` escapes, keys sorted, no spaces, integers only. Every field is
always committed to, an absent one as ``""``, ``null`` or ``{}``, so that a leaf does not tell which fields
an event had.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from limen.control.audit.model import AuditEvent, DetailValue
from limen.crypto.commitments import commit

MAGIC = b"LMA1"
FIELDS = (
    "outcome",
    "actor_kind",
    "actor_id",
    "source",
    "object_kind",
    "object_id",
    "detail",
    "personal",
)
_LABELS = tuple(f"audit.{name}" for name in FIELDS)
SALT_BYTES = 16
"""128 bits of salt for each field: nobody can guess an erased value by trying."""
SALTS_BYTES = SALT_BYTES * len(FIELDS)

MAX_TEXT_CHARS = 4096
_CUT = "…[cut]"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

Value = str | Mapping[str, DetailValue] | None


@dataclass(frozen=True, slots=True)
class Values:
    """The opened fields of a record, cleaned: what the commitments of its leaf hide."""

    outcome: str
    actor_kind: str
    actor_id: UUID | None
    source: str
    object_kind: str
    object_id: UUID | None
    detail: Mapping[str, DetailValue]
    personal: Mapping[str, str]

    def in_order(self) -> tuple[Value, ...]:
        """The values of FIELDS as they go into canonical JSON."""
        return (
            self.outcome,
            self.actor_kind,
            str(self.actor_id) if self.actor_id else None,
            self.source,
            self.object_kind,
            str(self.object_id) if self.object_id else None,
            self.detail,
            self.personal,
        )


def values_of(event: AuditEvent) -> Values:
    """The fields of ``event`` in storable form: see :func:`clean`.

    Raises:
        ValueError: when a detail is an integer outside 64 bits or of another type; a defect of the caller.
    """
    return Values(
        outcome=str(event.outcome),
        actor_kind=str(event.actor.kind),
        actor_id=event.actor.id,
        source=clean(event.actor.source),
        object_kind=event.object_kind,
        object_id=event.object_id,
        detail={name: _plain(value) for name, value in event.detail.items()},
        personal={name: clean(value) for name, value in event.personal.items()},
    )


def clean(text: str) -> str:
    """Text that PostgreSQL and UTF-8 can hold, at most MAX_TEXT_CHARS long.

    A path or user name comes from a stranger: NUL and lone surrogates are replaced and excess is cut, because
    refusing them would let an attacker act without a record.
    """
    text = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - len(_CUT)] + _CUT


def canonical_json(value: Value) -> bytes:
    """The one encoding of a value that a commitment covers."""
    return _canonical(value).encode("ascii")


def new_salts() -> bytes:
    """Fresh salts for all FIELDS, SALT_BYTES each, in order."""
    return os.urandom(SALTS_BYTES)


def encode(tenant_id: UUID, record_id: UUID, at: datetime, *, action: str, salts: bytes, values: Values) -> bytes:
    """The leaf of one record. ``salts`` are those of :func:`new_salts`."""
    name = action.encode()
    commitments = [
        commit(label, salts[i * SALT_BYTES : (i + 1) * SALT_BYTES], canonical_json(value))
        for i, (label, value) in enumerate(zip(_LABELS, values.in_order(), strict=True))
    ]
    head = MAGIC + tenant_id.bytes + record_id.bytes + microseconds(at).to_bytes(8, "big", signed=True)
    return b"".join((head, len(name).to_bytes(2, "big"), name, *commitments))


def microseconds(at: datetime) -> int:
    """Microseconds since 1970 UTC.

    Raises:
        ValueError: for a datetime without a time zone.
    """
    if at.tzinfo is None:
        raise ValueError("audit times must be aware")
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The inverse of :func:`microseconds`."""
    return _EPOCH + value * _MICROSECOND


def _plain(value: DetailValue) -> DetailValue:
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise ValueError("audit detail must be text, a 64-bit integer, a bool or None")
