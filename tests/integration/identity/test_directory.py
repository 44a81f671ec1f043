"""People, groups, roles, and the facts that decisions rest on."""

import asyncio

import pytest

from limen.control.identity.model import PersonState, SignInMethod
from limen.db.database import Database
from limen.kernel.errors import Conflict, Denied, Malformed, NotFound
from limen.kernel.ids import new_id
from limen.kernel.principal import Principal, Role
from tests.support.identity import SOURCE, IdentityWorld, TenantWorld


@pytest.fixture
async def acme(database: Database) -> TenantWorld:
    return await IdentityWorld(database).tenant("acme")


async def version(acme: TenantWorld) -> int:
    async with acme.world.database.transaction(acme.id) as tx:
        return await tx.lock_version(share=True)


async def test_facts_of_a_person(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    directory = acme.world.identity.directory
    group = await directory.create_group(acme.owner, "Engineers")
    await directory.add_member(acme.owner, group.id, ada)
    session = await acme.sign_in("ada")
    async with acme.world.database.transaction(acme.id) as tx:
        everyone = await acme.world.identity.everyone(tx)
        facts = await acme.world.identity.subject_facts(tx, ada, session.session_id)
        nobody = await acme.world.identity.subject_facts(tx, new_id())
        both = await acme.world.identity.facts_of(tx, [ada, acme.owner.person_id or new_id(), new_id()])
    assert facts is not None
    assert facts.groups == {everyone, group.id}
    assert (facts.state, facts.role) == (PersonState.ACTIVE, Role.MEMBER)
    assert facts.sign_in_method is SignInMethod.PASSWORD
    assert nobody is None
    assert both.keys() == {ada, acme.owner.person_id}


async def test_an_ended_session_has_no_method(acme: TenantWorld) -> None:
    who = await acme.principal("owner")
    await acme.world.identity.sessions.sign_out(who)
    assert who.person_id is not None
    async with acme.world.database.transaction(acme.id) as tx:
        facts = await acme.world.identity.subject_facts(tx, who.person_id, who.session_id)
    assert facts is not None
    assert facts.sign_in_method is None


async def test_membership_changes_are_facts(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    directory = acme.world.identity.directory
    group = await directory.create_group(acme.owner, "Engineers")
    before = await version(acme)
    await directory.add_member(acme.owner, group.id, ada)
    assert await version(acme) == before + 1
    await directory.add_member(acme.owner, group.id, ada)
    assert await version(acme) == before + 1  # nothing changed
    await directory.remove_member(acme.owner, group.id, ada)
    assert await version(acme) == before + 2
    await directory.delete_group(acme.owner, group.id)
    assert await version(acme) == before + 3
    with pytest.raises(NotFound):
        await directory.delete_group(acme.owner, group.id)


async def test_the_built_in_group_cannot_be_changed(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    directory = acme.world.identity.directory
    everyone = next(group for group in await directory.list_groups(acme.owner) if group.builtin)
    for change in (
        directory.delete_group(acme.owner, everyone.id),
        directory.add_member(acme.owner, everyone.id, ada),
        directory.remove_member(acme.owner, everyone.id, ada),
    ):
        with pytest.raises(Conflict):
            await change
    with pytest.raises(Conflict):
        await directory.create_group(acme.owner, "Everyone")


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\x00b", "a\u202eb", "a\nb"])
async def test_names_that_are_refused(acme: TenantWorld, name: str) -> None:
    with pytest.raises(Malformed):
        await acme.world.identity.directory.create_group(acme.owner, name)
    with pytest.raises(Malformed):
        await acme.world.identity.directory.create_person(acme.owner, "x@acme.example", name, Role.MEMBER)


async def test_one_address_one_person_until_removed(acme: TenantWorld) -> None:
    ada = await acme.person("ada")
    directory = acme.world.identity.directory
    with pytest.raises(Conflict):
        await directory.create_person(acme.owner, "ADA@acme.example", "Ada again", Role.MEMBER)
    await directory.remove_person(acme.owner, ada)
    with pytest.raises(NotFound):
        await directory.get_person(acme.owner, ada)
    again = await acme.person("ada")
    assert again != ada
    async with acme.world.database.transaction(acme.id) as tx:
        assert await acme.world.identity.names(tx, frozenset({ada})) == {ada: "Ada"}  # the trail still has a name


async def test_search_is_by_name_and_address_whatever_the_case(acme: TenantWorld) -> None:
    await acme.person("ada")
    await acme.person("grace")
    directory = acme.world.identity.directory
    assert [p.name for p in await directory.search_people(acme.owner, "GRA")] == ["Grace"]
    assert len(await directory.search_people(acme.owner, "acme.example")) == 3
    assert await directory.search_people(acme.owner, "nobody") == []


async def test_only_owners_make_and_unmake_owners(acme: TenantWorld) -> None:
    ada = await acme.person("ada", Role.ADMIN)
    bob = await acme.person("bob")
    admin = await acme.principal("ada")
    directory = acme.world.identity.directory
    owner = acme.owner.person_id
    assert owner is not None
    for act in (
        directory.create_person(admin, "x@acme.example", "X", Role.OWNER),
        directory.set_role(admin, bob, Role.OWNER),
        directory.set_role(admin, ada, Role.OWNER),
        directory.set_role(admin, owner, Role.MEMBER),
        directory.remove_person(admin, owner),
        directory.reset_link(admin, owner),
    ):
        with pytest.raises(Denied):
            await act
    assert (await directory.set_role(admin, bob, Role.AUDITOR)).role is Role.AUDITOR


async def test_the_last_owner_stays(acme: TenantWorld) -> None:
    directory = acme.world.identity.directory
    owner = acme.owner.person_id
    assert owner is not None
    for act in (directory.set_role(acme.owner, owner, Role.ADMIN), directory.remove_person(acme.owner, owner)):
        with pytest.raises(Conflict):
            await act


async def test_two_owners_removing_each_other_leave_one(acme: TenantWorld) -> None:
    second = await acme.person("second", Role.OWNER)
    other = Principal(acme.id, second, None, Role.OWNER, SOURCE)
    directory = acme.world.identity.directory
    assert acme.owner.person_id is not None
    results = await asyncio.gather(
        directory.remove_person(acme.owner, second),
        directory.remove_person(other, acme.owner.person_id),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]


async def test_operators_see_nothing_inside(acme: TenantWorld) -> None:
    operator = Principal(None, None, None, None, SOURCE, operator_id=new_id())
    with pytest.raises(Denied):
        await acme.world.identity.directory.list_people(operator)
