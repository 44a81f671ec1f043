"""The SQL of sealing: what waits, where the chains stand, and the rows of a step."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from limen.control.audit.model import Checkpoint, Member, Proof, Seal, SealedStep, SignedCheckpoint
from limen.control.audit.rules.chain import ChainHead, PlannedSeal, Step, TenantHead, pack_members
from limen.db.database import Row, SystemTx, Tx

_SEALER_LOCK = 0x4C696D656E_5EA1  # "Limen seal": one sealer at a time in one database

_SEAL = "number, checkpoint, before, count, first_at, last_at, root, previous"
_PROOF = "proof_index, proof_size, proof_path"
_SIGNED = "c.at, c.size, c.root AS c_root, c.previous AS c_previous, c.key_id, c.signature"
_STEP = (
    "s.number, s.checkpoint, s.before, s.count, s.first_at, s.last_at, s.root, s.previous,"
    f" s.{_PROOF.replace(', ', ', s.')}, {_SIGNED}"
)
_CHECKPOINT = "number, at, size, root, previous, key_id, signature"


async def lock(tx: SystemTx) -> None:
    """Wait until no other sealer is at work; held until the transaction ends.

    The primary keys alone would keep the chains right; the lock only spares sealers from failing on them.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(%s)", [_SEALER_LOCK])


async def take_pending(tx: SystemTx, *, limit: int, per_tenant: int) -> list[tuple[UUID, Member]]:
    """Delete and return the oldest visible entries, at most ``per_tenant`` of each tenant.

    An entry whose transaction has not committed is not visible and waits for the next step.
    """
    rows = await tx.fetch(
        """
        WITH oldest AS (
            SELECT tenant_id, at, id FROM audit_pending ORDER BY at, id LIMIT %s
        ), ranked AS (
            SELECT tenant_id, at, id,
                   row_number() OVER (PARTITION BY tenant_id ORDER BY at, id) AS place
            FROM oldest
        )
        DELETE FROM audit_pending p USING ranked r
        WHERE r.place <= %s AND p.tenant_id = r.tenant_id AND p.at = r.at AND p.id = r.id
        RETURNING p.tenant_id, p.at, p.id, p.leaf_hash
        """,
        [limit, per_tenant],
    )
    return [(row["tenant_id"], Member(row["at"], row["id"], row["leaf_hash"])) for row in rows]


async def chain_head(tx: SystemTx) -> ChainHead:
    """The last checkpoint."""
    row = await tx.fetch_one("SELECT number, at, hash FROM audit_checkpoints ORDER BY number DESC LIMIT 1")
    return ChainHead() if row is None else ChainHead(row["number"], row["at"], row["hash"])


async def tenant_heads(tx: SystemTx, tenants: Sequence[UUID]) -> dict[UUID, TenantHead]:
    """The last seal of each of ``tenants`` that has one."""
    rows = await tx.fetch(
        """
        SELECT t.id AS tenant_id, s.number, s.before, s.count, s.hash
        FROM unnest(%s::uuid[]) AS t (id)
        CROSS JOIN LATERAL (
            SELECT number, before, count, hash FROM audit_seals
            WHERE tenant_id = t.id ORDER BY number DESC LIMIT 1
        ) AS s
        """,
        [list(tenants)],
    )
    return {row["tenant_id"]: TenantHead(row["number"], row["before"] + row["count"], row["hash"]) for row in rows}


async def insert_step(tx: SystemTx, step: Step, checkpoint_hash: bytes, signature: bytes) -> None:
    """Write a signed checkpoint and its seals."""
    checkpoint = step.checkpoint
    await tx.execute(
        "INSERT INTO audit_checkpoints (number, at, size, root, previous, key_id, hash, signature)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            checkpoint.number,
            checkpoint.at,
            checkpoint.size,
            checkpoint.root,
            checkpoint.previous,
            checkpoint.key_id,
            checkpoint_hash,
            signature,
        ],
    )
    await tx.execute_many(
        f"INSERT INTO audit_seals (tenant_id, hash, members, {_SEAL}, {_PROOF})"  # noqa: S608
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [_seal_row(planned) for planned in step.seals],
    )


