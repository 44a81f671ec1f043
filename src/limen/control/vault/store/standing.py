"""Where a request stands, in one round trip: token, tenant, subject, suspension, mount, live grant, and what it
wants to read.

This statement reads rows of rooms below by name (tenants, people, blocks, resources, grants), because asking each
room in turn would cost five round trips on every request of the hottest door. It only reads, and it fails closed:
what is not found is not allowed.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.control.vault.model import Presented, Token, Version
from limen.control.vault.rules.tokens import Standing
from limen.db.database import Database, Row, Tx
from limen.kernel.access import Action, SubjectKind

COLUMNS = """
    t.tenant_id, t.id, t.accessor, t.subject_kind, t.subject_id, t.display, t.created_at, t.expires_at, t.ttl,
    t.max_ttl, t.renewable, t.revoked_at
"""

_STANDING = f"""
    {COLUMNS}, t.secret_hash, n.slug, n.state = 'active' AS tenant_active,
    CASE t.subject_kind
        WHEN 'person' THEN EXISTS (SELECT 1 FROM people p
            WHERE p.tenant_id = t.tenant_id AND p.id = t.subject_id AND p.state = 'active')
        ELSE EXISTS (SELECT 1 FROM workloads w
            WHERE w.tenant_id = t.tenant_id AND w.id = t.subject_id AND w.state = 'active')
    END AS subject_active,
    EXISTS (SELECT 1 FROM blocks b WHERE b.tenant_id = t.tenant_id AND b.subject_id = t.subject_id
        AND b.resource_id IS NULL AND b.lifted_at IS NULL) AS suspended
"""  # noqa: S608 - constants only
_FROM = "FROM vault_tokens t JOIN tenants n ON n.id = t.tenant_id"
_WITH_GRANT = """
    LEFT JOIN resources r ON r.tenant_id = t.tenant_id AND r.kind = 'vault' AND r.name_lc = lower(%(mount)s)
        AND r.name = %(mount)s
    LEFT JOIN LATERAL (
        SELECT g.id FROM grants g
        WHERE g.tenant_id = t.tenant_id AND g.credential_id = t.id AND g.resource_id = r.id AND g.state = 'live'
            AND g.expires_at > %(now)s AND %(action)s = ANY (g.actions)
        ORDER BY g.expires_at DESC LIMIT 1
    ) g ON true
"""
_WITH_VERSION = """
    LEFT JOIN vault_secrets s ON s.tenant_id = t.tenant_id AND s.mount_id = r.id AND s.path = %(path)s
    LEFT JOIN vault_versions v ON v.tenant_id = t.tenant_id AND v.secret_id = s.id
        AND v.version = CASE WHEN %(version)s > 0 THEN %(version)s ELSE s.current_version END
"""
_WHERE = "WHERE t.tenant_id = %(tenant)s AND t.id = %(id)s"

_BEARER = f"SELECT {_STANDING} {_FROM} {_WHERE}"
_PASSAGE = f"SELECT {_STANDING}, r.id AS mount_id, g.id AS grant_id {_FROM} {_WITH_GRANT} {_WHERE}"
_READING = f"""
    SELECT {_STANDING}, r.id AS mount_id, g.id AS grant_id, s.id AS secret_id, s.custom_metadata, v.version, v.blob,
        v.created_at AS version_created_at, v.deletion_time, v.destroyed
    {_FROM} {_WITH_GRANT} {_WITH_VERSION} {_WHERE}
"""

_LIVE = """
    SELECT id FROM grants WHERE tenant_id = %s AND id = ANY (%s) AND state = 'live' AND expires_at > %s
"""
_HOLD = """
    SELECT id FROM grants WHERE tenant_id = %s AND id = %s AND state = 'live' AND expires_at > %s FOR SHARE
"""


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A version as stored: still sealed."""

    secret_id: UUID
    version: Version
    custom_metadata: bytes | None
    blob: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """What one request asked for, as the database has it now."""

    standing: Standing
    mount_id: UUID | None = None
    grant_id: UUID | None = None
    reading: StoredReading | None = None


async def bearer(database: Database, presented: Presented) -> Place | None:
    """The token alone; None when the tenant has no such token."""
    rows = await database.query(presented.tenant_id, _BEARER, {"tenant": presented.tenant_id, "id": presented.id})
    return Place(_standing(rows[0])) if rows else None


async def passage(database: Database, presented: Presented, mount: str, action: Action, now: datetime) -> Place | None:
    """The token, and the live grant of ``action`` on the mount of that name."""
    rows = await database.query(
        presented.tenant_id,
        _PASSAGE,
        {"tenant": presented.tenant_id, "id": presented.id, "mount": mount, "action": action, "now": now},
    )
    return Place(_standing(rows[0]), rows[0]["mount_id"], rows[0]["grant_id"]) if rows else None


async def reading(
    database: Database, presented: Presented, mount: str, path: str, version: int, now: datetime
) -> Place | None:
    """The same for reading, with the wanted version (0: the current one) of the secret at ``path``."""
    rows = await database.query(
        presented.tenant_id,
        _READING,
        {
            "tenant": presented.tenant_id,
            "id": presented.id,
            "mount": mount,
            "action": Action.READ,
            "now": now,
            "path": path,
            "version": version,
        },
    )
    return Place(_standing(rows[0]), rows[0]["mount_id"], rows[0]["grant_id"], _reading(rows[0])) if rows else None


async def live_grants(tx: Tx, grant_ids: frozenset[UUID], now: datetime) -> frozenset[UUID]:
    """Those of ``grant_ids`` that are live at this statement."""
    rows = await tx.fetch(_LIVE, (tx.tenant_id, list(grant_ids), now))
    return frozenset(row["id"] for row in rows)


async def hold_grant(tx: Tx, grant_id: UUID, now: datetime) -> bool:
    """Keep a live grant from ending before this transaction commits; False when it is not live any more."""
    return await tx.fetch_one(_HOLD, (tx.tenant_id, grant_id, now)) is not None


def token(row: Row) -> Token:
    """A row of ``COLUMNS`` as a token."""
    return Token(
        tenant_id=row["tenant_id"],
        id=row["id"],
        accessor=row["accessor"],
        subject_kind=SubjectKind(row["subject_kind"]),
        subject_id=row["subject_id"],
        display=row["display"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        ttl=row["ttl"],
        max_ttl=row["max_ttl"],
        renewable=row["renewable"],
        revoked_at=row["revoked_at"],
    )


def _standing(row: Row) -> Standing:
    return Standing(
        token=token(row),
        secret_hash=bytes(row["secret_hash"]),
        tenant_active=row["tenant_active"],
        subject_active=row["subject_active"],
        suspended=row["suspended"],
        tenant_slug=row["slug"],
    )


def _reading(row: Row) -> StoredReading | None:
    if row["version"] is None:
        return None
    return StoredReading(
        secret_id=row["secret_id"],
        version=Version(row["version"], row["version_created_at"], row["deletion_time"], row["destroyed"]),
        custom_metadata=row["custom_metadata"],
        blob=row["blob"],
    )
