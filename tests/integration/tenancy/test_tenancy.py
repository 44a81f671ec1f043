"""Opening tenants, finding them, operators' tokens."""

import asyncio

import pytest

from limen.control.tenancy.model import CreatedTenant
from limen.db.database import Database
from limen.kernel.errors import Conflict, Malformed, Unauthenticated, Unavailable
from limen.kernel.ids import new_id
from tests.support.identity import IdentityWorld


@pytest.fixture
def world(database: Database) -> IdentityWorld:
    return IdentityWorld(database)


async def test_a_tenant_is_born_with_all_it_needs(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", " Acme Ltd ")
    tenant = created.tenant
    assert (tenant.slug, tenant.name) == ("acme", "Acme Ltd")
    assert tenant.id in world.keys.keys
    assert await world.tenancy.find_tenant_id("acme") == tenant.id
    async with world.database.transaction(tenant.id) as tx:
        assert await world.identity.everyone(tx)
        assert await world.resources.console(tx)
        rows = await tx.fetch(
            "SELECT actor_kind, actor_id, outcome FROM audit_leaves WHERE tenant_id = %s AND action = %s",
            (tenant.id, "tenancy.tenant.create"),
        )
    assert [(r["actor_kind"], r["actor_id"], r["outcome"]) for r in rows] == [("operator", world.operator.id, "ok")]
    assert created.setup_token.startswith(f"ls1.{tenant.id.hex}.")


async def test_a_slug_is_taken_once_even_in_a_race(world: IdentityWorld) -> None:
    results = await asyncio.gather(
        *(world.tenancy.create_tenant(world.operator, "acme", f"Acme {n}") for n in range(4)), return_exceptions=True
    )
    assert sum(isinstance(r, CreatedTenant) for r in results) == 1
    assert sum(isinstance(r, Conflict) for r in results) == 3
    assert len(await world.tenancy.list_tenants()) == 1


async def test_a_failing_hook_leaves_nothing(world: IdentityWorld) -> None:
    async def fails(*_: object) -> None:
        raise Unavailable("no")

    world.tenancy._on_created = (*world.tenancy._on_created, fails)
    with pytest.raises(Unavailable):
        await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    assert await world.tenancy.list_tenants() == []
    world.tenancy._on_created = world.tenancy._on_created[:-1]
    assert await world.tenancy.create_tenant(world.operator, "acme", "Acme")


async def test_no_keys_no_tenant(world: IdentityWorld) -> None:
    async def down(_tenant_id: object) -> None:
        raise Unavailable("keyd does not answer")

    world.keys.create_tenant = down  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    assert await world.tenancy.list_tenants() == []


async def test_bad_slugs_and_names_make_nothing(world: IdentityWorld) -> None:
    for slug, name in (("Acme", "Acme"), ("acme", ""), ("www", "Acme")):
        with pytest.raises(Malformed):
            await world.tenancy.create_tenant(world.operator, slug, name)
    assert await world.tenancy.list_tenants() == []


async def test_a_suspended_tenant_is_not_found_at_its_host(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    async with world.database.transaction(created.tenant.id) as tx:
        await tx.execute("UPDATE tenants SET state = 'suspended' WHERE id = %s", (created.tenant.id,))
    assert await world.tenancy.find_tenant_id("acme") is None
    assert await world.tenancy.find_tenant_id("nosuch") is None


async def test_a_newer_operator_token_replaces_the_older(world: IdentityWorld) -> None:
    first = await world.tenancy.mint_operator("root")
    operator = await world.tenancy.check_operator(first)
    second = await world.tenancy.mint_operator("root")
    assert await world.tenancy.check_operator(second) == operator
    for token in (
        first,
        second[:-1],
        second[:-1] + ("A" if second[-1] != "A" else "B"),
        f"lo1.{new_id().hex}.{'A' * 43}",
    ):
        with pytest.raises(Unauthenticated):
            await world.tenancy.check_operator(token)


async def test_the_operators_token_is_not_in_the_database(world: IdentityWorld) -> None:
    from limen.db.database import SystemRole

    token = await world.tenancy.mint_operator("root")
    async with world.database.system(SystemRole.PLATFORM) as tx:
        rows = await tx.fetch("SELECT id, name, token_hash, state FROM operators")
    assert len(rows) == 1
    assert token.rpartition(".")[2].encode() not in rows[0]["token_hash"]
