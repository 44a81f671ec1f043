"""The version protocol: re-decision on fresh facts, an outbox without gaps, one notification per version."""

import asyncio
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limen.db.database import Database, SystemRole, Tx
from limen.kernel.errors import NotFound
from limen.kernel.facts import Change, Fact, FactKind, RevokedGrant
from limen.kernel.ids import new_id
from tests.support.postgres import Tenants, add_tenant

FACT = Fact(FactKind.POLICY, UUID(int=7))


def revoked_grant(reason: str = "policy") -> RevokedGrant:
    return RevokedGrant(new_id(), 5, "vault", reason, None, new_id(), new_id())


async def changes(database: Database, tenant: UUID) -> list[Change]:
    rows = await database.query(tenant, "SELECT payload FROM outbox WHERE tenant_id = %s ORDER BY version", [tenant])
    return [msgspec.convert(row["payload"], Change) for row in rows]


async def version_of(database: Database, tenant: UUID) -> int:
    rows = await database.query(tenant, "SELECT version FROM tenant_versions WHERE tenant_id = %s", [tenant])
    return int(rows[0]["version"])


async def test_a_transaction_without_facts_counts_nothing(database: Database, tenants: Tenants) -> None:
    async with database.transaction(tenants.a) as tx:
        await tx.fetch("SELECT 1")
    assert await version_of(database, tenants.a) == 0
    assert await changes(database, tenants.a) == []


async def test_the_payload_holds_facts_and_the_revocations_of_the_hook(database: Database, tenants: Tenants) -> None:
    by_caller, by_hook = revoked_grant("asked"), revoked_grant("re-decided")
    later = Fact(FactKind.CREDENTIAL, UUID(int=8))
    seen: list[frozenset[Fact]] = []

    async def hook(tx: Tx, facts: frozenset[Fact]) -> None:
        seen.append(facts)
        if FACT in facts:
            tx.revoked(by_hook)
            tx.fact_changed(later)

    database.fact_hook = hook
    async with database.transaction(tenants.a) as tx:
        tx.fact_changed(FACT)
        tx.revoked(by_caller)
    assert seen == [frozenset({FACT}), frozenset({later})]
    assert await changes(database, tenants.a) == [Change(tenants.a, 1, (later, FACT), (by_caller, by_hook))]
    assert await version_of(database, tenants.a) == 1
    assert await version_of(database, tenants.b) == 0


async def test_a_revocation_alone_is_published_without_the_hook(database: Database, tenants: Tenants) -> None:
    async def hook(tx: Tx, facts: frozenset[Fact]) -> None:
        raise AssertionError("no fact has changed")

    database.fact_hook = hook
    grant = revoked_grant()
    async with database.transaction(tenants.a) as tx:
        tx.revoked(grant)
    assert (await changes(database, tenants.a))[0].revoked == (grant,)


async def test_a_failing_hook_undoes_everything(database: Database, tenants: Tenants) -> None:
    async def hook(tx: Tx, facts: frozenset[Fact]) -> None:
        raise NotFound("a policy points nowhere")

    database.fact_hook = hook
    called: list[str] = []
    with pytest.raises(NotFound):  # noqa: PT012
        async with database.transaction(tenants.a) as tx:
            await tx.execute("UPDATE tenants SET name = 'changed' WHERE id = %s", [tenants.a])
            tx.after_commit(lambda: called.append("no"))
            tx.fact_changed(FACT)
    assert await version_of(database, tenants.a) == 0
    assert await database.query(tenants.a, "SELECT 1 FROM tenants WHERE name = 'changed'") == []
    assert called == []


@pytest.mark.row("T3")
async def test_two_concurrent_changes_both_decide_on_fresh_facts(database: Database, tenants: Tenants) -> None:
    """Each change switches one of two facts off; a grant holds while both are on. Whoever commits second must see
    both switched off, although its own transaction began before the first one committed.
    """
    began = asyncio.Barrier(2)
    seen: list[set[str]] = []

    async def hook(tx: Tx, facts: frozenset[Fact]) -> None:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE tenant_id = %s", [tx.tenant_id])
        others = {str(row["payload"]["facts"][0]["id"]) for row in rows}
        seen.append(others | {str(fact.id) for fact in facts})

    async def change(fact: Fact) -> None:
        async with database.transaction(tenants.a) as tx:
            await tx.fetch("SELECT version FROM tenant_versions WHERE tenant_id = %s", [tx.tenant_id])
            tx.fact_changed(fact)
            await began.wait()

    database.fact_hook = hook
    facts = [Fact(FactKind.GROUP, UUID(int=1)), Fact(FactKind.GROUP, UUID(int=2))]
    await asyncio.gather(*map(change, facts))
    assert sorted(map(len, seen)) == [1, 2]
    assert [change.version for change in await changes(database, tenants.a)] == [1, 2]


