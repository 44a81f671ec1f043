"""Secrets and versions: rows in, rows out. Callers hold a passage and run inside its transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from limen.control.vault.model import Head, Version
from limen.control.vault.rules import paths
from limen.db.database import Row, Tx
from limen.kernel.ids import new_id

_HEAD = """
    id, current_version, oldest_version, max_versions, cas_required, delete_after, custom_metadata,
    metadata_version, created_at, updated_at
"""
_VERSION = "version, created_at, deletion_time, destroyed"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret's row. ``custom_metadata`` is sealed."""

    id: UUID
    head: Head
    custom_metadata: bytes | None


async def find(tx: Tx, mount_id: UUID, path: str, *, lock: bool = False) -> StoredSecret | None:
    """The secret at ``path``, locked against other writers when ``lock``."""
    row = await tx.fetch_one(
        f"SELECT {_HEAD} FROM vault_secrets WHERE tenant_id = %s AND mount_id = %s AND path = %s"  # noqa: S608
        f"{' FOR UPDATE' if lock else ''}",
        (tx.tenant_id, mount_id, path),
    )
    return _secret(row) if row else None


async def insert(tx: Tx, mount_id: UUID, path: str, head: Head) -> StoredSecret | None:
    """Insert a new secret; None when another writer made it first (then it is committed by now)."""
    row = await tx.fetch_one(
        "INSERT INTO vault_secrets (tenant_id, id, mount_id, path, current_version, oldest_version, max_versions,"  # noqa: S608
        " cas_required, delete_after, metadata_version, created_at, updated_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        f" ON CONFLICT (tenant_id, mount_id, path) DO NOTHING RETURNING {_HEAD}",
        (tx.tenant_id, new_id(), mount_id, path, *_settings(head), head.created_at, head.updated_at),
    )
    return _secret(row) if row else None


async def update(tx: Tx, secret_id: UUID, head: Head) -> None:
    """Write a secret's head back."""
    await tx.execute(
        "UPDATE vault_secrets SET current_version = %s, oldest_version = %s, max_versions = %s, cas_required = %s,"
        " delete_after = %s, metadata_version = %s, updated_at = %s WHERE tenant_id = %s AND id = %s",
        (*_settings(head), head.updated_at, tx.tenant_id, secret_id),
    )


async def set_custom_metadata(tx: Tx, secret_id: UUID, sealed: bytes | None) -> None:
    """Replace a secret's custom metadata."""
    await tx.execute(
        "UPDATE vault_secrets SET custom_metadata = %s WHERE tenant_id = %s AND id = %s",
        (sealed, tx.tenant_id, secret_id),
    )


async def delete(tx: Tx, secret_id: UUID) -> None:
    """Delete a secret with all its versions."""
    await tx.execute("DELETE FROM vault_secrets WHERE tenant_id = %s AND id = %s", (tx.tenant_id, secret_id))


async def add_version(tx: Tx, secret_id: UUID, version: Version, blob: bytes, oldest: int) -> None:
    """Add a version and forget those below ``oldest``."""
    await tx.execute(
        "INSERT INTO vault_versions (tenant_id, secret_id, version, blob, created_at, deletion_time)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (tx.tenant_id, secret_id, version.number, blob, version.created_at, version.deletion_time),
    )
    await tx.execute(
        "DELETE FROM vault_versions WHERE tenant_id = %s AND secret_id = %s AND version < %s",
        (tx.tenant_id, secret_id, oldest),
    )


async def versions(tx: Tx, secret_id: UUID, numbers: Collection[int] | None = None) -> list[Version]:
    """The secret's versions, or those of ``numbers`` that exist, in order."""
    rows = await tx.fetch(
        f"SELECT {_VERSION} FROM vault_versions WHERE tenant_id = %s AND secret_id = %s"  # noqa: S608
        " AND (%s::bigint[] IS NULL OR version = ANY (%s)) ORDER BY version",
        (tx.tenant_id, secret_id, *(2 * [None if numbers is None else list(numbers)])),
    )
    return [_version(row) for row in rows]


async def blob(tx: Tx, secret_id: UUID, number: int) -> bytes | None:
    """The sealed value of a version; None when it is destroyed or unknown."""
    row = await tx.fetch_one(
        "SELECT blob FROM vault_versions WHERE tenant_id = %s AND secret_id = %s AND version = %s",
        (tx.tenant_id, secret_id, number),
    )
    return row["blob"] if row else None


async def save_versions(tx: Tx, secret_id: UUID, changed: Sequence[Version]) -> None:
    """Write deletion dates and destruction back; a destroyed version loses its ciphertext."""
    await tx.execute_many(
        "UPDATE vault_versions SET deletion_time = %s, destroyed = %s, blob = CASE WHEN %s THEN NULL ELSE blob END"
        " WHERE tenant_id = %s AND secret_id = %s AND version = %s",
        [
            (version.deletion_time, version.destroyed, version.destroyed, tx.tenant_id, secret_id, version.number)
            for version in changed
        ],
    )


async def children(tx: Tx, mount_id: UUID, prefix: str, after: str, limit: int | None) -> list[str]:
    """Names directly below ``prefix`` in byte order, folders with a ``/``; those greater than ``after``."""
    low, high = paths.bounds(prefix)
    rows = await tx.fetch(
        """
        SELECT DISTINCT CASE WHEN slash > 0 THEN substr(rest, 1, slash) ELSE rest END COLLATE "C" AS name
        FROM (
            SELECT substr(path, %(skip)s) AS rest, strpos(substr(path, %(skip)s), '/') AS slash
            FROM vault_secrets
            WHERE tenant_id = %(tenant)s AND mount_id = %(mount)s AND path >= %(low)s
                AND (%(high)s::text IS NULL OR path < %(high)s)
        ) below
        WHERE CASE WHEN slash > 0 THEN substr(rest, 1, slash) ELSE rest END COLLATE "C" > %(after)s
        ORDER BY name LIMIT %(limit)s
        """,
        {
            "tenant": tx.tenant_id,
            "mount": mount_id,
            "low": low,
            "high": high,
            "skip": len(prefix) + 1,
            "after": after,
            "limit": limit,
        },
    )
    return [row["name"] for row in rows]


def _settings(head: Head) -> tuple[int, int, int, bool, int, int]:
    return (
        head.current_version,
        head.oldest_version,
        head.max_versions,
        head.cas_required,
        head.delete_after,
        head.metadata_version,
    )


def _secret(row: Row) -> StoredSecret:
    head = Head(
        current_version=row["current_version"],
        oldest_version=row["oldest_version"],
        max_versions=row["max_versions"],
        cas_required=row["cas_required"],
        delete_after=row["delete_after"],
        metadata_version=row["metadata_version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    return StoredSecret(row["id"], head, row["custom_metadata"])


def _version(row: Row) -> Version:
    return Version(row["version"], row["created_at"], row["deletion_time"], row["destroyed"])
