"""An external server with password logins: roles are made, migrated and audited; what is missing is named."""

import os
import shutil
import signal
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql

from limen.db.catalogue import violations
from limen.db.database import Database, SystemRole
from limen.db.embedded import EmbeddedPostgres
from limen.db.errors import CatalogueViolated, ProviderFailed
from limen.db.external import ExternalPostgres
from limen.db.provider import prepare
from limen.db.roles import ALL_ROLES
from limen.db.source import DsnSource
from limen.kernel.errors import Unavailable
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import add_tenant
from tests.support.scratch import scratch_directory

PASSWORD = "correct horse"


class Foreign:
    """A cluster that knows nothing of Limen: password authentication, an empty database, three logins."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    async def make(self) -> None:
        await self._server.start()
        with self.superuser() as connection:
            connection.execute("DROP DATABASE limen")
            for role in ALL_ROLES:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
            for login, attributes in (("app_login", "NOINHERIT"), ("dba", "CREATEROLE"), ("root_login", "SUPERUSER")):
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes).format(
                        sql.Identifier(login), sql.Literal(PASSWORD)
                    )
                )
            connection.execute("CREATE DATABASE shop OWNER dba")
        rules = self._server.data_directory / "pg_hba.conf"
        rules.write_text("local all limen_super peer map=limen\nlocal all all scram-sha-256\n")
        assert self._server.pid is not None
        os.kill(self._server.pid, signal.SIGHUP)

    def superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._server.superuser_conninfo(database), autocommit=True)

    def dsn(self, login: str, password: str = PASSWORD) -> str:
        return psycopg.conninfo.make_conninfo(
            host=str(self._server.socket_directory), dbname="shop", user=login, password=password
        )


@pytest.fixture
async def foreign() -> AsyncIterator[Foreign]:
    directory = scratch_directory("pg")
    server = EmbeddedPostgres(directory, system_user="nobody", durable=False)
    try:
        cluster = Foreign(server)
        await cluster.make()
        yield cluster
    finally:
        await server.stop(timeout=5.0)
        shutil.rmtree(directory, ignore_errors=True)


async def test_two_logins_are_all_it_takes(foreign: Foreign) -> None:
    source = DsnSource(foreign.dsn("app_login"), foreign.dsn("dba"))
    provider = ExternalPostgres(source)
    assert len(await prepare(provider)) >= 1
    assert await prepare(provider) == ()
    assert await violations(source) == ()
    async with Database(source, RandomFieldCipher()) as database:
        tenant = await add_tenant(database, "outside")
        assert await database.query(tenant, "SELECT current_user::text AS role") == [{"role": "limen_app"}]
        async with database.system(SystemRole.DIRECTORY) as tx:
            assert await tx.fetch("SELECT slug FROM tenants") == [{"slug": "outside"}]
        async with database.listen() as listener:
            assert await listener.wait(0.01) == []
    with psycopg.connect(foreign.dsn("app_login"), autocommit=True) as raw:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            raw.execute("SET ROLE limen_owner")
        # NOINHERIT: the login itself sees nothing.
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            raw.execute("SELECT * FROM tenants")


async def test_a_superuser_login_is_refused_for_the_runtime(foreign: Foreign) -> None:
    with pytest.raises(CatalogueViolated, match="the login root_login is superuser"):
        await prepare(ExternalPostgres(DsnSource(foreign.dsn("root_login"))))


async def test_a_login_without_rights_is_told_what_to_ask_for(foreign: Foreign) -> None:
    with pytest.raises(ProviderFailed, match="limen_owner") as refused:
        await prepare(ExternalPostgres(DsnSource(foreign.dsn("app_login"))))
    assert "database administrator" in refused.value.fix


async def test_a_wrong_password_is_plain_and_secret(foreign: Foreign) -> None:
    with pytest.raises(Unavailable) as refused:
        await prepare(ExternalPostgres(DsnSource(foreign.dsn("app_login", "wr0ng-secret"))))
    assert "wr0ng-secret" not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.fix}"


async def test_no_server_is_a_plain_error() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await ExternalPostgres(DsnSource("postgresql://app:pw@/limen?host=/nonexistent")).start()
