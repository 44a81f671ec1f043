"""The policy administrator on a real database: issue, re-decide, revoke, suspend; never a stale grant."""

import asyncio
import random
from dataclasses import replace
from uuid import UUID

import pytest

from limen.control.policy.errors import AccessDenied
from limen.control.policy.model import AccessRequest
from limen.db.database import Database, Tx
from limen.engine.model import Effect
from limen.kernel.access import Action, Grant, GrantState, ResourceKind, Subject
from limen.kernel.errors import Conflict, Denied, Malformed, NotFound
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor, ActorKind
from tests.support.policy import PolicyWorld
from tests.support.postgres import Tenants

CONNECT = frozenset({Action.CONNECT})


@pytest.fixture
def world(database: Database) -> PolicyWorld:
    return PolicyWorld(database)


async def open_access(world: PolicyWorld, tenant: UUID) -> tuple[Subject, AccessRequest, Grant, UUID]:
    group = world.group(tenant)
    subject = world.person(tenant, group)
    resource = await world.resource(tenant, "wiki")
    await world.policy(tenant, "staff", group, resource.id)
    request = AccessRequest(subject, resource.id, CONNECT, source="192.0.2.9")
    return subject, request, await world.administrator.request_access(request), group


async def state_of(world: PolicyWorld, tenant: UUID, grant: Grant) -> tuple[GrantState, str | None]:
    async with world.database.transaction(tenant) as tx:
        record = await world.ledger.get(tx, grant.id)
    return record.state, record.ended_reason


async def audit_actions(database: Database, tenant: UUID) -> list[tuple[str, str]]:
    rows = await database.query(
        tenant, "SELECT action, outcome FROM audit_leaves WHERE tenant_id = %s ORDER BY at, id", (tenant,)
    )
    return [(row["action"], row["outcome"]) for row in rows]


@pytest.mark.row("N3")
async def test_a_grant_is_issued_once_and_handed_out_again(world: PolicyWorld, tenants: Tenants) -> None:
    _, request, grant, _ = await open_access(world, tenants.a)
    assert grant.actions == CONNECT
    again = await world.administrator.request_access(request)
    assert again.id == grant.id
    other_gateway = await world.administrator.request_access(replace(request, agent_id=new_id()))
    assert other_gateway.id != grant.id
    assert other_gateway.number != grant.number


async def test_a_denial_is_audited_although_it_raises(world: PolicyWorld, tenants: Tenants) -> None:
    subject = world.person(tenants.a)
    resource = await world.resource(tenants.a, "wiki")
    with pytest.raises(AccessDenied) as caught:
        await world.administrator.request_access(AccessRequest(subject, resource.id, CONNECT))
    assert caught.value.fix
    assert ("policy.access.decide", "denied") in await audit_actions(world.database, tenants.a)


async def test_partial_requests_get_what_is_allowed_and_nothing_else(world: PolicyWorld, tenants: Tenants) -> None:
    subject = world.person(tenants.a)
    mount = await world.resource(tenants.a, "app", ResourceKind.VAULT)
    await world.policy(tenants.a, "readers", subject.id, mount.id, "read", "list")
    wanted = frozenset({Action.READ, Action.LIST, Action.WRITE})
    with pytest.raises(AccessDenied):
        await world.administrator.request_access(AccessRequest(subject, mount.id, wanted))
    grant = await world.administrator.request_access(AccessRequest(subject, mount.id, wanted, partial=True))
    assert grant.actions == {Action.READ, Action.LIST}


@pytest.mark.row("N4")
async def test_leaving_the_group_revokes_in_the_same_commit(world: PolicyWorld, tenants: Tenants) -> None:
    subject, _, grant, group = await open_access(world, tenants.a)
    await world.leave(subject, group)
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED
    rows = await world.database.query(
        tenants.a,
        "SELECT payload FROM outbox WHERE tenant_id = %s ORDER BY version DESC LIMIT 1",
        (tenants.a,),
    )
    assert [entry["id"] for entry in rows[0]["payload"]["revoked"]] == [str(grant.id)]


@pytest.mark.row("N4")
async def test_a_policy_with_two_reasons_ends_with_the_second(world: PolicyWorld, tenants: Tenants) -> None:
    subject, request, grant, group = await open_access(world, tenants.a)
    await world.policy(tenants.a, "direct", subject.id, request.resource_id)
    await world.leave(subject, group)
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.LIVE
    async with world.database.transaction(tenants.a) as tx:
        policies = {stored.policy.name: stored.policy.id for stored in await world.policies.list_all(tx)}
    await world.drop_policy(tenants.a, policies["direct"])
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED


