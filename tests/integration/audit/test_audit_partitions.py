"""Months are made ahead; what finds no month is kept all the same."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from limen.control.audit import service
from limen.control.audit.model import AuditFilter
from limen.control.audit.partitions import MONTHS_AHEAD, ensure_partitions
from limen.db.catalogue import violations
from limen.db.database import Database
from limen.db.roles import OWNER
from limen.db.source import SocketSource
from tests.integration.audit.parts import sign_in
from tests.support.postgres import Tenants

NOVEMBER = datetime(2030, 11, 30, 23, 59, tzinfo=UTC)


async def ensure(source: SocketSource, now: datetime) -> list[str]:
    async with await psycopg.AsyncConnection.connect(source.conninfo(OWNER), autocommit=True) as connection:
        return await ensure_partitions(connection, now)


async def place(database: Database, tenant: UUID, at: datetime) -> set[str]:
    """Record at ``at`` and say in which partitions the record landed."""
    async with database.transaction(tenant) as tx:
        record_id = await service.record(tx, sign_in(), at)
        rows = []
        for table in ("audit_leaves", "audit_values"):
            rows += await tx.fetch(
                f"SELECT tableoid::regclass::text AS part FROM {table} WHERE tenant_id = %s AND id = %s",
                [tenant, record_id],
            )
        assert record_id in [r.id for r in await service.search(tx, AuditFilter(), open_personal=True)]
    return {row["part"] for row in rows}


async def test_months_are_made_once(database: Database, tenants: Tenants, scratch_source: SocketSource) -> None:
    made = await ensure(scratch_source, NOVEMBER)
    assert len(made) == 2 * (MONTHS_AHEAD + 1)
    assert made[:4] == [
        "audit_leaves_2030_11",
        "audit_values_2030_11",
        "audit_leaves_2030_12",
        "audit_values_2030_12",
    ]
    assert made[4] == "audit_leaves_2031_01"
    assert await ensure(scratch_source, NOVEMBER) == []
    assert len(await ensure(scratch_source, NOVEMBER + timedelta(minutes=1))) == 2
    assert await place(database, tenants.a, NOVEMBER) == {"audit_leaves_2030_11", "audit_values_2030_11"}
    december = NOVEMBER + timedelta(minutes=1)
    assert await place(database, tenants.a, december) == {"audit_leaves_2030_12", "audit_values_2030_12"}
    assert await place(database, tenants.a, datetime(2020, 1, 1, tzinfo=UTC)) == {
        "audit_leaves_default",
        "audit_values_default",
    }
    assert [found for found in await violations(scratch_source) if "audit" in found] == []


async def test_a_month_that_began_in_the_default_partition_stays_there(
    database: Database, tenants: Tenants, scratch_source: SocketSource
) -> None:
    assert await place(database, tenants.a, NOVEMBER) == {"audit_leaves_default", "audit_values_default"}
    made = await ensure(scratch_source, NOVEMBER)
    assert "audit_leaves_2030_11" not in made
    assert "audit_leaves_2030_12" in made
