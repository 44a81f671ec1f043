"""The two tenant forms and the system form: what commits, what is undone, what errors look like."""

import asyncio
from uuid import UUID

import pytest

from limen.db.database import Database, SystemRole
from limen.db.errors import Contention, DatabaseFault, ReferenceViolated, UniqueViolated, ValueRefused
from limen.kernel.errors import Conflict, Malformed, Unavailable
from limen.kernel.ids import new_id
from tests.support.postgres import Tenants, add_tenant

NAME = "SELECT name FROM tenants WHERE id = %s"
RENAME = "UPDATE tenants SET name = %s WHERE id = %s"


async def name_of(database: Database, tenant: UUID) -> str:
    return str((await database.query(tenant, NAME, [tenant]))[0]["name"])


async def test_a_clean_exit_commits_and_calls_back_in_order(database: Database, tenants: Tenants) -> None:
    called: list[int] = []

    def fails() -> None:
        called.append(1)
        raise ValueError("must not reach the caller")

    async with database.transaction(tenants.a) as tx:
        tx.after_commit(fails)
        tx.after_commit(lambda: called.append(2))
        assert await tx.execute(RENAME, ["Fresh", tenants.a]) == 1
        assert called == []
    assert called == [1, 2]
    assert await name_of(database, tenants.a) == "Fresh"


async def test_an_exception_rolls_back(database: Database, tenants: Tenants) -> None:
    with pytest.raises(KeyError):  # noqa: PT012
        async with database.transaction(tenants.a) as tx:
            await tx.execute(RENAME, ["Lost", tenants.a])
            raise KeyError
    assert await name_of(database, tenants.a) == "Tenant-A"


async def test_a_swallowed_error_cannot_look_like_a_commit(database: Database, tenants: Tenants) -> None:
    with pytest.raises(DatabaseFault):  # noqa: PT012
        async with database.transaction(tenants.a) as tx:
            await tx.execute(RENAME, ["Lost", tenants.a])
            with pytest.raises(DatabaseFault):
                await tx.execute("SELECT nonsense")
    assert await name_of(database, tenants.a) == "Tenant-A"


async def test_a_transaction_is_of_no_use_after_its_end(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        await tx.fetch("SELECT 1")
    with pytest.raises(RuntimeError, match="has ended"):
        tx.after_commit(print)


async def test_cancelling_rolls_back_and_leaves_the_pool_whole(database: Database, tenants: Tenants) -> None:
    async def slow() -> None:
        async with database.transaction(tenants.a) as tx:
            await tx.execute(RENAME, ["Lost", tenants.a])
            await tx.fetch("SELECT pg_sleep(30)")

    async def slow_query() -> None:
        await database.query(tenants.a, "SELECT pg_sleep(30)")

    # More rounds than the pool has connections: a leaked one would exhaust it.
    for work in [slow, slow_query] * 5:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await name_of(database, tenants.a) == "Tenant-A"
    async with asyncio.timeout(10):
        await asyncio.gather(*(database.query(tenants.b, "SELECT pg_sleep(0.01)") for _ in range(16)))
    assert await database.query(tenants.b, "SELECT id FROM tenants") == [{"id": tenants.b}]


async def test_execute_many_touches_all_rows(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        touched = await tx.execute_many(
            "INSERT INTO outbox (tenant_id, version, at, payload) VALUES (%s, %s, now(), '{}')",
            [(tenants.a, number) for number in range(1, 101)],
        )
        row = await tx.fetch_one("SELECT count(*) AS n FROM outbox WHERE tenant_id = %s", [tenants.a])
    assert touched == 100
    assert row == {"n": 100}


async def test_broken_constraints_have_typed_errors(database: Database, tenants: Tenants) -> None:
    with pytest.raises(UniqueViolated) as unique:
        await add_tenant(database, "tenant-a")
    assert unique.value.constraint == "tenants_slug_key"
    assert isinstance(unique.value, Conflict)
    with pytest.raises(ValueRefused) as check:
        await add_tenant(database, "Not A Slug")
    assert check.value.constraint == "tenants_slug_check"
    assert isinstance(check.value, Malformed)
    stranger = new_id()
    with pytest.raises(ReferenceViolated) as reference:
        await database.query(stranger, "INSERT INTO tenant_versions (tenant_id) VALUES (%s)", [stranger])
    assert reference.value.constraint == "tenant_versions_tenant_id_fkey"


async def test_a_deadlock_is_contention_that_can_be_tried_again(database: Database, tenants: Tenants) -> None:
    """Two holders of the shared version that then want it exclusively: the documented misuse."""
    both = asyncio.Barrier(2)

    async def upgrade() -> None:
        async with database.transaction(tenants.a) as tx:
            await tx.lock_version(share=True)
            await both.wait()
            await tx.lock_version(share=False)

    results = await asyncio.gather(upgrade(), upgrade(), return_exceptions=True)
    failed = [result for result in results if result is not None]
    assert [type(result) for result in failed] == [Contention]
    assert isinstance(failed[0], Unavailable)


async def test_sealed_values_open_only_in_their_place(database: Database, tenants: Tenants) -> None:
    row = new_id()
    async with database.transaction(tenants.a) as tx:
        blob = await tx.seal("people", "email", row, "ada@example.org")
        assert b"ada" not in blob
        assert await tx.open("people", "email", row, blob) == b"ada@example.org"
        with pytest.raises(Malformed):
            await tx.open("people", "email", new_id(), blob)
        tag = await tx.tag("email", "ada@example.org")
        assert tag == await tx.tag("email", "ada@example.org")
        assert tag != await tx.tag("address", "ada@example.org")
    async with database.transaction(tenants.b) as tx:
        with pytest.raises(Malformed):
            await tx.open("people", "email", row, blob)
        assert await tx.tag("email", "ada@example.org") != tag


async def test_system_work_commits_and_rolls_back(database: Database, tenants: Tenants) -> None:
    operator = new_id()
    insert = "INSERT INTO operators (id, name, token_hash) VALUES (%s, %s, %s)"
    with pytest.raises(KeyError):  # noqa: PT012
        async with database.system(SystemRole.PLATFORM) as tx:
            await tx.execute(insert, [operator, "Lost", bytes(32)])
            raise KeyError
    async with database.system(SystemRole.PLATFORM) as tx:
        assert await tx.fetch("SELECT id FROM operators") == []
        await tx.execute(insert, [operator, "Kept", bytes(32)])
    async with database.system(SystemRole.PLATFORM) as tx:
        assert await tx.fetch("SELECT id, name FROM operators") == [{"id": operator, "name": "Kept"}]


async def test_a_full_pool_is_unavailable_not_a_hang(database: Database, tenants: Tenants) -> None:
    small = Database(database._source, database._cipher, pool_size=1, wait=0.1)
    async with small, small.transaction(tenants.a):
        with pytest.raises(Unavailable):
            await small.query(tenants.a, "SELECT 1")
    assert database.fact_hook is None


async def test_times_come_back_in_utc(database: Database, tenants: Tenants) -> None:
    rows = await database.query(tenants.a, "SELECT created_at FROM tenants")
    offset = rows[0]["created_at"].utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0
