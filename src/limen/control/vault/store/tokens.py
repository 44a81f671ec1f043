"""Rows of vault tokens."""

from datetime import datetime
from uuid import UUID

from limen.control.vault.model import Token
from limen.control.vault.store.standing import COLUMNS, token
from limen.db.database import Tx
from limen.kernel.access import SubjectKind


async def insert(tx: Tx, new: Token, secret_hash: bytes) -> None:
    """Insert a token with the hash of its secret."""
    await tx.execute(
        "INSERT INTO vault_tokens (tenant_id, id, secret_hash, accessor, subject_kind, subject_id, display,"
        " created_at, expires_at, ttl, max_ttl, renewable)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tx.tenant_id,
            new.id,
            secret_hash,
            new.accessor,
            new.subject_kind,
            new.subject_id,
            new.display,
            new.created_at,
            new.expires_at,
            new.ttl,
            new.max_ttl,
            new.renewable,
        ),
    )


async def lock(tx: Tx, token_id: UUID) -> Token | None:
    """One token that is not revoked, locked against other changes."""
    row = await tx.fetch_one(
        f"SELECT {COLUMNS} FROM vault_tokens t"  # noqa: S608
        " WHERE t.tenant_id = %s AND t.id = %s AND t.revoked_at IS NULL FOR UPDATE",
        (tx.tenant_id, token_id),
    )
    return token(row) if row else None


async def set_expiry(tx: Tx, token_id: UUID, expires_at: datetime) -> None:
    """Move a token's end."""
    await tx.execute(
        "UPDATE vault_tokens SET expires_at = %s WHERE tenant_id = %s AND id = %s",
        (expires_at, tx.tenant_id, token_id),
    )


async def revoke(tx: Tx, token_id: UUID, now: datetime) -> bool:
    """Revoke a token; False when it is unknown or revoked already."""
    count = await tx.execute(
        "UPDATE vault_tokens SET revoked_at = %s WHERE tenant_id = %s AND id = %s AND revoked_at IS NULL",
        (now, tx.tenant_id, token_id),
    )
    return count == 1


async def revoke_of(tx: Tx, subject_id: UUID, now: datetime) -> list[UUID]:
    """Revoke every token of a subject that is not over; their ids."""
    rows = await tx.fetch(
        "UPDATE vault_tokens SET revoked_at = %s WHERE tenant_id = %s AND subject_id = %s AND revoked_at IS NULL"
        " AND expires_at > %s RETURNING id",
        (now, tx.tenant_id, subject_id, now),
    )
    return [row["id"] for row in rows]


async def live_of(tx: Tx, kind: SubjectKind, subject_id: UUID, now: datetime) -> list[Token]:
    """The tokens of a subject that are good at ``now``, newest first."""
    rows = await tx.fetch(
        f"SELECT {COLUMNS} FROM vault_tokens t"  # noqa: S608
        " WHERE t.tenant_id = %s AND t.subject_kind = %s AND t.subject_id = %s AND t.revoked_at IS NULL"
        " AND t.expires_at > %s ORDER BY t.id DESC",
        (tx.tenant_id, kind, subject_id, now),
    )
    return [token(row) for row in rows]
