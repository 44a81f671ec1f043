"""Migrations: plain SQL files in one sequence, applied once each, in order, by one starter at a time.

Rules: a file is applied in one transaction together with its record; an applied file never changes (its
SHA-256 is compared at every start); gaps in the numbers are fine and a gap that is filled later is applied
then; a number that only the database knows belongs to a newer release and is left alone, so that old and new
code run side by side. Locks are waited for a short time only, so that a migration never queues the whole
application behind itself.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg import errors as pg

from limen.db.errors import MigrationRefused, translated
from limen.db.pool import Connection, connect
from limen.db.roles import OWNER
from limen.db.source import ConnectionSource

DIRECTORY = Path(__file__).with_name("migrations")

_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
_ADVISORY_KEY = 0x4C696D656E  # "Limen": one key for all starters of one database
_STARTER_WAIT = "120s"
_LOCK_TIMEOUT = "5s"
_STATEMENT_TIMEOUT = "300s"

_LEDGER = b"""
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON schema_migrations TO limen_app;
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. ``checksum`` is the SHA-256 of its bytes in hex."""

    number: int
    name: str
    sql: bytes
    checksum: str


def read_migrations(directory: Path = DIRECTORY) -> tuple[Migration, ...]:
    """All migrations of a directory in order.

    Raises:
        MigrationRefused: on a file with a wrong name, or two with one number.
    """
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationRefused(f"{path.name} is not named like a migration", fix="name it NNNN_some_words.sql")
        sql = path.read_bytes()
        migration = Migration(int(match["number"]), path.name, sql, hashlib.sha256(sql).hexdigest())
        if migration.number in found:
            raise MigrationRefused(
                f"{path.name} and {found[migration.number].name} have the same number",
                fix="give one of them the next free number",
            )
        found[migration.number] = migration
    return tuple(found[number] for number in sorted(found))


async def migrate(source: ConnectionSource, directory: Path = DIRECTORY) -> tuple[str, ...]:
    """Apply what is missing and return the names of the files applied.

    Raises:
        MigrationRefused: an applied file was changed, or a file fails; the failing one leaves nothing behind.
        Unavailable: the database does not answer.
    """
    migrations = read_migrations(directory)
    with translated():
        async with await connect(source.conninfo(OWNER)) as connection:
            await connection.execute(b"SELECT set_config('lock_timeout', %s, false)", [_STARTER_WAIT])
            await connection.execute(b"SELECT set_config('statement_timeout', %s, false)", [_STATEMENT_TIMEOUT])
            await connection.execute(b"SELECT pg_advisory_lock(%s)", [_ADVISORY_KEY])
            # The lock ends with the session, so that a starter that dies does not hold up the next one.
            await connection.execute(b"SELECT set_config('lock_timeout', %s, false)", [_LOCK_TIMEOUT])
            return await _apply_missing(connection, migrations)


async def _apply_missing(connection: Connection, migrations: tuple[Migration, ...]) -> tuple[str, ...]:
    known = await connection.execute(b"SELECT to_regclass('public.schema_migrations') IS NOT NULL AS present")
    row = await known.fetchone()
    if row is None or not row["present"]:
        await connection.execute(_LEDGER)
    rows = await (await connection.execute(b"SELECT number, checksum FROM schema_migrations")).fetchall()
    applied = {int(row["number"]): str(row["checksum"]) for row in rows}
    for migration in migrations:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationRefused(
                f"{migration.name} was changed after it had been applied to this database",
                fix="restore the file and put the change into a new migration",
            )
    missing = tuple(migration for migration in migrations if migration.number not in applied)
    for migration in missing:
        await _apply(connection, migration)
    return tuple(migration.name for migration in missing)


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                b"INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )
    except pg.OperationalError:
        raise
    except psycopg.Error as exc:
        raise MigrationRefused(
            f"{migration.name} cannot be applied: {exc.diag.message_primary or exc}",
            fix="correct the file; the database is as it was before it",
        ) from exc
    _log.info("migration applied", name=migration.name)