async def checkpoints_after(tx: SystemTx, number: int, limit: int) -> list[SignedCheckpoint]:
    """Checkpoints beyond ``number``, in order."""
    rows = await tx.fetch(
        f"SELECT {_CHECKPOINT} FROM audit_checkpoints"  # noqa: S608
        " WHERE number > %s ORDER BY number LIMIT %s",
        [number, limit],
    )
    return [_checkpoint(row) for row in rows]


async def checkpoint(tx: SystemTx, number: int) -> SignedCheckpoint | None:
    """One checkpoint, if it exists."""
    row = await tx.fetch_one(
        f"SELECT {_CHECKPOINT} FROM audit_checkpoints WHERE number = %s",  # noqa: S608
        [number],
    )
    return None if row is None else _checkpoint(row)


async def seal_hashes(tx: SystemTx, first: int, last: int) -> dict[int, list[tuple[UUID, int, bytes]]]:
    """The seals under each checkpoint from ``first`` to ``last``: (tenant, number, hash) in order of tenant id."""
    rows = await tx.fetch(
        "SELECT checkpoint, tenant_id, number, hash FROM audit_seals WHERE checkpoint BETWEEN %s AND %s",
        [first, last],
    )
    found: dict[int, list[tuple[UUID, int, bytes]]] = {}
    for row in sorted(rows, key=lambda r: r["tenant_id"].bytes):
        found.setdefault(row["checkpoint"], []).append((row["tenant_id"], row["number"], row["hash"]))
    return found


async def steps(tx: Tx, *, after: int, limit: int) -> list[SealedStep]:
    """A tenant's seals with numbers beyond ``after``, in order, with their checkpoints."""
    rows = await tx.fetch(
        f"SELECT {_STEP} FROM audit_seals s JOIN audit_checkpoints c ON c.number = s.checkpoint"  # noqa: S608
        " WHERE s.tenant_id = %s AND s.number > %s ORDER BY s.number LIMIT %s",
        [tx.tenant_id, after, limit],
    )
    return [_step(tx.tenant_id, row) for row in rows]


async def latest_steps(tx: Tx, limit: int) -> list[SealedStep]:
    """A tenant's newest seals, newest first, with their checkpoints."""
    rows = await tx.fetch(
        f"SELECT {_STEP} FROM audit_seals s JOIN audit_checkpoints c ON c.number = s.checkpoint"  # noqa: S608
        " WHERE s.tenant_id = %s ORDER BY s.number DESC LIMIT %s",
        [tx.tenant_id, limit],
    )
    return [_step(tx.tenant_id, row) for row in rows]


async def packed_members(tx: Tx, number: int) -> bytes:
    """The members of one of the tenant's seals, packed."""
    row = await tx.fetch_one(
        "SELECT members FROM audit_seals WHERE tenant_id = %s AND number = %s", [tx.tenant_id, number]
    )
    return b"" if row is None else bytes(row["members"])


def _seal_row(planned: PlannedSeal) -> tuple[UUID | bytes | int | datetime, ...]:
    seal, proof = planned.seal, planned.proof
    return (
        seal.tenant_id,
        planned.hash,
        pack_members(planned.members),
        seal.number,
        seal.checkpoint,
        seal.before,
        seal.count,
        seal.first_at,
        seal.last_at,
        seal.root,
        seal.previous,
        proof.index,
        proof.size,
        b"".join(proof.path),
    )


def _checkpoint(row: Row, prefix: str = "") -> SignedCheckpoint:
    return SignedCheckpoint(
        Checkpoint(
            number=row["checkpoint"] if prefix else row["number"],
            at=row["at"],
            size=row["size"],
            root=row[f"{prefix}root"],
            previous=row[f"{prefix}previous"],
            key_id=row["key_id"],
        ),
        row["signature"],
    )


def _step(tenant_id: UUID, row: Row) -> SealedStep:
    seal = Seal(
        tenant_id=tenant_id,
        number=row["number"],
        checkpoint=row["checkpoint"],
        before=row["before"],
        count=row["count"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        root=row["root"],
        previous=row["previous"],
    )
    packed = row["proof_path"]
    path = tuple(packed[i : i + 32] for i in range(0, len(packed), 32))
    return SealedStep(seal, Proof(row["proof_index"], row["proof_size"], path), _checkpoint(row, "c_"))