@pytest.mark.row("T3")
async def test_a_change_waits_for_a_grant_that_is_being_issued(database: Database, tenants: Tenants) -> None:
    """Issuing holds the version shared; the hook of a concurrent change must see the issued grant."""
    hook_saw: list[int] = []
    issuing = asyncio.Event()

    async def hook(tx: Tx, facts: frozenset[Fact]) -> None:
        row = await tx.fetch_one("SELECT name FROM tenants WHERE id = %s", [tx.tenant_id])
        hook_saw.append(1 if row == {"name": "granted"} else 0)

    async def issue() -> None:
        async with database.transaction(tenants.a) as tx:
            assert await tx.lock_version(share=True) == 0
            issuing.set()
            # Longer than the change needs to reach its lock; the lock is what is being tested.
            await asyncio.sleep(0.2)
            await tx.execute("UPDATE tenants SET name = 'granted' WHERE id = %s", [tenants.a])

    async def change() -> None:
        await issuing.wait()
        async with database.transaction(tenants.a) as tx:
            tx.fact_changed(FACT)

    database.fact_hook = hook
    await asyncio.gather(issue(), change())
    assert hook_saw == [1]


async def test_shared_locks_do_not_wait_for_each_other(database: Database, tenants: Tenants) -> None:
    async with (
        asyncio.timeout(5),
        database.transaction(tenants.a) as first,
        database.transaction(tenants.a) as second,
    ):
        assert await first.lock_version(share=True) == await second.lock_version(share=True) == 0


async def test_the_version_of_an_unknown_tenant_is_not_found(database: Database, tenants: Tenants) -> None:
    with pytest.raises(NotFound):
        async with database.transaction(new_id()) as tx:
            tx.fact_changed(FACT)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=2, max_size=14))
async def test_the_outbox_has_no_gaps_under_any_mix_of_commits_and_rollbacks(
    database: Database, plan: list[tuple[str, bool]]
) -> None:
    tenants = {name: await add_tenant(database, f"mix-{name}-{new_id().hex}") for name in "ab"}
    observed: dict[str, list[int]] = {"a": [], "b": []}

    async def change(name: str, commits: bool) -> None:
        try:
            async with database.transaction(tenants[name]) as tx:
                tx.fact_changed(FACT)
                if not commits:
                    raise KeyError
        except KeyError:
            pass

    async def watch(name: str) -> None:
        """At no moment does a reader see a version before the ones below it."""
        for _ in range(5):
            versions = [change.version for change in await changes(database, tenants[name])]
            assert versions == list(range(1, len(versions) + 1))
            observed[name] = versions

    await asyncio.gather(*(change(*step) for step in plan), watch("a"), watch("b"))
    for name, tenant in tenants.items():
        committed = sum(commits for owner, commits in plan if owner == name)
        assert [change.version for change in await changes(database, tenant)] == list(range(1, committed + 1))
        assert await version_of(database, tenant) == committed


async def test_one_notification_per_version_reaches_a_listener(database: Database, tenants: Tenants) -> None:
    async with database.listen() as listener:
        assert await listener.wait(0.05) == []
        for tenant in (tenants.a, tenants.b, tenants.a):
            async with database.transaction(tenant) as tx:
                tx.fact_changed(FACT)
        received: list[str] = []
        async with asyncio.timeout(5):
            async for payload in listener:
                received.append(payload)
                if len(received) == 3:
                    break
    assert received == [f"{tenants.a}:1", f"{tenants.b}:1", f"{tenants.a}:2"]


async def test_the_feed_reads_the_outbox_of_all_tenants_and_nothing_else(database: Database, tenants: Tenants) -> None:
    for tenant in tenants:
        async with database.transaction(tenant) as tx:
            tx.fact_changed(FACT)
    async with database.system(SystemRole.FEED) as tx:
        rows = await tx.fetch("SELECT tenant_id FROM outbox")
    assert {row["tenant_id"] for row in rows} == set(tenants)
