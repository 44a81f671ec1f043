"""All SQL of this room, each statement in a tenant transaction; the two look-ups over all tenants stand at the end."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from limen.control.files.model import Connection, Located, Place, Provider, SftpUser, SshKey
from limen.db.database import SystemTx, Tx
from limen.kernel.access import Action

_CONNECTION = """
    SELECT c.*, c.credential IS NOT NULL AS has_credential, r.name
      FROM bucket_connections c JOIN resources r ON r.tenant_id = c.tenant_id AND r.id = c.id
     WHERE c.tenant_id = %s"""


async def insert_connection(tx: Tx, connection: Connection) -> None:
    """Write a connection and its place in the directory."""
    place = connection.place
    await tx.execute(
        """INSERT INTO bucket_connections
               (tenant_id, id, slug, provider, endpoint, bucket, region, prefix, root, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            tx.tenant_id,
            connection.id,
            connection.slug,
            place.provider,
            place.endpoint,
            place.bucket,
            place.region,
            place.prefix,
            place.root,
            connection.created_at,
        ],
    )
    await tx.execute(
        "INSERT INTO connection_directory (slug, tenant_id, connection_id) VALUES (%s, %s, %s)",
        [connection.slug, tx.tenant_id, connection.id],
    )


async def connections(tx: Tx) -> list[Connection]:
    """All connections, by name."""
    return [_connection(row) for row in await tx.fetch(f"{_CONNECTION} ORDER BY r.name_lc", [tx.tenant_id])]


async def connection(tx: Tx, connection_id: UUID) -> Connection | None:
    """One connection."""
    row = await tx.fetch_one(f"{_CONNECTION} AND c.id = %s", [tx.tenant_id, connection_id])
    return _connection(row) if row is not None else None


async def set_credential(tx: Tx, connection_id: UUID, blob: bytes) -> bool:
    """Store a credential as custody sealed it; False when there is no such connection."""
    return bool(
        await tx.execute(
            "UPDATE bucket_connections SET credential = %s WHERE tenant_id = %s AND id = %s",
            [blob, tx.tenant_id, connection_id],
        )
    )


async def credential(tx: Tx, connection_id: UUID) -> bytes | None:
    """The credential as custody sealed it."""
    row = await tx.fetch_one(
        "SELECT credential FROM bucket_connections WHERE tenant_id = %s AND id = %s", [tx.tenant_id, connection_id]
    )
    return bytes(row["credential"]) if row is not None and row["credential"] is not None else None


async def insert_user(tx: Tx, user: SftpUser) -> bool:
    """Write an SFTP user; False when the name is taken within its connection."""
    return bool(
        await tx.execute(
            """INSERT INTO sftp_users (tenant_id, id, connection_id, person_id, username_tag, username_sealed,
                                       jail_sealed, actions, password_hash, sources_sealed, created_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (tenant_id, connection_id, username_tag) DO NOTHING""",
            [
                tx.tenant_id,
                user.id,
                user.connection_id,
                user.person_id,
                await _username_tag(tx, user.connection_id, user.username),
                await tx.seal("sftp_users", "username_sealed", user.id, user.username),
                await tx.seal("sftp_users", "jail_sealed", user.id, user.jail),
                sorted(user.actions),
                user.password_hash,
                await _seal_sources(tx, "sftp_users", user.id, user.sources),
                user.created_at,
            ],
        )
    )


async def users(tx: Tx, connection_id: UUID | None = None) -> list[SftpUser]:
    """SFTP users, of one connection or all."""
    rows = await tx.fetch(
        """SELECT * FROM sftp_users WHERE tenant_id = %s AND (%s::uuid IS NULL OR connection_id = %s)
            ORDER BY created_at, id""",
        [tx.tenant_id, connection_id, connection_id],
    )
    return [await _user(tx, row) for row in rows]


async def user(tx: Tx, user_id: UUID) -> SftpUser | None:
    """One SFTP user."""
    row = await tx.fetch_one("SELECT * FROM sftp_users WHERE tenant_id = %s AND id = %s", [tx.tenant_id, user_id])
    return await _user(tx, row) if row is not None else None


async def user_named(tx: Tx, connection_id: UUID, username: str) -> SftpUser | None:
    """The SFTP user of that name in a connection."""
    row = await tx.fetch_one(
        "SELECT * FROM sftp_users WHERE tenant_id = %s AND connection_id = %s AND username_tag = %s",
        [tx.tenant_id, connection_id, await _username_tag(tx, connection_id, username)],
    )
    return await _user(tx, row) if row is not None else None


async def delete_user(tx: Tx, user_id: UUID) -> bool:
    """Delete an SFTP user with its keys."""
    return bool(await tx.execute("DELETE FROM sftp_users WHERE tenant_id = %s AND id = %s", [tx.tenant_id, user_id]))


