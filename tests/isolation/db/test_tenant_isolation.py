"""Row-level security through the one helper: tenant A and tenant B never meet."""

import pytest

from limen.db.database import Database
from limen.db.errors import DatabaseFault
from tests.support.postgres import Tenants


@pytest.mark.row("T3")
async def test_reads_see_only_the_own_tenant(database: Database, tenants: Tenants) -> None:
    rows = await database.query(tenants.a, "SELECT tenant_id FROM tenant_versions")
    assert rows == [{"tenant_id": tenants.a}]
    assert await database.query(tenants.a, "SELECT id FROM tenants WHERE id = %s", [tenants.b]) == []
    async with database.transaction(tenants.b) as tx:
        assert await tx.fetch("SELECT id FROM tenants") == [{"id": tenants.b}]


@pytest.mark.row("T3")
async def test_writes_to_the_other_tenant_touch_nothing_or_raise(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        touched = await tx.execute("UPDATE tenant_versions SET version = 99 WHERE tenant_id = %s", [tenants.b])
    assert touched == 0
    with pytest.raises(DatabaseFault):
        await database.query(
            tenants.a,
            "INSERT INTO outbox (tenant_id, version, at, payload) VALUES (%s, 1, now(), '{}')",
            [tenants.b],
        )
    assert await database.query(tenants.b, "SELECT * FROM outbox") == []
