"""Password sign-in: what it takes, what it leaves behind, what it refuses."""

import asyncio
from uuid import UUID

import pytest

from limen.control.identity.errors import SessionEnded, SignInDenied, WrongCredentials
from limen.control.identity.model import SessionKind
from limen.db.database import Database
from limen.kernel.errors import RateLimited, Unavailable
from limen.kernel.principal import Actor, ActorKind, Role
from tests.support.identity import PASSWORD, SOURCE, IdentityWorld, TenantWorld


@pytest.fixture
def world(database: Database) -> IdentityWorld:
    return IdentityWorld(database)


@pytest.fixture
async def acme(world: IdentityWorld) -> TenantWorld:
    return await world.tenant("acme")


async def audit_of(acme: TenantWorld, action: str) -> list[tuple[str, UUID | None]]:
    async with acme.world.database.transaction(acme.id) as tx:
        rows = await tx.fetch(
            "SELECT outcome, actor_id FROM audit_leaves WHERE tenant_id = %s AND action = %s ORDER BY id",
            (acme.id, action),
        )
    return [(row["outcome"], row["actor_id"]) for row in rows]


async def test_a_session_is_a_live_grant(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    session = await acme.sign_in("ada")
    who = await acme.world.identity.check_session(session.token, SOURCE)
    assert (who.tenant_id, who.person_id, who.session_id, who.role) == (acme.id, ada, session.session_id, Role.MEMBER)
    async with acme.world.database.transaction(acme.id) as tx:
        rows = await tx.fetch(
            "SELECT state, resource_kind, actions, expires_at FROM grants WHERE tenant_id = %s AND credential_id = %s",
            (acme.id, session.session_id),
        )
    assert [(r["state"], r["resource_kind"], r["actions"]) for r in rows] == [("live", "console", ["sign-in"])]
    assert session.expires_at <= rows[0]["expires_at"]


async def test_address_is_found_whatever_its_case_and_form(acme: TenantWorld) -> None:
    await acme.person("ada")
    identity = acme.world.identity
    session = await identity.sign_in_password("acme", "  ADA@Acme.Example ", PASSWORD, SOURCE)
    assert session.token


async def test_wrong_account_wrong_password_and_wrong_tenant_answer_alike(acme: TenantWorld) -> None:
    await acme.person("ada")
    identity = acme.world.identity
    messages = set()
    before = acme.world.hasher.verified
    for tenant, email, password in (
        ("acme", acme.email("ada"), "not the password at all"),
        ("acme", acme.email("nobody"), PASSWORD),
        ("nosuch", acme.email("ada"), PASSWORD),
    ):
        with pytest.raises(WrongCredentials) as caught:
            await identity.sign_in_password(tenant, email, password, SOURCE)
        messages.add((caught.value.message, caught.value.fix, caught.value.code))
    assert len(messages) == 1
    assert acme.world.hasher.verified == before + 3  # the same work each time


async def test_an_invited_person_cannot_sign_in(acme: TenantWorld) -> None:
    await acme.world.identity.directory.create_person(acme.owner, acme.email("new"), "New", Role.MEMBER)
    with pytest.raises(WrongCredentials):
        await acme.sign_in("new", password="")


async def test_denied_by_policy_means_no_session_and_a_record(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    admin = Actor(ActorKind.PERSON, acme.owner.person_id, SOURCE)
    await acme.world.administrator.suspend_person(admin, acme.id, ada, "left the badge on a train")
    with pytest.raises(SignInDenied):
        await acme.sign_in("ada")
    async with acme.world.database.transaction(acme.id) as tx:
        rows = await tx.fetch(
            "SELECT ended_reason FROM sessions WHERE tenant_id = %s AND person_id = %s AND ended_at IS NULL",
            (acme.id, ada),
        )
    assert rows == []
    assert [outcome for outcome, _ in await audit_of(acme, "identity.session.sign-in")] == ["denied"]
    await acme.world.administrator.lift_person(admin, acme.id, ada)
    assert (await acme.sign_in("ada")).token


async def test_every_attempt_is_recorded(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    await acme.sign_in("ada")
    for _ in range(6):
        with pytest.raises((WrongCredentials, RateLimited)):
            await acme.sign_in("ada", password="not the password")
    records = await audit_of(acme, "identity.session.sign-in")
    assert [outcome for outcome, _ in records] == ["ok", *["failed"] * 5, "denied"]
    assert [actor for _, actor in records] == [ada, *[None] * 6]  # a wrong password proves nobody


async def test_a_full_hashing_queue_refuses_and_does_not_count(acme: TenantWorld) -> None:
    await acme.person("ada")
    acme.world.hasher._capacity = 0
    for _ in range(10):
        with pytest.raises(Unavailable):
            await acme.sign_in("ada")
    acme.world.hasher._capacity = 8
    assert (await acme.sign_in("ada")).token


async def test_the_token_travels_only_the_way_it_was_issued_for(acme: TenantWorld) -> None:
    await acme.person("ada")
    session = await acme.sign_in("ada", kind=SessionKind.COOKIE)
    check = acme.world.identity.authenticate
    assert (await check(session.token, SOURCE, SessionKind.COOKIE)).csrf_token == session.csrf_token
    with pytest.raises(SessionEnded):
        await check(session.token, SOURCE, SessionKind.BEARER)


async def test_sessions_outlive_a_change_of_key(acme: TenantWorld) -> None:
    await acme.person("ada")
    before = await acme.sign_in("ada")
    acme.world.keys.rotate(acme.id)
    after = await acme.sign_in("ada")
    for session in (before, after):
        assert await acme.world.identity.check_session(session.token, SOURCE)


async def test_guessing_in_parallel_gets_as_far_as_in_a_row(acme: TenantWorld) -> None:
    await acme.person("ada")
    before = acme.world.hasher.verified
    results = await asyncio.gather(
        *(acme.sign_in("ada", password=f"guess number {n} of many") for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(r, WrongCredentials) for r in results) == 5
    assert sum(isinstance(r, RateLimited) for r in results) == 15
    assert acme.world.hasher.verified == before + 5
