"""Row-level security through the one helper: tenant A and tenant B never meet, and no tenant sees nothing."""

import asyncio

import psycopg
import pytest

from limen.db.database import Database, SystemRole
from limen.db.errors import DatabaseFault
from limen.db.roles import APP, OWNER
from limen.db.source import SocketSource
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from tests.support.postgres import Tenants

pytestmark = pytest.mark.row("T3")

INSERT_OUTBOX = "INSERT INTO outbox (tenant_id, version, at, payload) VALUES (%s, 1, now(), '{}')"


async def test_reads_see_only_the_own_tenant(database: Database, tenants: Tenants) -> None:
    assert await database.query(tenants.a, "SELECT tenant_id FROM tenant_versions") == [{"tenant_id": tenants.a}]
    assert await database.query(tenants.a, "SELECT id FROM tenants WHERE id = %s", [tenants.b]) == []
    async with database.transaction(tenants.b) as tx:
        assert await tx.fetch("SELECT id FROM tenants") == [{"id": tenants.b}]


async def test_updates_of_the_other_tenant_touch_nothing(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        for sql in (
            "UPDATE tenant_versions SET version = 99 WHERE tenant_id = %s",
            "UPDATE tenants SET name = 'taken' WHERE id = %s",
        ):
            assert await tx.execute(sql, [tenants.b]) == 0
    assert (await database.query(tenants.b, "SELECT name FROM tenants"))[0]["name"] == "Tenant-B"


@pytest.mark.parametrize(
    "sql",
    [
        INSERT_OUTBOX,
        "INSERT INTO tenants (id, slug, name) VALUES (%s, 'sneaky', 'Sneaky')",
        "UPDATE tenant_versions SET tenant_id = %s",
    ],
)
async def test_writing_a_row_of_the_other_tenant_raises(database: Database, tenants: Tenants, sql: str) -> None:
    stranger = new_id() if "INTO tenants" in sql else tenants.b
    with pytest.raises(DatabaseFault) as refused:
        await database.query(tenants.a, sql, [stranger])
    assert refused.value.sqlstate == "42501"
    assert await database.query(tenants.b, "SELECT * FROM outbox") == []


@pytest.mark.parametrize(
    "sql", ["DELETE FROM outbox", "UPDATE outbox SET at = now()", "DELETE FROM tenants", "TRUNCATE outbox"]
)
async def test_privileges_are_as_narrow_as_the_migration_says(database: Database, tenants: Tenants, sql: str) -> None:
    with pytest.raises(DatabaseFault) as refused:
        await database.query(tenants.a, sql)
    assert refused.value.sqlstate == "42501"


async def test_an_unset_tenant_raises(scratch_source: SocketSource, database: Database, tenants: Tenants) -> None:
    """Before the first use of a connection and after it: the setting does not outlive its transaction."""
    async with await psycopg.AsyncConnection.connect(scratch_source.conninfo(APP), autocommit=True) as raw:
        with pytest.raises(psycopg.errors.UndefinedObject):
            await raw.execute("SELECT * FROM tenant_versions")
        async with raw.pipeline():
            await raw.execute("SELECT set_config('app.tenant', %s, true)", [str(tenants.a)])
            rows = await (await raw.execute("SELECT tenant_id FROM tenant_versions")).fetchall()
        assert rows == [(tenants.a,)]
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await raw.execute("SELECT * FROM tenant_versions")


async def test_the_owner_is_bound_too(scratch_source: SocketSource, database: Database, tenants: Tenants) -> None:
    async with await psycopg.AsyncConnection.connect(scratch_source.conninfo(OWNER), autocommit=True) as raw:
        assert await (await raw.execute("SELECT * FROM tenant_versions")).fetchall() == []


async def test_a_session_can_become_no_other_role(database: Database, tenants: Tenants) -> None:
    for role in (OWNER, SystemRole.FEED, SystemRole.PLATFORM, "limen_super"):
        with pytest.raises(DatabaseFault) as refused:
            await database.query(tenants.a, f"SET ROLE {role}")
        assert refused.value.sqlstate == "42501"


async def test_interleaved_tenants_on_few_connections_never_mix(database: Database, tenants: Tenants) -> None:
    narrow = Database(database._source, database._cipher, pool_size=2)

    async def read(number: int) -> None:
        tenant = tenants[number % 2]
        if number % 3:
            rows = await narrow.query(tenant, "SELECT tenant_id FROM tenant_versions")
        else:
            async with narrow.transaction(tenant) as tx:
                rows = await tx.fetch("SELECT tenant_id FROM tenant_versions")
        assert rows == [{"tenant_id": tenant}]

    async with narrow:
        await asyncio.gather(*(read(number) for number in range(120)))


async def test_a_change_of_one_tenant_counts_for_that_tenant_only(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        tx.fact_changed(Fact(FactKind.PERSON, new_id()))
    assert (await database.query(tenants.b, "SELECT version FROM tenant_versions"))[0]["version"] == 0
    assert await database.query(tenants.b, "SELECT * FROM outbox") == []


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        (SystemRole.DIRECTORY, "SELECT created_at FROM tenants"),
        (SystemRole.DIRECTORY, "SELECT * FROM operators"),
        (SystemRole.FEED, "DELETE FROM outbox"),
        (SystemRole.FEED, "UPDATE tenant_versions SET version = 0"),
        (SystemRole.EXPIRY, "SELECT payload FROM outbox"),
        (SystemRole.SEALER, "SELECT * FROM outbox"),
        (SystemRole.PLATFORM, "SELECT * FROM outbox"),
        (SystemRole.PLATFORM, "DELETE FROM tenants"),
    ],
)
async def test_system_roles_see_their_columns_only(
    database: Database, tenants: Tenants, role: SystemRole, sql: str
) -> None:
    with pytest.raises(DatabaseFault) as refused:
        async with database.system(role) as tx:
            await tx.fetch(sql)
    assert refused.value.sqlstate == "42501"


async def test_the_directory_finds_tenants_by_name(database: Database, tenants: Tenants) -> None:
    async with database.system(SystemRole.DIRECTORY) as tx:
        row = await tx.fetch_one("SELECT id FROM tenants WHERE slug = %s", ["tenant-b"])
    assert row == {"id": tenants.b}
