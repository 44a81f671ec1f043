"""Row I5 as a timeline with an injected clock."""

import pytest

from limen.control.identity.errors import WrongCredentials
from limen.db.database import Database
from limen.kernel.errors import RateLimited
from tests.support.identity import IdentityWorld, TenantWorld

WRONG = "certainly not the password"


@pytest.fixture
async def acme(database: Database) -> TenantWorld:
    acme = await IdentityWorld(database).tenant("acme")
    await acme.person("ada")
    return acme


async def fail(acme: TenantWorld, times: int, source: str = "198.51.100.20", name: str = "ada") -> None:
    for _ in range(times):
        with pytest.raises(WrongCredentials):
            await acme.sign_in(name, password=WRONG, source=source)


async def locked(acme: TenantWorld, source: str = "198.51.100.20", name: str = "ada") -> float:
    """For how long the door is shut, even with the right password; nothing may be hashed."""
    before = acme.world.hasher.verified
    with pytest.raises(RateLimited) as caught:
        await acme.sign_in(name, source=source)
    assert acme.world.hasher.verified == before
    return caught.value.retry_after


@pytest.mark.row("I5")
async def test_timeline(acme: TenantWorld) -> None:
    clock = acme.world.clock
    await fail(acme, 5)
    assert await locked(acme) == 60
    clock.advance(59)
    assert await locked(acme) == 1
    for _ in range(5):  # failures 6 to 10, each after its lock is over
        clock.advance(60)
        await fail(acme, 1)
    assert await locked(acme) == 300
    for _ in range(10):  # failures 11 to 20
        clock.advance(300)
        await fail(acme, 1)
    assert await locked(acme) == 3600
    clock.advance(3599)
    assert await locked(acme) == 1
    clock.advance(1)
    assert (await acme.sign_in("ada", source="198.51.100.20")).token


@pytest.mark.row("I5")
async def test_success_clears_the_account(acme: TenantWorld) -> None:
    await fail(acme, 4)
    await acme.sign_in("ada", source="198.51.100.20")
    await fail(acme, 4)
    assert (await acme.sign_in("ada", source="198.51.100.20")).token


@pytest.mark.row("I5")
async def test_strangers_do_not_lock_the_owner_out(acme: TenantWorld) -> None:
    await fail(acme, 5)
    assert await locked(acme, source="198.51.100.99") == 60  # the same client network
    assert (await acme.sign_in("ada", source="203.0.113.9")).token  # another one


@pytest.mark.row("I5")
async def test_one_address_guessing_at_many_accounts_is_stopped(acme: TenantWorld) -> None:
    for account in range(10):
        await fail(acme, 3, name=f"person{account}")
    assert await locked(acme, name="ada") == 60
    assert (await acme.sign_in("ada", source="198.51.100.21")).token  # a neighbour in the same network


@pytest.mark.row("I5")
async def test_success_takes_only_itself_off_the_address(acme: TenantWorld) -> None:
    await acme.person("eve")
    for account in range(9):
        await fail(acme, 3, name=f"person{account}")
    await acme.sign_in("eve", source="198.51.100.20")
    await fail(acme, 3, name="person9")
    assert await locked(acme) == 60


@pytest.mark.row("I5")
async def test_unknown_accounts_are_throttled_like_known_ones(acme: TenantWorld) -> None:
    await fail(acme, 5, name="nobody")
    assert await locked(acme, name="nobody") == 60


@pytest.mark.row("I5")
async def test_unknown_tenants_are_throttled_by_address(acme: TenantWorld) -> None:
    identity = acme.world.identity
    for _ in range(30):
        with pytest.raises(WrongCredentials):
            await identity.sign_in_password("nosuch", "ada@acme.example", WRONG, "198.51.100.20")
    before = acme.world.hasher.verified
    with pytest.raises(RateLimited):
        await identity.sign_in_password("nosuch", "ada@acme.example", WRONG, "198.51.100.20")
    assert acme.world.hasher.verified == before


@pytest.mark.row("I5")
async def test_a_reset_opens_the_account_again(acme: TenantWorld) -> None:
    await fail(acme, 5)
    people = await acme.world.identity.directory.list_people(acme.owner)
    ada = next(person.id for person in people if person.email == acme.email("ada"))
    token = await acme.world.identity.directory.reset_link(acme.owner, ada)
    new = "a lamp that was never lit before"
    await acme.world.identity.passwords.set_up(token, new, "198.51.100.20")
    assert (await acme.sign_in("ada", password=new, source="198.51.100.20")).token


@pytest.mark.row("I5")
async def test_own_password_change_is_throttled_too(acme: TenantWorld) -> None:
    who = await acme.principal("ada")
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await acme.world.identity.passwords.change(who, WRONG, "another fine long password")
    with pytest.raises(RateLimited):
        await acme.world.identity.passwords.change(who, WRONG, "another fine long password")


@pytest.mark.row("I5")
async def test_counters_of_tenants_are_apart(acme: TenantWorld) -> None:
    globex = await acme.world.tenant("globex")
    await globex.person("ada")
    await fail(acme, 5)
    assert (await globex.sign_in("ada", source="198.51.100.20")).token


@pytest.mark.row("I5")
async def test_counters_do_not_pile_up(acme: TenantWorld) -> None:
    for person in range(6):
        await fail(acme, 1, source=f"198.51.{person}.1")
    assert await counters(acme) == 12
    acme.world.clock.advance(24 * 3600 + 1)
    await fail(acme, 1)
    assert await counters(acme) == 2


async def counters(acme: TenantWorld) -> int:
    async with acme.world.database.transaction(acme.id) as tx:
        return len(await tx.fetch("SELECT tag FROM sign_in_attempts WHERE tenant_id = %s", (acme.id,)))
