"""Sessions. The check joins the grants ledger, so that one round trip answers for every cause of an end."""

from datetime import datetime
from uuid import UUID

from limen.control.identity.model import Session, SessionKind, SignInMethod
from limen.db.database import Database, Row, Tx

_ALIVE = """
SELECT s.person_id, s.kind, s.expires_at, p.role
FROM sessions s JOIN people p ON p.tenant_id = s.tenant_id AND p.id = s.person_id
WHERE s.tenant_id = %s AND s.id = %s AND s.ended_at IS NULL AND s.expires_at > %s AND p.state = 'active'
  AND EXISTS (SELECT FROM grants g WHERE g.tenant_id = s.tenant_id AND g.credential_id = s.id
              AND g.resource_kind = 'console' AND g.state = 'live' AND g.expires_at > %s)"""


async def find_alive(database: Database, tenant_id: UUID, session_id: UUID, now: datetime) -> Row | None:
    """Person, kind, role and expiry of a session that may be used right now; one round trip."""
    rows = await database.query(tenant_id, _ALIVE, (tenant_id, session_id, now, now))
    return rows[0] if rows else None


async def insert_session(tx: Tx, session: Session) -> None:
    """Insert an open session."""
    cipher = await tx.cipher()
    await tx.execute(
        "INSERT INTO sessions (tenant_id, id, person_id, kind, method, source_tag, source_sealed,"
        " created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tx.tenant_id,
            session.id,
            session.person_id,
            session.kind.value,
            session.method.value,
            cipher.tag("address", session.source),
            cipher.seal("sessions", "source_sealed", session.id, session.source.encode()),
            session.created_at,
            session.expires_at,
        ),
    )


async def set_expiry(tx: Tx, session_id: UUID, expires_at: datetime) -> None:
    """Shorten a session to what its grant allows."""
    await tx.execute(
        "UPDATE sessions SET expires_at = %s WHERE tenant_id = %s AND id = %s", (expires_at, tx.tenant_id, session_id)
    )


async def end(tx: Tx, session_id: UUID, reason: str, now: datetime) -> UUID | None:
    """End one open session; return whose it was, ``None`` when there is no such open session."""
    row = await tx.fetch_one(
        "UPDATE sessions SET ended_at = %s, ended_reason = %s"
        " WHERE tenant_id = %s AND id = %s AND ended_at IS NULL RETURNING person_id",
        (now, reason, tx.tenant_id, session_id),
    )
    person_id: UUID | None = row["person_id"] if row is not None else None
    return person_id


async def end_all(tx: Tx, person_id: UUID, reason: str, now: datetime, keep: UUID | None = None) -> list[UUID]:
    """End every open session of a person but ``keep``; return their ids."""
    rows = await tx.fetch(
        "UPDATE sessions SET ended_at = %s, ended_reason = %s WHERE tenant_id = %s AND person_id = %s"
        " AND ended_at IS NULL AND id IS DISTINCT FROM %s RETURNING id",
        (now, reason, tx.tenant_id, person_id, keep),
    )
    return [row["id"] for row in rows]


async def find_owner(tx: Tx, session_id: UUID) -> UUID | None:
    """Whose open session it is."""
    row = await tx.fetch_one(
        "SELECT person_id FROM sessions WHERE tenant_id = %s AND id = %s AND ended_at IS NULL",
        (tx.tenant_id, session_id),
    )
    person_id: UUID | None = row["person_id"] if row is not None else None
    return person_id


async def list_open(tx: Tx, person_id: UUID | None, now: datetime) -> list[Session]:
    """Sessions that are open and whose grant lives; of one person or of all."""
    rows = await tx.fetch(
        "SELECT s.id, s.person_id, s.kind, s.method, s.source_sealed, s.created_at, s.expires_at FROM sessions s"
        " WHERE s.tenant_id = %s AND s.ended_at IS NULL AND s.expires_at > %s"
        " AND (%s::uuid IS NULL OR s.person_id = %s) AND EXISTS (SELECT FROM grants g WHERE"
        " g.tenant_id = s.tenant_id AND g.credential_id = s.id AND g.resource_kind = 'console'"
        " AND g.state = 'live' AND g.expires_at > %s) ORDER BY s.id",
        (tx.tenant_id, now, person_id, person_id, now),
    )
    cipher = await tx.cipher()
    return [
        Session(
            id=row["id"],
            person_id=row["person_id"],
            kind=SessionKind(row["kind"]),
            method=SignInMethod(row["method"]),
            source=cipher.open("sessions", "source_sealed", row["id"], row["source_sealed"]).decode(),
            created_at=row["created_at"],
            expires_at=row["expires_at"],
        )
        for row in rows
    ]
