"""The only SQL of the grants room."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from limen.control.grants.model import Block, CutReceipt, GrantRecord
from limen.db.database import Row, Tx
from limen.kernel.access import Action, Grant, GrantState, ResourceKind, Subject, SubjectKind

_COLUMNS = (
    "tenant_id, id, number, subject_kind, subject_id, device_id, credential_id, resource_id, resource_kind,"
    " actions, policy_id, version, agent_id, issued_at, expires_at, state, ended_at, ended_reason"
)


def _record(row: Row) -> GrantRecord:
    grant = Grant(
        id=row["id"],
        number=row["number"],
        subject=Subject(
            tenant_id=row["tenant_id"],
            kind=SubjectKind(row["subject_kind"]),
            id=row["subject_id"],
            device_id=row["device_id"],
            credential_id=row["credential_id"],
        ),
        resource_id=row["resource_id"],
        resource_kind=ResourceKind(row["resource_kind"]),
        actions=frozenset(Action(action) for action in row["actions"]),
        policy_id=row["policy_id"],
        version=row["version"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        agent_id=row["agent_id"],
    )
    return GrantRecord(grant, GrantState(row["state"]), row["ended_at"], row["ended_reason"])


async def insert(tx: Tx, grant: Grant, source: bytes | None) -> bool:
    """Write a live grant; False when its number is taken in this tenant."""
    subject = grant.subject
    count = await tx.execute(
        "INSERT INTO grants (tenant_id, id, number, subject_kind, subject_id, device_id, credential_id, resource_id,"
        " resource_kind, actions, policy_id, version, agent_id, source, issued_at, expires_at, state)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'live')"
        " ON CONFLICT (tenant_id, number) DO NOTHING",
        (
            tx.tenant_id,
            grant.id,
            grant.number,
            subject.kind,
            subject.id,
            subject.device_id,
            subject.credential_id,
            grant.resource_id,
            grant.resource_kind,
            sorted(grant.actions),
            grant.policy_id,
            grant.version,
            grant.agent_id,
            source,
            grant.issued_at,
            grant.expires_at,
        ),
    )
    return count == 1


async def find(tx: Tx, grant_id: UUID) -> GrantRecord | None:
    """One grant, whatever its state."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND id = %s",  # noqa: S608
        (tx.tenant_id, grant_id),
    )
    return _record(row) if row else None


async def source_of(tx: Tx, grant_id: UUID) -> bytes | None:
    """The sealed source address of a grant."""
    row = await tx.fetch_one("SELECT source FROM grants WHERE tenant_id = %s AND id = %s", (tx.tenant_id, grant_id))
    return row["source"] if row else None


async def live(
    tx: Tx,
    *,
    subjects: Sequence[UUID] | None = None,
    credentials: Sequence[UUID] | None = None,
    devices: Sequence[UUID] | None = None,
    resources: Sequence[UUID] | None = None,
) -> list[GrantRecord]:
    """Live grants that match any of the given filters; all live grants of the tenant when none is given."""
    filters = {
        "subject_id": subjects,
        "credential_id": credentials,
        "device_id": devices,
        "resource_id": resources,
    }
    given = {column: list(ids) for column, ids in filters.items() if ids is not None}
    clause = " OR ".join(f"{column} = ANY(%s)" for column in given) or "true"
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND state = 'live' AND ({clause}) ORDER BY id",  # noqa: S608
        (tx.tenant_id, *given.values()),
    )
    return [_record(row) for row in rows]


async def live_of_agent(tx: Tx, agent_id: UUID, now: datetime) -> list[GrantRecord]:
    """The unexpired live grants that an enforcement point holds."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND agent_id = %s AND state = 'live'"  # noqa: S608
        " AND expires_at > %s ORDER BY id",
        (tx.tenant_id, agent_id, now),
    )
    return [_record(row) for row in rows]


async def live_twin(tx: Tx, subject: Subject, resource_id: UUID, agent_id: UUID | None) -> list[GrantRecord]:
    """Live grants of exactly this subject, device, credential, resource and enforcement point."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND subject_id = %s AND resource_id = %s"  # noqa: S608
        " AND state = 'live' AND device_id IS NOT DISTINCT FROM %s AND credential_id IS NOT DISTINCT FROM %s"
        " AND agent_id IS NOT DISTINCT FROM %s ORDER BY expires_at DESC",
        (tx.tenant_id, subject.id, resource_id, subject.device_id, subject.credential_id, agent_id),
    )
    return [_record(row) for row in rows]