async def test_a_new_deny_policy_and_a_removed_resource_revoke(world: PolicyWorld, tenants: Tenants) -> None:
    subject, request, grant, _ = await open_access(world, tenants.a)
    deny = await world.policy(tenants.a, "freeze", subject.id, request.resource_id, effect=Effect.DENY)
    assert await state_of(world, tenants.a, grant) == (GrantState.REVOKED, "denied by policy 'freeze'")
    await world.drop_policy(tenants.a, deny.policy.id)
    second = await world.administrator.request_access(request)
    async with world.database.transaction(tenants.a) as tx:
        await world.resources.remove(tx, SYSTEM, request.resource_id)
    assert await state_of(world, tenants.a, second) == (GrantState.REVOKED, "the resource was removed")


async def test_a_policy_that_ends_earlier_now_revokes(world: PolicyWorld, tenants: Tenants) -> None:
    subject, request, grant, _ = await open_access(world, tenants.a)
    freeze = {"kind": "time-window", "days": [1, 2, 3, 4, 5, 6, 7], "start": "13:00", "end": "14:00", "zone": "UTC"}
    await world.policy(tenants.a, "lunch", subject.id, request.resource_id, effect=Effect.DENY, conditions=[freeze])
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED
    shorter = await world.administrator.request_access(request)
    assert shorter.expires_at.hour == 13


@pytest.mark.row("N4")
async def test_suspension_ends_all_and_denies_until_lifted(world: PolicyWorld, tenants: Tenants) -> None:
    ended: list[tuple[UUID, str]] = []

    class Ender:
        async def end_credentials(self, tx: Tx, subject_id: UUID, reason: str) -> int:
            ended.append((subject_id, reason))
            return 1

    world.administrator.add_ender(Ender())
    subject, request, grant, _ = await open_access(world, tenants.a)
    assert (await world.administrator.suspend_person(SYSTEM, tenants.a, subject.id, "left the company")).fresh
    assert ended == [(subject.id, "suspended")]
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED
    with pytest.raises(AccessDenied, match="suspended until lifted"):
        await world.administrator.request_access(request)
    assert not (await world.administrator.suspend_person(SYSTEM, tenants.a, subject.id, "again")).fresh
    assert await world.administrator.lift_person(SYSTEM, tenants.a, subject.id)
    assert not await world.administrator.lift_person(SYSTEM, tenants.a, subject.id)
    fresh = await world.administrator.request_access(request)
    assert fresh.id != grant.id


async def test_a_refused_suspension_changes_nothing(world: PolicyWorld, tenants: Tenants) -> None:
    subject, _, grant, _ = await open_access(world, tenants.a)
    with pytest.raises(Denied, match="not yourself"):
        await world.administrator.suspend_person(Actor(ActorKind.PERSON, subject.id), tenants.a, subject.id, "x")
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.LIVE


async def test_a_revoked_grant_stays_denied_for_that_resource_only(world: PolicyWorld, tenants: Tenants) -> None:
    subject, request, grant, group = await open_access(world, tenants.a)
    other = await world.resource(tenants.a, "mail")
    await world.policy(tenants.a, "mail", group, other.id)
    await world.administrator.revoke_grant(SYSTEM, tenants.a, grant.id, "looks wrong")
    with pytest.raises(AccessDenied, match="revoked for this resource"):
        await world.administrator.request_access(request)
    assert await world.administrator.request_access(replace(request, resource_id=other.id))
    assert await world.administrator.lift_denial(SYSTEM, tenants.a, subject.id, request.resource_id)
    assert await world.administrator.request_access(request)


async def test_expiry_marks_and_audits_each_grant_once(world: PolicyWorld, tenants: Tenants) -> None:
    _, _, grant, _ = await open_access(world, tenants.a)
    world.clock.advance(13 * 3600)
    async with world.database.transaction(tenants.a) as tx:
        assert [one.id for one in await world.ledger.expire_overdue(tx)] == [grant.id]
    async with world.database.transaction(tenants.a) as tx:
        assert await world.ledger.expire_overdue(tx) == []
    assert (await audit_actions(world.database, tenants.a)).count(("grants.grant.expire", "ok")) == 1


async def test_bad_policies_leave_nothing_behind(world: PolicyWorld, tenants: Tenants) -> None:
    group = world.group(tenants.a)
    resource = await world.resource(tenants.a, "wiki")
    with pytest.raises(NotFound, match="unknown group"):
        await world.policy(tenants.a, "p", new_id(), resource.id)
    with pytest.raises(NotFound, match="unknown resource"):
        await world.policy(tenants.a, "p", group, new_id())
    with pytest.raises(Malformed):
        await world.policy(tenants.a, "p", group, resource.id, "read")
    await world.policy(tenants.a, "p", group, resource.id)
    with pytest.raises(Conflict):
        await world.policy(tenants.a, "P", group, resource.id)
    async with world.database.transaction(tenants.a) as tx:
        assert [stored.policy.name for stored in await world.policies.list_all(tx)] == ["p"]


