"""Every store method of resources, policies and grants with two tenants: one never sees or moves what the other has."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from limen.control.grants import store as grants
from limen.control.grants.model import Block, CutReceipt
from limen.control.policy import store as policies
from limen.control.policy.model import AccessRequest, StoredPolicy
from limen.control.resources import store as resources
from limen.control.resources.model import Resource
from limen.db.database import Database, Tx
from limen.engine.model import Effect, Policy
from limen.kernel.access import Action, Grant, GrantState, ResourceKind, Subject
from limen.kernel.errors import LimenError
from limen.kernel.ids import new_id
from tests.support.policy import PolicyWorld
from tests.support.postgres import Tenants

pytestmark = [pytest.mark.row("T1"), pytest.mark.row("T2")]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Mine:
    """One of everything in tenant a."""

    def __init__(self, subject: Subject, resource: Resource, policy: StoredPolicy, grant: Grant, agent: UUID) -> None:
        self.subject, self.resource, self.policy, self.grant, self.agent = subject, resource, policy, grant, agent


@pytest.fixture
async def mine(database: Database, tenants: Tenants) -> Mine:
    world = PolicyWorld(database)
    subject, agent = world.person(tenants.a), new_id()
    resource = await world.resource(tenants.a, "wiki")
    policy = await world.policy(tenants.a, "staff", subject.id, resource.id)
    request = AccessRequest(subject, resource.id, frozenset({Action.CONNECT}), "192.0.2.1", agent_id=agent)
    grant = await world.administrator.request_access(request)
    async with database.transaction(tenants.a) as tx:
        await grants.insert_block(tx, Block(new_id(), new_id(), None, "x", NOW), None)
    return Mine(subject, resource, policy, grant, agent)


READS: dict[str, Callable[[Tx, Mine], Awaitable[Any]]] = {
    "resources.find": lambda tx, m: resources.find(tx, m.resource.id),
    "resources.find_named": lambda tx, _: resources.find_named(tx, ResourceKind.NETWORK, "wiki"),
    "resources.find_many": lambda tx, m: resources.find_many(tx, [m.resource.id]),
    "resources.list_all": lambda tx, _: resources.list_all(tx, None),
    "policies.all_policies": lambda tx, _: policies.all_policies(tx),
    "policies.find": lambda tx, m: policies.find(tx, m.policy.policy.id),
    "grants.find": lambda tx, m: grants.find(tx, m.grant.id),
    "grants.source_of": lambda tx, m: grants.source_of(tx, m.grant.id),
    "grants.live": lambda tx, _: grants.live(tx),
    "grants.live by subject": lambda tx, m: grants.live(tx, subjects=[m.subject.id]),
    "grants.live_of_agent": lambda tx, m: grants.live_of_agent(tx, m.agent, NOW),
    "grants.live_twin": lambda tx, m: grants.live_twin(tx, m.subject, m.resource.id, m.agent),
    "grants.newest": lambda tx, _: grants.newest(tx, 100, live_only=False),
    "grants.overdue": lambda tx, _: grants.overdue(tx, NOW + timedelta(days=9)),
    "grants.all_blocks": lambda tx, _: grants.all_blocks(tx),
}


@pytest.mark.parametrize("method", READS)
async def test_the_other_tenant_reads_nothing(database: Database, tenants: Tenants, mine: Mine, method: str) -> None:
    async with database.transaction(tenants.a) as tx:
        assert await READS[method](tx, mine), "the owner sees it, or this test proves nothing"
    async with database.transaction(tenants.b) as tx:
        assert not await READS[method](tx, mine)


WRITES: dict[str, Callable[[Tx, Mine], Awaitable[Any]]] = {
    "resources.delete": lambda tx, m: resources.delete(tx, m.resource.id),
    "policies.delete": lambda tx, m: policies.delete(tx, m.policy.policy.id),
    "grants.finish": lambda tx, m: grants.finish(tx, m.grant.id, GrantState.REVOKED, "x", NOW),
    "grants.lift_blocks": lambda tx, m: grants.lift_blocks(tx, m.subject.id, None, NOW, resource_id=None),
}


@pytest.mark.parametrize("method", WRITES)
async def test_the_other_tenant_changes_nothing(database: Database, tenants: Tenants, mine: Mine, method: str) -> None:
    async with database.transaction(tenants.b) as tx:
        assert not await WRITES[method](tx, mine)
    async with database.transaction(tenants.a) as tx:
        assert await resources.find(tx, mine.resource.id)
        assert await policies.find(tx, mine.policy.policy.id)
        found = await grants.find(tx, mine.grant.id)
        assert found is not None
        assert found.state is GrantState.LIVE
        assert len(await grants.all_blocks(tx)) == 1


async def test_a_policy_cannot_point_across(database: Database, tenants: Tenants, mine: Mine) -> None:
    policy = Policy(
        new_id(), "p", Effect.ALLOW, frozenset({new_id()}), frozenset({mine.resource.id}), frozenset({Action.CONNECT})
    )
    kinds = dict.fromkeys(policy.principals, "person")
    with pytest.raises(LimenError):
        async with database.transaction(tenants.b) as tx:
            await policies.insert(tx, StoredPolicy(policy, False, NOW), kinds)
    async with database.transaction(tenants.b) as tx:
        assert await policies.all_policies(tx) == []


async def test_a_receipt_cannot_point_across(database: Database, tenants: Tenants, mine: Mine) -> None:
    receipt = CutReceipt(mine.grant.id, mine.agent, "x", NOW, None, 0, 0)
    with pytest.raises(LimenError):
        async with database.transaction(tenants.b) as tx:
            await grants.insert_receipt(tx, receipt, NOW)


async def test_equal_names_and_numbers_do_not_meet(database: Database, tenants: Tenants, mine: Mine) -> None:
    twin = Resource(tenants.b, new_id(), ResourceKind.NETWORK, "Wiki", {"cidr": "10.0.0.1/32", "ports": []})
    async with database.transaction(tenants.b) as tx:
        assert await resources.insert(tx, twin, NOW)
        subject = Subject(tenants.b, mine.subject.kind, mine.subject.id)
        copy = Grant(
            new_id(),
            mine.grant.number,
            subject,
            twin.id,
            ResourceKind.NETWORK,
            mine.grant.actions,
            mine.grant.policy_id,
            1,
            NOW,
            NOW + timedelta(hours=1),
        )
        assert await grants.insert(tx, copy, None)