async def newest(tx: Tx, limit: int, *, live_only: bool) -> list[GrantRecord]:
    """The newest grants, newest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND (NOT %s OR state = 'live')"  # noqa: S608
        " ORDER BY id DESC LIMIT %s",
        (tx.tenant_id, live_only, limit),
    )
    return [_record(row) for row in rows]


async def finish(tx: Tx, grant_id: UUID, state: GrantState, reason: str, now: datetime) -> bool:
    """Take a grant out of ``live``; False when it has left already."""
    count = await tx.execute(
        "UPDATE grants SET state = %s, ended_at = %s, ended_reason = %s"
        " WHERE tenant_id = %s AND id = %s AND state = 'live'",
        (state, now, reason, tx.tenant_id, grant_id),
    )
    return count == 1


async def overdue(tx: Tx, now: datetime) -> list[GrantRecord]:
    """Live grants whose time has come."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM grants WHERE tenant_id = %s AND state = 'live' AND expires_at <= %s",  # noqa: S608
        (tx.tenant_id, now),
    )
    return [_record(row) for row in rows]


async def insert_receipt(tx: Tx, receipt: CutReceipt, now: datetime) -> bool:
    """Write a receipt; False when there is one for this grant already."""
    count = await tx.execute(
        "INSERT INTO receipts (tenant_id, grant_id, agent_id, reason, cut_at, last_byte_at, bytes_in, bytes_out,"
        " received_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, grant_id) DO NOTHING",
        (
            tx.tenant_id,
            receipt.grant_id,
            receipt.agent_id,
            receipt.reason,
            receipt.cut_at,
            receipt.last_byte_at,
            receipt.bytes_in,
            receipt.bytes_out,
            now,
        ),
    )
    return count == 1


async def blocks_on(tx: Tx, subject_id: UUID) -> list[Block]:
    """The blocks in force on a subject."""
    rows = await tx.fetch(
        "SELECT id, subject_id, resource_id, reason, set_at FROM blocks"
        " WHERE tenant_id = %s AND subject_id = %s AND lifted_at IS NULL",
        (tx.tenant_id, subject_id),
    )
    return [Block(**row) for row in rows]


async def all_blocks(tx: Tx) -> list[Block]:
    """All blocks in force, newest first."""
    rows = await tx.fetch(
        "SELECT id, subject_id, resource_id, reason, set_at FROM blocks"
        " WHERE tenant_id = %s AND lifted_at IS NULL ORDER BY id DESC",
        (tx.tenant_id,),
    )
    return [Block(**row) for row in rows]


async def insert_block(tx: Tx, block: Block, set_by: UUID | None) -> bool:
    """Set a block; False when the same one is in force."""
    count = await tx.execute(
        "INSERT INTO blocks (tenant_id, id, subject_id, resource_id, reason, set_by, set_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (tx.tenant_id, block.id, block.subject_id, block.resource_id, block.reason, set_by, block.set_at),
    )
    return count == 1


async def lift_blocks(
    tx: Tx, subject_id: UUID, lifted_by: UUID | None, now: datetime, *, resource_id: UUID | None
) -> int:
    """Lift the suspension of a subject (``resource_id`` None) or its denial of one resource; how many."""
    return await tx.execute(
        "UPDATE blocks SET lifted_at = %s, lifted_by = %s WHERE tenant_id = %s AND subject_id = %s"
        " AND resource_id IS NOT DISTINCT FROM %s AND lifted_at IS NULL",
        (now, lifted_by, tx.tenant_id, subject_id, resource_id),
    )
