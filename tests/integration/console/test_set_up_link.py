"""The one-time link as a page."""

import pytest

from limen.kernel.principal import Role
from tests.integration.console.world import ConsoleWorld
from tests.support.identity import PASSWORD


async def test_the_first_owners_link(world: ConsoleWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    path = f"/setup/{created.setup_token}"
    async with world.stranger("acme.limen.test") as stranger:
        for _ in range(2):  # looking at it uses nothing up: mail scanners open links
            page = await stranger.get(path)
            assert page.status_code == 200
            assert 'name="email"' in page.text
        body = {"token": created.setup_token, "email": "o@acme.example", "name": "Olive", "password": PASSWORD}
        assert (await stranger.post("/api/v1/setup", json=body)).status_code == 201
        used = await stranger.get(path)
        assert used.status_code == 401
        assert "used already" in used.text


async def test_an_invited_persons_link_asks_for_a_password_only(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    invited = await world.identity.directory.create_person(acme.owner, "a@acme.example", "Ada", Role.MEMBER)
    async with world.stranger("acme.limen.test") as stranger:
        page = await stranger.get(f"/setup/{invited.setup_token}")
    assert page.status_code == 200
    assert 'name="email"' not in page.text
    assert 'name="password"' in page.text
    assert "a@acme.example" not in page.text


@pytest.mark.row("T1")
async def test_a_link_opens_at_its_own_tenants_host_and_at_the_bare_one(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await world.tenant("globex")
    invited = await world.identity.directory.create_person(acme.owner, "a@acme.example", "Ada", Role.MEMBER)
    path = f"/setup/{invited.setup_token}"
    for host, status in (("acme.limen.test", 200), ("limen.test", 200), ("globex.limen.test", 401)):
        async with world.stranger(host) as stranger:
            assert (await stranger.get(path)).status_code == status, host


@pytest.mark.parametrize("token", ["x", "ls1.0.0.0", "ls1." + "0" * 32 + "." + "0" * 32 + "." + "A" * 43])
async def test_a_guessed_link(world: ConsoleWorld, token: str) -> None:
    await world.tenant("acme")
    async with world.stranger("acme.limen.test") as stranger:
        assert (await stranger.get(f"/setup/{token}")).status_code == 401


async def test_an_old_link(world: ConsoleWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    world.clock.advance(24 * 3600 + 1)
    async with world.stranger("acme.limen.test") as stranger:
        assert (await stranger.get(f"/setup/{created.setup_token}")).status_code == 401