async def set_password(tx: Tx, user_id: UUID, encoded: str | None) -> bool:
    """Set or clear the password's hash; False when there is no such user."""
    return bool(
        await tx.execute(
            "UPDATE sftp_users SET password_hash = %s WHERE tenant_id = %s AND id = %s",
            [encoded, tx.tenant_id, user_id],
        )
    )


async def insert_key(tx: Tx, key: SshKey) -> bool:
    """Write a key; False when the user has it already."""
    return bool(
        await tx.execute(
            """INSERT INTO ssh_keys (tenant_id, id, sftp_user_id, public_key, fingerprint, sources_sealed, expires_at,
                                     created_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (tenant_id, sftp_user_id, fingerprint) DO NOTHING""",
            [
                tx.tenant_id,
                key.id,
                key.user_id,
                key.public_key,
                key.fingerprint,
                await _seal_sources(tx, "ssh_keys", key.id, key.sources),
                key.expires_at,
                key.created_at,
            ],
        )
    )


async def keys(tx: Tx, user_id: UUID) -> list[SshKey]:
    """The keys of an SFTP user."""
    rows = await tx.fetch(
        "SELECT * FROM ssh_keys WHERE tenant_id = %s AND sftp_user_id = %s ORDER BY created_at, id",
        [tx.tenant_id, user_id],
    )
    return [await _key(tx, row) for row in rows]


async def key(tx: Tx, user_id: UUID, fingerprint: str) -> SshKey | None:
    """The key of an SFTP user with that fingerprint."""
    row = await tx.fetch_one(
        "SELECT * FROM ssh_keys WHERE tenant_id = %s AND sftp_user_id = %s AND fingerprint = %s",
        [tx.tenant_id, user_id, fingerprint],
    )
    return await _key(tx, row) if row is not None else None


async def delete_key(tx: Tx, user_id: UUID, key_id: UUID) -> bool:
    """Delete a key of a user."""
    return bool(
        await tx.execute(
            "DELETE FROM ssh_keys WHERE tenant_id = %s AND sftp_user_id = %s AND id = %s",
            [tx.tenant_id, user_id, key_id],
        )
    )


async def locate(system: SystemTx, slug: str) -> Located | None:
    """What a slug stands for (role ``DIRECTORY``)."""
    row = await system.fetch_one("SELECT tenant_id, connection_id FROM connection_directory WHERE slug = %s", [slug])
    return Located(row["tenant_id"], row["connection_id"]) if row is not None else None


async def tenants_with_live_grants(system: SystemTx, agent_id: UUID, now: datetime) -> list[UUID]:
    """The tenants in which an agent has live grants (role ``DIRECTORY``)."""
    rows = await system.fetch(
        "SELECT DISTINCT tenant_id FROM grants WHERE agent_id = %s AND state = 'live' AND expires_at > %s",
        [agent_id, now],
    )
    return [row["tenant_id"] for row in rows]


async def _username_tag(tx: Tx, connection_id: UUID, username: str) -> bytes:
    return await tx.tag("sftp-username", f"{connection_id} {username}")


async def _seal_sources(tx: Tx, table: str, row_id: UUID, sources: tuple[str, ...]) -> bytes | None:
    return await tx.seal(table, "sources_sealed", row_id, json.dumps(sources)) if sources else None


async def _open_sources(tx: Tx, table: str, row: dict[str, Any]) -> tuple[str, ...]:
    if row["sources_sealed"] is None:
        return ()
    return tuple(json.loads(await tx.open(table, "sources_sealed", row["id"], bytes(row["sources_sealed"]))))


def _connection(row: dict[str, Any]) -> Connection:
    place = Place(Provider(row["provider"]), row["endpoint"], row["bucket"], row["region"], row["prefix"], row["root"])
    return Connection(
        row["tenant_id"], row["id"], row["name"], row["slug"], place, row["has_credential"], row["created_at"]
    )


async def _user(tx: Tx, row: dict[str, Any]) -> SftpUser:
    return SftpUser(
        tenant_id=row["tenant_id"],
        id=row["id"],
        connection_id=row["connection_id"],
        person_id=row["person_id"],
        username=(await tx.open("sftp_users", "username_sealed", row["id"], bytes(row["username_sealed"]))).decode(),
        jail=(await tx.open("sftp_users", "jail_sealed", row["id"], bytes(row["jail_sealed"]))).decode(),
        actions=frozenset(map(Action, row["actions"])),
        sources=await _open_sources(tx, "sftp_users", row),
        created_at=row["created_at"],
        password_hash=row["password_hash"],
    )


async def _key(tx: Tx, row: dict[str, Any]) -> SshKey:
    return SshKey(
        tenant_id=row["tenant_id"],
        id=row["id"],
        user_id=row["sftp_user_id"],
        public_key=row["public_key"],
        fingerprint=row["fingerprint"],
        sources=await _open_sources(tx, "ssh_keys", row),
        expires_at=row["expires_at"],
        created_at=row["created_at"],
    )
