"""Rows T6 and T7: what somebody reads who has the database and not the keys."""

import pytest

from limen.db.database import Database
from limen.kernel.errors import RateLimited
from tests.support.identity import PASSWORD, IdentityWorld

SOURCE = "198.51.100.77"


async def dump(database: Database, world: IdentityWorld, tenants: list[object]) -> dict[str, str]:
    """Every row of every table, as text, as far as the application's role can read it."""
    tables: dict[str, str] = {}
    for tenant in tenants:
        async with database.transaction(tenant) as tx:  # type: ignore[arg-type]
            names = await tx.fetch(
                "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
                " AND has_table_privilege(c.oid, 'SELECT')"
            )
            for row in names:
                rows = await tx.fetch(f'SELECT t::text AS line FROM "{row["name"]}" t')
                tables[row["name"]] = tables.get(row["name"], "") + "\n".join(r["line"] for r in rows)
    return tables


@pytest.mark.row("T6")
@pytest.mark.row("T7")
async def test_no_address_no_name_no_e_mail_no_secret_in_clear(database: Database) -> None:
    world = IdentityWorld(database)
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    secrets = []
    for tenant in (acme, globex):
        await tenant.person("ada-lovelace")
        session = await tenant.sign_in("ada-lovelace", source=SOURCE)
        invited = await world.identity.directory.reset_link(
            tenant.owner, (await world.identity.directory.list_people(tenant.owner))[1].id
        )
        secrets += [session.token, session.csrf_token, invited.rpartition(".")[2]]
        for _ in range(5):
            with pytest.raises(Exception, match="wrong"):
                await tenant.sign_in("ada-lovelace", password="wrong but long enough", source=SOURCE)
        with pytest.raises(RateLimited):
            await tenant.sign_in("ada-lovelace", source=SOURCE)
    tables = await dump(database, world, [acme.id, globex.id])
    assert {"people", "sessions", "sign_in_attempts", "one_time_tokens", "audit_values", "grants", "outbox"} <= set(
        tables
    )
    assert all(tables[name] for name in ("people", "sessions", "sign_in_attempts", "one_time_tokens", "audit_values"))
    for word in ("lovelace", "acme.example", "olive", SOURCE, "198.51", "203.0.113", PASSWORD, *secrets):
        for encoded in (word, word.encode().hex()):
            found = [name for name, text in tables.items() if encoded.lower() in text.lower()]
            assert found == [], (word, found)


@pytest.mark.row("T3")
async def test_a_sealed_value_moved_to_another_person_or_tenant_does_not_open(database: Database) -> None:
    world = IdentityWorld(database)
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    ada, bob = await acme.person("ada"), await acme.person("bob")
    async with database.transaction(acme.id) as tx:
        row = await tx.fetch_one("SELECT name_sealed FROM people WHERE tenant_id = %s AND id = %s", (acme.id, ada))
        assert row is not None
        await tx.execute(
            "UPDATE people SET name_sealed = %s WHERE tenant_id = %s AND id = %s", (row["name_sealed"], acme.id, bob)
        )
    with pytest.raises(Exception, match="not sealed for this place"):
        await world.identity.directory.get_person(acme.owner, bob)
    async with database.transaction(globex.id) as tx:
        await tx.execute("UPDATE people SET name_sealed = %s WHERE tenant_id = %s", (row["name_sealed"], globex.id))
    with pytest.raises(Exception, match="not sealed for this place"):
        await world.identity.directory.list_people(globex.owner)


@pytest.mark.row("T7")
async def test_equal_addresses_of_two_tenants_have_different_tags(database: Database) -> None:
    world = IdentityWorld(database)
    tags: list[bytes] = []
    for tenant in (await world.tenant("acme"), await world.tenant("globex")):
        await tenant.sign_in("owner", source=SOURCE)
        await tenant.sign_in("owner", source=SOURCE)
        async with database.transaction(tenant.id) as tx:
            rows = await tx.fetch("SELECT source_tag FROM sessions WHERE tenant_id = %s", (tenant.id,))
        assert len({row["source_tag"] for row in rows}) == 1
        tags.append(rows[0]["source_tag"])
    assert tags[0] != tags[1]