@pytest.mark.row("T1")
async def test_nothing_of_another_tenant_is_found(world: PolicyWorld, tenants: Tenants) -> None:
    subject, request, grant, group = await open_access(world, tenants.a)
    mine = await world.resource(tenants.b, "wiki")
    intruder = world.person(tenants.b)
    with pytest.raises(NotFound):
        await world.administrator.request_access(AccessRequest(intruder, request.resource_id, CONNECT))
    with pytest.raises(NotFound):
        await world.administrator.revoke_grant(SYSTEM, tenants.b, grant.id, "x")
    with pytest.raises(NotFound):
        await world.administrator.suspend_person(SYSTEM, tenants.b, subject.id, "x")
    with pytest.raises(NotFound):
        await world.policy(tenants.b, "p", group, mine.id)
    with pytest.raises(NotFound):
        await world.policy(tenants.b, "p", intruder.id, request.resource_id)
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.LIVE


@pytest.mark.row("N4")
@pytest.mark.parametrize("seed", range(6))
async def test_no_grant_outlives_its_facts_under_concurrency(world: PolicyWorld, tenants: Tenants, seed: int) -> None:
    """Requests, policy changes and suspensions race; afterwards each live grant is allowed on the final facts."""
    rng = random.Random(seed)
    people = [world.person(tenants.a) for _ in range(3)]
    places = [(await world.resource(tenants.a, f"r{number}")).id for number in range(3)]

    async def ask() -> None:
        for _ in range(12):
            request = AccessRequest(rng.choice(people), rng.choice(places), CONNECT)
            try:
                await world.administrator.request_access(request)
            except AccessDenied:
                await asyncio.sleep(0)

    async def rewrite(worker: int) -> None:
        for turn in range(8):
            subject, place = rng.choice(people), rng.choice(places)
            stored = await world.policy(tenants.a, f"w{worker} t{turn}", subject.id, place)
            await asyncio.sleep(rng.random() / 100)
            if rng.random() < 0.7:
                await world.drop_policy(tenants.a, stored.policy.id)

    async def suspend() -> None:
        for _ in range(6):
            subject = rng.choice(people)
            await world.administrator.suspend_person(SYSTEM, tenants.a, subject.id, "drill")
            await asyncio.sleep(rng.random() / 100)
            if rng.random() < 0.6:
                await world.administrator.lift_person(SYSTEM, tenants.a, subject.id)

    await asyncio.gather(ask(), ask(), ask(), rewrite(1), rewrite(2), suspend())
    async with world.database.transaction(tenants.a) as tx:
        for record in await world.ledger.live(tx):
            request = AccessRequest(record.grant.subject, record.grant.resource_id, record.grant.actions)
            assert (await world.administrator.explain(tx, request)).allowed
        rows = await tx.fetch("SELECT version, payload FROM outbox WHERE tenant_id = %s ORDER BY version", (tenants.a,))
        ended = await tx.fetch("SELECT id FROM grants WHERE tenant_id = %s AND state = 'revoked'", (tenants.a,))
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    announced = [entry["id"] for row in rows for entry in row["payload"]["revoked"]]
    assert sorted(announced) == sorted(str(row["id"]) for row in ended), "each revocation is announced exactly once"


@pytest.mark.row("N4")
async def test_a_change_waits_for_a_grant_that_is_being_issued(world: PolicyWorld, tenants: Tenants) -> None:
    """The interleaving that the shared lock exists for: decided, not committed yet, and the policy goes."""
    subject, resource = world.person(tenants.a), await world.resource(tenants.a, "wiki")
    stored = await world.policy(tenants.a, "staff", subject.id, resource.id)
    async with world.database.transaction(tenants.a) as tx:
        grant = await world.administrator.issue(tx, AccessRequest(subject, resource.id, CONNECT))
        assert isinstance(grant, Grant)
        dropping = asyncio.create_task(world.drop_policy(tenants.a, stored.policy.id))
        await asyncio.wait([dropping], timeout=0.5)
    await dropping
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED


@pytest.mark.row("N4")
async def test_a_grant_issued_before_a_change_commits_is_seen_by_it(world: PolicyWorld, tenants: Tenants) -> None:
    subject, resource = world.person(tenants.a), await world.resource(tenants.a, "wiki")
    stored = await world.policy(tenants.a, "staff", subject.id, resource.id)
    async with world.database.transaction(tenants.a) as tx:
        await world.policies.remove(tx, SYSTEM, stored.policy.id)
        grant = await world.administrator.request_access(AccessRequest(subject, resource.id, CONNECT))
    assert (await state_of(world, tenants.a, grant))[0] is GrantState.REVOKED
