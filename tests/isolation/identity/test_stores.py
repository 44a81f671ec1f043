"""Every store function of identity with two tenants: ids of one mean nothing to the other."""

from datetime import timedelta
from uuid import UUID

import pytest

from limen.control.identity.model import PersonState, TokenPurpose
from limen.control.identity.rules import Scope
from limen.control.identity.store import groups, people, sessions, throttle
from limen.db.database import Database
from limen.db.errors import ReferenceViolated
from limen.kernel.ids import new_id
from limen.kernel.principal import Role
from tests.support.identity import PASSWORD, IdentityWorld, TenantWorld


@pytest.fixture
async def both(database: Database) -> tuple[TenantWorld, TenantWorld]:
    world = IdentityWorld(database)
    return await world.tenant("acme"), await world.tenant("globex")


@pytest.mark.row("T1")
async def test_reads_find_nothing(both: tuple[TenantWorld, TenantWorld]) -> None:
    acme, globex = both
    ada = await globex.person("ada")
    group = await acme.world.identity.directory.create_group(globex.owner, "Engineers")
    session = await globex.sign_in("ada")
    now = acme.world.clock.now()
    ids = frozenset({ada, group.id})
    async with acme.world.database.transaction(acme.id) as tx:
        assert await people.find_person(tx, ada) is None
        assert await people.find_person(tx, ada, lock=True) is None
        assert await people.lock_password(tx, ada) is None
        assert await people.find_password(tx, globex.email("ada")) is None
        assert ada not in await people.lock_owners(tx)
        assert ada not in {p.id for p in await people.list_people(tx)}
        assert await people.names(tx, ids) == {}
        assert await groups.names(tx, ids) == {}
        assert await groups.find_group(tx, group.id) is None
        assert group.id not in {g.id for g in await groups.list_groups(tx)}
        assert await groups.facts(tx, [ada], session.session_id) == []
        assert await groups.principal_kind(tx, ada) is None
        assert await groups.principal_kind(tx, group.id) is None
        assert await sessions.find_owner(tx, session.session_id) is None
        assert await sessions.list_open(tx, None, now) == []
        assert await sessions.list_open(tx, ada, now) == []
    assert await sessions.find_alive(acme.world.database, acme.id, session.session_id, now) is None
    assert await sessions.find_alive(acme.world.database, globex.id, session.session_id, now) is not None


@pytest.mark.row("T1")
async def test_writes_change_nothing(both: tuple[TenantWorld, TenantWorld]) -> None:
    acme, globex = both
    ada = await globex.person("ada")
    group = await acme.world.identity.directory.create_group(globex.owner, "Engineers")
    await acme.world.identity.directory.add_member(globex.owner, group.id, ada)
    session = await globex.sign_in("ada")
    now = acme.world.clock.now()
    before = await snapshot(globex)
    async with acme.world.database.transaction(acme.id) as tx:
        await people.set_state(tx, ada, PersonState.INVITED)
        await people.set_role(tx, ada, Role.OWNER)
        await people.delete_password(tx, ada)
        await people.mark_removed(tx, ada, now)
        await people.void_links(tx, ada, now)
        await groups.delete_group(tx, group.id)
        assert not await groups.remove_member(tx, group.id, ada)
        assert await sessions.end(tx, session.session_id, "x", now) is None
        assert await sessions.end_all(tx, ada, "x", now) == []
        await sessions.set_expiry(tx, session.session_id, now)
    assert await snapshot(globex) == before
    assert await acme.world.identity.check_session(session.token, "203.0.113.7")


@pytest.mark.row("T2")
@pytest.mark.parametrize("write", ["password", "member", "link"])
async def test_rows_cannot_point_across(both: tuple[TenantWorld, TenantWorld], write: str) -> None:
    acme, globex = both
    ada = await globex.person("ada")
    own_group = await acme.world.identity.directory.create_group(acme.owner, "Engineers")
    now = acme.world.clock.now()

    async def point_across() -> None:
        async with acme.world.database.transaction(acme.id) as tx:
            if write == "password":
                await people.save_password(tx, ada, "$argon2id$x", now)
            elif write == "member":
                await groups.add_member(tx, own_group.id, ada, now)
            else:
                purpose = TokenPurpose.PASSWORD_RESET
                await people.insert_link(tx, new_id(), purpose, ada, b"x" * 32, now, now + timedelta(hours=1))

    with pytest.raises(ReferenceViolated):
        await point_across()


@pytest.mark.row("T1")
async def test_links_and_counters_are_of_their_tenant(both: tuple[TenantWorld, TenantWorld]) -> None:
    acme, globex = both
    now, link, secret = acme.world.clock.now(), new_id(), b"s" * 32
    async with acme.world.database.transaction(globex.id) as tx:
        await people.insert_link(tx, link, TokenPurpose.OWNER_SETUP, None, secret, now, now + timedelta(hours=1))
        counters = await throttle.lock_counters(tx, {Scope.ACCOUNT: b"t" * 32}, now)
        await throttle.save_counter(tx, b"t" * 32, counters[Scope.ACCOUNT].__class__(7, now, None))
    async with acme.world.database.transaction(acme.id) as tx:
        assert await people.peek_link(tx, link, secret, now) is None
        assert await people.use_link(tx, link, secret, now) is None
        await throttle.clear_counter(tx, b"t" * 32)
        assert (await throttle.lock_counters(tx, {Scope.ACCOUNT: b"t" * 32}, now))[Scope.ACCOUNT].failures == 0
    async with acme.world.database.transaction(globex.id) as tx:
        assert (await throttle.lock_counters(tx, {Scope.ACCOUNT: b"t" * 32}, now))[Scope.ACCOUNT].failures == 7
        assert await people.use_link(tx, link, secret, now) is not None


@pytest.mark.row("T1")
async def test_the_same_address_and_password_are_two_people(both: tuple[TenantWorld, TenantWorld]) -> None:
    acme, _ = both
    shared = "ada@example.org"
    made: dict[str, UUID] = {}
    for tenant in both:
        invited = await acme.world.identity.directory.create_person(tenant.owner, shared, "Ada", Role.MEMBER)
        await acme.world.identity.passwords.set_up(invited.setup_token, PASSWORD, "203.0.113.7")
        session = await acme.world.identity.sign_in_password(tenant.slug, shared, PASSWORD, "203.0.113.7")
        made[tenant.slug] = session.person_id
        assert session.tenant_id == tenant.id
    assert made["acme"] != made["globex"]


async def snapshot(tenant: TenantWorld) -> list[str]:
    lines: list[str] = []
    async with tenant.world.database.transaction(tenant.id) as tx:
        for table in ("people", "groups", "group_members", "password_credentials", "sessions", "one_time_tokens"):
            rows = await tx.fetch(f"SELECT t::text AS line FROM {table} t ORDER BY 1")
            lines += [row["line"] for row in rows]
    return lines
