"""The database goes away, at start and in the middle, and comes back: plain errors, then work goes on."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limen.db.database import Database
from limen.db.embedded import EmbeddedPostgres
from limen.db.postmaster import processes_in
from limen.db.provider import prepare
from limen.db.source import SocketSource
from limen.kernel.errors import Unavailable
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import add_tenant
from tests.support.scratch import scratch_directory


@pytest.fixture
async def own_server() -> AsyncIterator[EmbeddedPostgres]:
    """A server of this test's own, because it gets killed."""
    directory = scratch_directory("pg")
    server = EmbeddedPostgres(directory, system_user="nobody")
    try:
        await prepare(server)
        yield server
    finally:
        await server.stop(timeout=5.0)
        shutil.rmtree(directory, ignore_errors=True)


def kill(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


async def test_killed_in_the_middle_then_back(own_server: EmbeddedPostgres) -> None:
    async with Database(own_server, RandomFieldCipher(), wait=0.5) as database:
        tenant = await add_tenant(database, "kept")
        # Several idle connections, each of which will turn out dead.
        await asyncio.gather(*(database.query(tenant, "SELECT pg_sleep(0.05)") for _ in range(5)))
        async with database.listen() as listener:
            with pytest.raises(Unavailable) as running:  # noqa: PT012
                async with database.transaction(tenant) as tx:
                    kill(own_server)
                    await tx.fetch("SELECT pg_sleep(5)")
            assert running.value.fix
            with pytest.raises(Unavailable):
                await listener.wait(5)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await database.query(tenant, "SELECT 1")
        with pytest.raises(Unavailable):
            async with database.listen():
                pass

        await own_server.start()
        rows = await database.query(tenant, "SELECT slug FROM tenants")
        assert rows == [{"slug": "kept"}]
        async with database.transaction(tenant) as tx:
            assert await tx.fetch_one("SELECT slug FROM tenants") == {"slug": "kept"}


async def test_a_restart_between_two_requests_is_not_noticed(own_server: EmbeddedPostgres) -> None:
    async with Database(own_server, RandomFieldCipher()) as database:
        tenant = await add_tenant(database, "calm")
        await asyncio.gather(*(database.query(tenant, "SELECT pg_sleep(0.05)") for _ in range(5)))
        await own_server.stop()
        assert processes_in(own_server.data_directory) == ()
        await own_server.start()
        for _ in range(10):
            assert await database.query(tenant, "SELECT slug FROM tenants") == [{"slug": "calm"}]


async def test_lost_while_committing_says_that_the_outcome_is_unknown(own_server: EmbeddedPostgres) -> None:
    async with Database(own_server, RandomFieldCipher(), wait=0.5) as database:
        tenant = await add_tenant(database, "torn")
        with pytest.raises(Unavailable, match="not known whether"):  # noqa: PT012
            async with database.transaction(tenant) as tx:
                await tx.execute("UPDATE tenants SET name = 'torn' WHERE id = %s", [tenant])
                kill(own_server)
                await asyncio.sleep(0.2)


async def test_down_at_start_is_a_plain_error() -> None:
    absent = Database(SocketSource(Path("/nonexistent")), RandomFieldCipher(), wait=0.3)
    with pytest.raises(Unavailable) as refused:
        await absent.open()
    assert "database does not answer" in refused.value.message
    assert "PostgreSQL is running" in refused.value.fix
    # psycopg reports each failed attempt as a warning of its own logger; nothing else may be left running.
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
