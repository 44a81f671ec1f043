"""Rows of workloads."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from limen.control.vault.model import Workload, WorkloadState
from limen.db.database import Row, Tx

_COLUMNS = "id, name, state, created_at"


async def insert(tx: Tx, new: Workload) -> bool:
    """Insert a workload; False when an active one has the name."""
    count = await tx.execute(
        "INSERT INTO workloads (tenant_id, id, name, state, created_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (tenant_id, name_lc) WHERE state = 'active' DO NOTHING",
        (tx.tenant_id, new.id, new.name, new.state, new.created_at),
    )
    return count == 1


async def find(tx: Tx, workload_id: UUID) -> Workload | None:
    """One workload, removed or not."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM workloads WHERE tenant_id = %s AND id = %s",  # noqa: S608
        (tx.tenant_id, workload_id),
    )
    return _workload(row) if row else None


async def find_many(tx: Tx, ids: Iterable[UUID]) -> list[Workload]:
    """The workloads among ``ids``."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM workloads WHERE tenant_id = %s AND id = ANY (%s)",  # noqa: S608
        (tx.tenant_id, list(ids)),
    )
    return [_workload(row) for row in rows]


async def list_active(tx: Tx) -> list[Workload]:
    """The active workloads by name."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM workloads WHERE tenant_id = %s AND state = 'active' ORDER BY name_lc",  # noqa: S608
        (tx.tenant_id,),
    )
    return [_workload(row) for row in rows]


async def remove(tx: Tx, workload_id: UUID, now: datetime) -> bool:
    """Mark a workload removed; False when it is unknown or removed already."""
    count = await tx.execute(
        "UPDATE workloads SET state = 'removed', removed_at = %s WHERE tenant_id = %s AND id = %s AND state = 'active'",
        (now, tx.tenant_id, workload_id),
    )
    return count == 1


def _workload(row: Row) -> Workload:
    return Workload(row["id"], row["name"], WorkloadState(row["state"]), row["created_at"])
