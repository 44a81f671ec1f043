"""The JSON shapes that leave Limen: lines of an export, of the checkpoint file, and a checkpoint to keep.

Hashes, keys and signatures are lower-case hex; leaves, salts and lists of hashes are base64; times are
``YYYY-MM-DDTHH:MM:SS.ffffffZ``. One object per line, ASCII, no spaces. ``docs/audit-format.md`` describes
each member; the stand-alone verifier refuses members it does not know.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from limen.control.audit.model import Member, Proof, Seal, SealedStep, SignedCheckpoint
from limen.control.audit.rules.leaf import FIELDS, SALT_BYTES, Values

EXPORT_FORMAT = "limen-audit-export-1"
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

Object = dict[str, Any]


def line(content: Mapping[str, Any]) -> bytes:
    """One line, with its newline."""
    return _encode(content).encode("ascii") + b"\n"


def time_text(at: datetime) -> str:
    """A time at microsecond resolution, always in the same form."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def header(
    tenant_id: UUID, public_key: bytes, at: datetime, *, since: datetime | None, until: datetime | None
) -> Object:
    """The first line of an export."""
    return {
        "type": "header",
        "format": EXPORT_FORMAT,
        "tenant": str(tenant_id),
        "exported_at": time_text(at),
        "since": None if since is None else time_text(since),
        "until": None if until is None else time_text(until),
        "public_key": public_key.hex(),
    }


def seal(content: Seal) -> Object:
    """What a seal's hash covers."""
    return {
        "tenant": str(content.tenant_id),
        "number": content.number,
        "checkpoint": content.checkpoint,
        "before": content.before,
        "count": content.count,
        "first_at": time_text(content.first_at),
        "last_at": time_text(content.last_at),
        "root": content.root.hex(),
        "previous": content.previous.hex(),
    }


def signed(content: SignedCheckpoint) -> Object:
    """What a checkpoint's signature covers, and the signature."""
    checkpoint = content.checkpoint
    return {
        "number": checkpoint.number,
        "at": time_text(checkpoint.at),
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "previous": checkpoint.previous.hex(),
        "key_id": checkpoint.key_id.hex(),
        "signature": content.signature.hex(),
    }


def proof(content: Proof) -> Object:
    """Where a seal stands under its checkpoint's root."""
    return {"index": content.index, "size": content.size, "path": [node.hex() for node in content.path]}


def step(content: SealedStep) -> Object:
    """A seal with its signed checkpoint: also the form of a checkpoint to keep for later comparison."""
    return {"seal": seal(content.seal), "proof": proof(content.proof), "signed": signed(content.signed)}


def seal_line(content: SealedStep, members: Sequence[Member] | None, *, with_checkpoint: bool) -> Object:
    """A seal in an export. ``members`` is None for a seal whose records are outside the wanted window."""
    found: Object = {"type": "seal", "seal": seal(content.seal)}
    if with_checkpoint:
        found |= {"proof": proof(content.proof), "signed": signed(content.signed)}
    if members is not None:
        found["leaves"] = _base64(b"".join(member.leaf_hash for member in members))
    return found


def record_line(number: int, leaf: bytes, opened: tuple[Values, bytes] | None, shown: Mapping[str, str]) -> Object:
    """A record in an export; ``opened`` is its values and their salts, None when they are not shown.

    ``number`` counts the tenant's records from 1; ``shown`` repeats id, time and action of the leaf in
    readable form.
    """
    found: Object = {"type": "record", "number": number, **shown, "leaf": _base64(leaf)}
    if opened is None:
        return found | {"salts": None, "values": None}
    values, salts = opened
    return found | {
        "salts": {name: salts[i * SALT_BYTES : (i + 1) * SALT_BYTES].hex() for i, name in enumerate(FIELDS)},
        "values": dict(zip(FIELDS, values.in_order(), strict=True)),
    }


def end_line(records: int, seals: int) -> Object:
    """The last line of an export: without it, the file was cut."""
    return {"type": "end", "records": records, "seals": seals}


def checkpoint_line(content: SignedCheckpoint, seals: Iterable[tuple[UUID, int, bytes]]) -> Object:
    """One line of the checkpoint file outside the database: the checkpoint and every seal under it."""
    return {
        "signed": signed(content),
        "seals": [{"tenant": str(tenant), "number": number, "hash": digest.hex()} for tenant, number, digest in seals],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
