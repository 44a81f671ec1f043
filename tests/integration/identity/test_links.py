"""One-time links: who may use them, once, and for how long."""

import asyncio

import pytest

from limen.control.identity.errors import LinkUsed, WrongCredentials
from limen.control.identity.model import Person, PersonState
from limen.db.database import Database
from limen.kernel.errors import Conflict, Malformed, Unauthenticated
from limen.kernel.principal import Role
from tests.support.identity import PASSWORD, SOURCE, IdentityWorld


@pytest.fixture
def world(database: Database) -> IdentityWorld:
    return IdentityWorld(database)


async def test_the_owners_link_makes_one_owner(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    set_up = world.identity.passwords.set_up
    owner = await set_up(created.setup_token, PASSWORD, SOURCE, "Olive@Acme.Example", " Olive  Owner ")
    assert (owner.email, owner.role, owner.state) == ("olive@acme.example", Role.OWNER, PersonState.ACTIVE)
    with pytest.raises(LinkUsed):
        await set_up(created.setup_token, PASSWORD, SOURCE, "second@acme.example", "Second")
    assert (await world.identity.sign_in_password("acme", "olive@acme.example", PASSWORD, SOURCE)).token


async def test_of_two_racing_uses_one_wins(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    results = await asyncio.gather(
        *(
            world.identity.passwords.set_up(created.setup_token, PASSWORD, SOURCE, f"p{n}@acme.example", f"P{n}")
            for n in range(6)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(r, Person) for r in results) == 1
    assert sum(isinstance(r, LinkUsed) for r in results) == 5
    async with world.database.transaction(created.tenant.id) as tx:
        assert len(await tx.fetch("SELECT id FROM people WHERE tenant_id = %s", (created.tenant.id,))) == 1


@pytest.mark.parametrize(
    ("password", "email", "name"),
    [
        ("too short", "olive@acme.example", "Olive"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "olive@acme.example", "Olive"),
        ("x" * 12 + "yz1" * 400, "olive@acme.example", "Olive"),
        (PASSWORD, "not an address", "Olive"),
        (PASSWORD, "olive@acme.example", "  "),
        (PASSWORD, "olive@acme.example", "Ol\x00ive"),
    ],
)
async def test_a_bad_answer_does_not_use_the_link_up(
    world: IdentityWorld, password: str, email: str, name: str
) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    set_up = world.identity.passwords.set_up
    with pytest.raises(Malformed):
        await set_up(created.setup_token, password, SOURCE, email, name)
    assert await set_up(created.setup_token, PASSWORD, SOURCE, "olive@acme.example", "Olive")


async def test_a_link_is_good_for_a_day(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    world.clock.advance(24 * 3600)
    with pytest.raises(LinkUsed):
        await world.identity.passwords.set_up(created.setup_token, PASSWORD, SOURCE, "olive@acme.example", "Olive")


async def test_a_newer_link_voids_the_older(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    ada = await acme.person("ada")
    first = await world.identity.directory.reset_link(acme.owner, ada)
    second = await world.identity.directory.reset_link(acme.owner, ada)
    with pytest.raises(LinkUsed):
        await world.identity.passwords.set_up(first, "a different lamp and door", SOURCE)
    await world.identity.passwords.set_up(second, "a different lamp and door", SOURCE)
    with pytest.raises(WrongCredentials):
        await acme.sign_in("ada")


async def test_removing_a_person_voids_their_link(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    invited = await world.identity.directory.create_person(acme.owner, acme.email("ada"), "Ada", Role.MEMBER)
    await world.identity.directory.remove_person(acme.owner, invited.person.id)
    with pytest.raises(LinkUsed):
        await world.identity.passwords.set_up(invited.setup_token, PASSWORD, SOURCE)


async def test_made_up_and_foreign_tokens_cost_no_hash(world: IdentityWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    invited = await world.identity.directory.create_person(acme.owner, acme.email("ada"), "Ada", Role.MEMBER)
    tenant, link, secret = invited.setup_token.split(".")[1:]
    hashed: list[bytes] = []
    world.hasher.hash = hashed.append  # type: ignore[assignment]
    for token in (
        "",
        "ls1.x.y.z",
        f"ls1.{tenant}.{link}.{'A' * 43}",
        f"ls1.{globex.id.hex}.{link}.{secret}",
        invited.setup_token + "\n",
    ):
        with pytest.raises(Unauthenticated):
            await world.identity.passwords.set_up(token, PASSWORD, SOURCE, "x@acme.example", "X")
    assert hashed == []


async def test_an_owners_address_that_is_taken_leaves_the_link(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    async with world.database.transaction(acme.id) as tx:
        token = await world.identity.invite_owner(tx, world.clock.now())
    with pytest.raises(Conflict):
        await world.identity.passwords.set_up(token, PASSWORD, SOURCE, acme.owner_email, "Again")
    assert await world.identity.passwords.set_up(token, PASSWORD, SOURCE, "new@acme.example", "New")
