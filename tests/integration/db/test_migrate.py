"""The migration runner: once each, in order, one starter at a time; changed and failing files are refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from limen.db.embedded import EmbeddedPostgres
from limen.db.errors import Contention, MigrationRefused
from limen.db.migrate import migrate
from limen.db.roles import APP, OWNER
from limen.db.source import SocketSource


@pytest.fixture
async def empty(postgres_server: EmbeddedPostgres) -> AsyncIterator[SocketSource]:
    """A database that was never migrated."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server.superuser_conninfo(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER limen_owner TEMPLATE template0").format(sql.Identifier(name))
        )
        yield SocketSource(postgres_server.socket_directory, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)


def fetch(source: SocketSource, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(source.conninfo(OWNER)) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_applied_once_in_order_and_gaps_are_filled_later(empty: SocketSource, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "CREATE TABLE log (id integer PRIMARY KEY); INSERT INTO log VALUES (1);")
    write(tmp_path, "0005_fifth.sql", "INSERT INTO log VALUES (5);")
    assert await migrate(empty, tmp_path) == ("0001_first.sql", "0005_fifth.sql")
    assert await migrate(empty, tmp_path) == ()
    write(tmp_path, "0003_third.sql", "INSERT INTO log VALUES (3);")
    assert await migrate(empty, tmp_path) == ("0003_third.sql",)
    assert fetch(empty, "SELECT id FROM log ORDER BY id") == [(1,), (3,), (5,)]
    assert fetch(empty, "SELECT number, length(checksum) FROM schema_migrations ORDER BY 1") == [
        (1, 64),
        (3, 64),
        (5, 64),
    ]


async def test_a_changed_file_is_refused_before_anything_is_applied(empty: SocketSource, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "CREATE TABLE one (id uuid PRIMARY KEY);")
    await migrate(empty, tmp_path)
    write(tmp_path, "0001_first.sql", "CREATE TABLE one (id uuid PRIMARY KEY); -- harmless?")
    write(tmp_path, "0002_second.sql", "CREATE TABLE two (id uuid PRIMARY KEY);")
    with pytest.raises(MigrationRefused, match=r"0001_first\.sql was changed") as refused:
        await migrate(empty, tmp_path)
    assert "new migration" in refused.value.fix
    assert fetch(empty, "SELECT to_regclass('two')") == [(None,)]


async def test_a_failing_file_leaves_nothing_behind(empty: SocketSource, tmp_path: Path) -> None:
    write(tmp_path, "0001_good.sql", "CREATE TABLE good (id uuid PRIMARY KEY);")
    write(tmp_path, "0002_bad.sql", "CREATE TABLE half (id uuid PRIMARY KEY); SELECT no_such_function();")
    with pytest.raises(MigrationRefused, match=r"0002_bad\.sql cannot be applied: function no_such_function"):
        await migrate(empty, tmp_path)
    assert fetch(empty, "SELECT to_regclass('half'), to_regclass('good')::text") == [(None, "good")]
    write(tmp_path, "0002_bad.sql", "CREATE TABLE half (id uuid PRIMARY KEY);")
    assert await migrate(empty, tmp_path) == ("0002_bad.sql",)


async def test_concurrent_starters_apply_each_file_once(empty: SocketSource, tmp_path: Path) -> None:
    for number in range(1, 6):
        write(
            tmp_path, f"000{number}_step.sql", f"SELECT pg_sleep(0.02); CREATE TABLE t{number} (id uuid PRIMARY KEY);"
        )
    results = await asyncio.gather(*(migrate(empty, tmp_path) for _ in range(4)))
    assert sorted(len(applied) for applied in results) == [0, 0, 0, 5]


async def test_a_migration_does_not_queue_behind_a_long_lock(
    empty: SocketSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.db.migrate._LOCK_TIMEOUT", "100ms")
    write(tmp_path, "0001_first.sql", "CREATE TABLE busy (id uuid PRIMARY KEY);")
    await migrate(empty, tmp_path)
    write(tmp_path, "0002_second.sql", "ALTER TABLE busy ADD note text;")
    with psycopg.connect(empty.conninfo(OWNER)) as holder:
        holder.execute("LOCK TABLE busy")
        with pytest.raises(Contention):
            await migrate(empty, tmp_path)
    assert await migrate(empty, tmp_path) == ("0002_second.sql",)


async def test_a_database_of_a_newer_release_is_left_alone(empty: SocketSource, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "CREATE TABLE one (id uuid PRIMARY KEY);")
    write(tmp_path, "0002_newer.sql", "CREATE TABLE two (id uuid PRIMARY KEY);")
    await migrate(empty, tmp_path)
    (tmp_path / "0002_newer.sql").unlink()
    assert await migrate(empty, tmp_path) == ()
    with psycopg.connect(empty.conninfo(APP)) as connection:
        assert connection.execute("SELECT number FROM schema_migrations ORDER BY 1").fetchall() == [(1,), (2,)]
