"""Jobs of the ledger and the change feed on a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from limen.control.grants.feed import ChangeFeed
from limen.control.grants.tasks import OUTBOX_LIFE, expire_grants, prune_outbox
from limen.control.policy.model import AccessRequest
from limen.db.database import Database
from limen.kernel.access import Action
from limen.kernel.facts import Change, Fact, FactKind
from limen.kernel.ids import new_id
from tests.support.policy import PolicyWorld, SteppedClock
from tests.support.postgres import Tenants, add_tenant


async def change(database: Database, tenant: UUID) -> None:
    async with database.transaction(tenant) as tx:
        tx.fact_changed(Fact(FactKind.PERSON, new_id()))


@asynccontextmanager
async def running(feed: ChangeFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(20):
            await feed.ready.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(count: int, heard: list[Change]) -> None:
    async with asyncio.timeout(20):
        while len(heard) < count:
            await asyncio.sleep(0.01)


@pytest.mark.row("N4")
async def test_every_version_arrives_once_and_in_order(database: Database, tenants: Tenants) -> None:
    await change(database, tenants.a)  # before the feed: part of the state that subscribers read
    feed, heard = ChangeFeed(database), list[Change]()
    feed.subscribe(heard.append)
    async with running(feed):
        assert feed.is_current()
        await asyncio.gather(*(change(database, tenant) for tenant in (tenants.a, tenants.b) for _ in range(25)))
        await until(50, heard)
        await asyncio.sleep(0.1)
    versions = {tenant: [one.version for one in heard if one.tenant_id == tenant] for tenant in tenants}
    assert versions == {tenants.a: list(range(2, 27)), tenants.b: list(range(1, 26))}


async def test_a_tenant_born_later_is_heard_from_its_first_change(database: Database) -> None:
    feed, heard = ChangeFeed(database), list[Change]()
    feed.subscribe(heard.append)
    async with running(feed):
        born = await add_tenant(database, "late")
        await change(database, born)
        await until(1, heard)
    assert [(one.tenant_id, one.version) for one in heard] == [(born, 1)]


async def test_a_broken_subscriber_does_not_stop_the_others(database: Database, tenants: Tenants) -> None:
    feed, heard = ChangeFeed(database), list[Change]()

    def broken(_change: Change) -> None:
        raise RuntimeError("broken")

    feed.subscribe(broken)
    unsubscribe = feed.subscribe(heard.append)
    async with running(feed):
        await change(database, tenants.a)
        await until(1, heard)
        unsubscribe()
        await change(database, tenants.a)
        await asyncio.sleep(0.2)
    assert len(heard) == 1


async def test_expiry_finds_overdue_grants_of_every_tenant(database: Database, tenants: Tenants) -> None:
    world = PolicyWorld(database)
    for tenant in tenants:
        subject = world.person(tenant)
        resource = await world.resource(tenant, "wiki")
        await world.policy(tenant, "p", subject.id, resource.id)
        await world.administrator.request_access(AccessRequest(subject, resource.id, frozenset({Action.CONNECT})))
    assert await expire_grants(database, world.ledger, world.clock) == 0
    world.clock.advance(13 * 3600)
    assert await expire_grants(database, world.ledger, world.clock) == 2
    assert await expire_grants(database, world.ledger, world.clock) == 0


async def test_old_changes_are_pruned_and_young_ones_kept(database: Database, tenants: Tenants) -> None:
    await change(database, tenants.a)
    clock = SteppedClock()
    clock.instant = datetime.now(UTC) + OUTBOX_LIFE - timedelta(minutes=1)
    assert await prune_outbox(database, clock) == 0
    clock.advance(120)
    assert await prune_outbox(database, clock) == 1
    await change(database, tenants.a)
    rows = await database.query(tenants.a, "SELECT version FROM outbox WHERE tenant_id = %s", (tenants.a,))
    assert [row["version"] for row in rows] == [2], "pruning does not move versions"
