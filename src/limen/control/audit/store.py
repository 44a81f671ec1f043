"""The SQL of records: writing and reading. (The SQL of sealing is in :mod:`seal_store`.)"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from limen.control.audit.model import AuditFilter
from limen.db.database import Row, Tx

SEALED_TABLE, SEALED_COLUMN = "audit_values", "sealed"
"""Where the sealed part of a record lives: bound into its ciphertext."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One row to write into the three tables of a record."""

    id: UUID
    at: datetime
    action: str
    outcome: str
    actor_kind: str
    actor_id: UUID | None
    object_kind: str
    object_id: UUID | None
    leaf: bytes
    leaf_hash: bytes
    salts: bytes
    detail: str
    source_tag: bytes | None
    sealed: bytes | None


_NEW = (
    ("id", "uuid"),
    ("at", "timestamptz"),
    ("action", "text"),
    ("outcome", "text"),
    ("actor_kind", "text"),
    ("actor_id", "uuid"),
    ("object_kind", "text"),
    ("object_id", "uuid"),
    ("leaf", "bytea"),
    ("leaf_hash", "bytea"),
    ("salts", "bytea"),
    ("detail", "jsonb"),
    ("source_tag", "bytea"),
    ("sealed", "bytea"),
)
# Three tables in one statement, so that a record costs one round trip. One record travels as plain parameters (half
# the cost of arrays of one), several as arrays, so that the statement stays the same whatever their number.
_ONE = "SELECT " + ", ".join(f"%s::{kind} AS {name}" for name, kind in _NEW)
_SEVERAL = (
    f"SELECT * FROM unnest({', '.join(f'%s::{kind}[]' for _, kind in _NEW)})"  # noqa: S608
    f" AS n ({', '.join(name for name, _ in _NEW)})"
)
_INSERT = """
WITH new AS ({new}), leaves AS (
    INSERT INTO audit_leaves
        (tenant_id, at, id, action, outcome, actor_kind, actor_id, object_kind, object_id, leaf)
    SELECT %s, at, id, action, outcome, actor_kind, actor_id, object_kind, object_id, leaf FROM new
), kept AS (
    INSERT INTO audit_values (tenant_id, at, id, salts, detail, source_tag, sealed)
    SELECT %s, at, id, salts, detail, source_tag, sealed FROM new
)
INSERT INTO audit_pending (tenant_id, at, id, leaf_hash) SELECT %s, at, id, leaf_hash FROM new
"""
_INSERT_ONE, _INSERT_SEVERAL = _INSERT.format(new=_ONE), _INSERT.format(new=_SEVERAL)

_COLUMNS = """
    l.at, l.id, l.action, l.outcome, l.actor_kind, l.actor_id, l.object_kind, l.object_id,
    v.salts, v.detail, v.sealed
"""
_FROM = """
    FROM audit_leaves l
    LEFT JOIN audit_values v ON v.tenant_id = l.tenant_id AND v.at = l.at AND v.id = l.id
"""


async def insert(tx: Tx, records: Sequence[NewRecord]) -> None:
    """Write records with their values and their pending entries, all in one statement."""
    tenant = [tx.tenant_id] * 3
    if len(records) == 1:
        await tx.execute(_INSERT_ONE, [getattr(records[0], name) for name, _ in _NEW] + tenant)
    elif records:
        await tx.execute(_INSERT_SEVERAL, [[getattr(r, name) for r in records] for name, _ in _NEW] + tenant)


async def search(tx: Tx, wanted: AuditFilter, source_tag: bytes | None) -> list[Row]:
    """Records that match, newest first, with their values where these are still kept."""
    clauses = ["l.tenant_id = %s"]
    params: list[Any] = [tx.tenant_id]
    for clause, value in (
        ("l.at >= %s", wanted.since),
        ("l.at < %s", wanted.until),
        ("l.actor_id = %s", wanted.actor_id),
        ("l.action ^@ %s", wanted.action_prefix or None),
        ("l.object_kind = %s", wanted.object_kind or None),
        ("l.object_id = %s", wanted.object_id),
        ("l.outcome = %s", wanted.outcome and str(wanted.outcome)),
        ("v.source_tag = %s", source_tag),
    ):
        if value is not None:
            clauses.append(clause)
            params.append(value)
    if wanted.before is not None:
        clauses.append("(l.at, l.id) < (%s, %s)")
        params.extend(wanted.before)
    params.append(wanted.limit)
    where = " AND ".join(clauses)
    return await tx.fetch(
        f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY l.at DESC, l.id DESC LIMIT %s",
        params,
    )


async def by_members(tx: Tx, ats: Sequence[datetime], ids: Sequence[UUID]) -> list[Row]:
    """The leaves and values of one seal's members (in no particular order; what is gone is missing)."""
    return await tx.fetch(
        f"SELECT l.leaf, {_COLUMNS} {_FROM}"
        " JOIN unnest(%s::timestamptz[], %s::uuid[]) AS m (at, id) ON m.at = l.at AND m.id = l.id"
        " WHERE l.tenant_id = %s",
        (list(ats), list(ids), tx.tenant_id),
    )
