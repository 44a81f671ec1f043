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


# One statement, so that a record costs one round trip, however many rows there are.
_INSERT = """
WITH new AS (
    SELECT * FROM unnest(
        %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::uuid[], %s::text[], %s::uuid[],
        %s::bytea[], %s::bytea[], %s::bytea[], %s::jsonb[], %s::bytea[], %s::bytea[]
    ) AS n (id, at, action, outcome, actor_kind, actor_id, object_kind, object_id,
            leaf, leaf_hash, salts, detail, source_tag, sealed)
), leaves AS (
    INSERT INTO audit_leaves
        (tenant_id, at, id, action, outcome, actor_kind, actor_id, object_kind, object_id, leaf)
    SELECT %s, at, id, action, outcome, actor_kind, actor_id, object_kind, object_id, leaf FROM new
), kept AS (
    INSERT INTO audit_values (tenant_id, at, id, salts, detail, source_tag, sealed)
    SELECT %s, at, id, salts, detail, source_tag, sealed FROM new
)
INSERT INTO audit_pending (tenant_id, at, id, leaf_hash) SELECT %s, at, id, leaf_hash FROM new
"""

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
    if not records:
        return
    await tx.execute(
        _INSERT,
        (
            [r.id for r in records],
            [r.at for r in records],
            [r.action for r in records],
            [r.outcome for r in records],
            [r.actor_kind for r in records],
            [r.actor_id for r in records],
            [r.object_kind for r in records],
            [r.object_id for r in records],
            [r.leaf for r in records],
            [r.leaf_hash for r in records],
            [r.salts for r in records],
            [r.detail for r in records],
            [r.source_tag for r in records],
            [r.sealed for r in records],
            tx.tenant_id,
            tx.tenant_id,
            tx.tenant_id,
        ),
    )


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
