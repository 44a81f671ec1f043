"""A real PostgreSQL for tests: one server per worker under our own launcher, one fresh database per test.

The server runs without durability in a temporary directory, as ``nobody`` when the tests run as root. A
template database is migrated once; each test gets a copy. Everything goes away with the session, and the
server with the worker process however that ends.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from limen.db.database import Database
from limen.db.embedded import EmbeddedPostgres
from limen.db.migrate import migrate
from limen.db.source import SocketSource
from limen.kernel.ids import new_id
from tests.support.cipher import RandomFieldCipher
from tests.support.scratch import scratch_directory

TEMPLATE = "limen_template"


class Tenants(NamedTuple):
    """Two tenants that must never see each other."""

    a: UUID
    b: UUID


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """One server for this worker; its main database is the migrated template."""
    directory = scratch_directory("pg")
    server = EmbeddedPostgres(directory, system_user="nobody", durable=False, database=TEMPLATE)
    try:
        asyncio.run(_start(server))
        yield server
    finally:
        asyncio.run(server.stop(timeout=5.0))
        shutil.rmtree(directory, ignore_errors=True)


async def _start(server: EmbeddedPostgres) -> None:
    await server.start()
    await migrate(server.source)


@pytest.fixture
def scratch_source(postgres_server: EmbeddedPostgres) -> Iterator[SocketSource]:
    """A fresh copy of the migrated database, dropped after the test."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server.superuser_conninfo(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER limen_owner TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE)
            )
        )
    yield SocketSource(postgres_server.socket_directory, name)
    with psycopg.connect(postgres_server.superuser_conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def field_cipher() -> RandomFieldCipher:
    """A real field cipher with random keys."""
    return RandomFieldCipher()


@pytest.fixture
async def database(scratch_source: SocketSource, field_cipher: RandomFieldCipher) -> AsyncIterator[Database]:
    """A fresh migrated database of this test's own."""
    async with Database(scratch_source, field_cipher, pool_size=8) as opened:
        yield opened


@pytest.fixture
async def tenants(database: Database) -> Tenants:
    """Two tenants with their version rows."""
    return Tenants(await add_tenant(database, "tenant-a"), await add_tenant(database, "tenant-b"))


async def add_tenant(database: Database, slug: str) -> UUID:
    """Insert one tenant with its version row."""
    tenant_id = new_id()
    async with database.transaction(tenant_id) as tx:
        await tx.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, %s, %s)", [tenant_id, slug, slug.title()])
        await tx.execute("INSERT INTO tenant_versions (tenant_id) VALUES (%s)", [tenant_id])
    return tenant_id


def is_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0
