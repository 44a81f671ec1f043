"""Recording and reading on a real PostgreSQL: one transaction, nothing in the clear, nothing can be changed."""

import subprocess
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from limen.control.audit import service
from limen.control.audit.model import AuditEvent, AuditFilter, Outcome
from limen.db.catalogue import violations
from limen.db.database import Database, SystemRole
from limen.db.embedded import EmbeddedPostgres
from limen.db.errors import DatabaseFault
from limen.db.source import SocketSource
from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor, ActorKind
from tests.integration.audit.parts import ADDRESS, EMAIL, Room, count, sign_in
from tests.support.postgres import Tenants


async def read(room: Room, tenant: UUID, wanted: AuditFilter | None = None, *, open_personal: bool = True) -> list[str]:
    async with room.database.transaction(tenant) as tx:
        found = await service.search(tx, wanted or AuditFilter(), open_personal=open_personal)
    return [f"{r.action} {r.outcome}" for r in found]


@pytest.mark.row("O1")
async def test_a_record_comes_back_as_it_was(room: Room, tenants: Tenants) -> None:
    event = sign_in(3, Outcome.DENIED)
    at = room.clock.now()
    async with room.database.transaction(tenants.a) as tx:
        record_id = await service.record(tx, event, at)
        (found,) = await service.search(tx, AuditFilter(), open_personal=True)
    assert (found.id, found.at, found.action, found.outcome) == (record_id, at, event.action, Outcome.DENIED)
    assert (found.actor_kind, found.actor_id, found.source) == (ActorKind.PERSON, event.actor.id, ADDRESS)
    assert (found.object_kind, found.object_id) == ("person", event.object_id)
    assert (found.detail, found.personal, found.erased) == (event.detail, {"email": EMAIL}, False)


async def test_personal_values_stay_closed_without_permission(room: Room, tenants: Tenants) -> None:
    await room.record(tenants.a, sign_in(), AuditEvent("policy.policy.create", Outcome.OK, SYSTEM))
    async with room.database.transaction(tenants.a) as tx:
        plain, sealed = await service.search(tx, AuditFilter(), open_personal=False)
    assert (sealed.source, sealed.personal, sealed.detail["method"]) == (None, None, "password")
    assert (plain.source, plain.personal) == ("", {})


async def test_a_record_shares_the_fate_of_its_transaction(room: Room, tenants: Tenants) -> None:
    async def change_and_fail() -> None:
        async with room.database.transaction(tenants.a) as tx:
            await service.record(tx, sign_in(), room.clock.now())
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await change_and_fail()
    assert [await count(room.database, tenants.a, t) for t in ("audit_leaves", "audit_values")] == [0, 0]
    await room.record(tenants.a, sign_in())
    assert [await count(room.database, tenants.a, t) for t in ("audit_leaves", "audit_values")] == [1, 1]


async def test_a_batch_keeps_its_order(room: Room, tenants: Tenants) -> None:
    events = [(sign_in(n) if n % 2 else AuditEvent("a.b.c", Outcome.OK, SYSTEM), room.clock.now()) for n in range(500)]
    async with room.database.transaction(tenants.a) as tx:
        ids = await service.record_many(tx, events)
        assert await service.record_many(tx, []) == []
        found = await service.search(tx, AuditFilter(limit=1000), open_personal=True)
    assert [record.id for record in reversed(found)] == ids
    assert [record.at for record in reversed(found)] == [at for _, at in events]
    assert {record.source for record in found} == {"", ADDRESS}


@pytest.mark.row("O1")
async def test_filters(room: Room, tenants: Tenants) -> None:
    start = room.clock.now()
    person = Actor(ActorKind.PERSON, new_id(), "2001:db8::1")
    target = new_id()
    await room.record(
        tenants.a,
        AuditEvent("identity.person.create", Outcome.OK, person, "person", target),
        AuditEvent("identity.person.suspend", Outcome.DENIED, SYSTEM, "person", target),
        AuditEvent("vault.secret.read", Outcome.FAILED, person, "secret", new_id()),
    )
    everything = ["vault.secret.read failed", "identity.person.suspend denied", "identity.person.create ok"]
    assert await read(room, tenants.a) == everything
    assert await read(room, tenants.a, AuditFilter(action_prefix="identity.")) == everything[1:]
    assert await read(room, tenants.a, AuditFilter(actor_id=person.id)) == [everything[0], everything[2]]
    assert await read(room, tenants.a, AuditFilter(object_kind="person", object_id=target)) == everything[1:]
    assert await read(room, tenants.a, AuditFilter(outcome=Outcome.DENIED)) == everything[1:2]
    assert await read(room, tenants.a, AuditFilter(source="2001:db8::1")) == [everything[0], everything[2]]
    assert await read(room, tenants.a, AuditFilter(source="2001:db8::2")) == []
    assert (
        await read(room, tenants.a, AuditFilter(since=start, until=start + timedelta(milliseconds=3))) == everything[1:]
    )
    assert await read(room, tenants.a, AuditFilter(limit=2)) == everything[:2]
    with pytest.raises(Malformed):
        await read(room, tenants.a, AuditFilter(limit=1001))


async def test_pages_go_on_where_the_last_one_ended(room: Room, tenants: Tenants) -> None:
    at = room.clock.now()
    async with room.database.transaction(tenants.a) as tx:
        ids = await service.record_many(tx, [(sign_in(n), at) for n in range(7)])
        seen: list[UUID] = []
        before = None
        while page := await service.search(tx, AuditFilter(before=before, limit=3), open_personal=False):
            seen += [record.id for record in page]
            before = (page[-1].at, page[-1].id)
    assert seen == sorted(ids, reverse=True)


@pytest.mark.row("T7")
async def test_a_dump_of_the_database_holds_no_address_and_no_personal_detail(
    room: Room, tenants: Tenants, scratch_source: SocketSource, postgres_server: EmbeddedPostgres
) -> None:
    await room.record(tenants.a, *(sign_in(n) for n in range(5)))
    assert EMAIL.encode() in (await room.export(tenants.a))
    programs = Path(psycopg_server_directory(postgres_server))
    dump = subprocess.run(
        [programs / "pg_dump", "--dbname", _superuser(postgres_server, scratch_source.database)],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    assert dump.count(b"identity.session.start") >= 5, "the dump must hold the records at all"
    for secret in (ADDRESS, EMAIL, "leaky"):
        for form in (secret.encode(), secret.encode().hex().encode(), secret.encode("utf-16-le").hex().encode()):
            assert form not in dump


def psycopg_server_directory(server: EmbeddedPostgres) -> str:
    """The directory of the server's programs."""
    with psycopg.connect(server.superuser_conninfo()) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    assert row is not None
    return str(row[0])


def _superuser(server: EmbeddedPostgres, database: str) -> str:
    return psycopg.conninfo.make_conninfo(server.superuser_conninfo(), dbname=database)


@pytest.mark.row("O2")
@pytest.mark.parametrize("table", ["audit_leaves", "audit_values", "audit_pending", "audit_seals", "audit_checkpoints"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET at = now()", "DROP TABLE {}"])
async def test_the_application_can_change_nothing(room: Room, tenants: Tenants, table: str, statement: str) -> None:
    await room.record(tenants.a, sign_in())
    await room.sealer.seal_all()
    with pytest.raises(DatabaseFault, match=r"42501|42703"):
        await room.database.query(tenants.a, statement.format(table))


@pytest.mark.row("O2")
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT leaf FROM audit_leaves",
        "SELECT sealed FROM audit_values",
        "SELECT members FROM audit_seals",
        "UPDATE audit_seals SET number = 5",
        "DELETE FROM audit_seals",
        "UPDATE audit_checkpoints SET number = 5",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_pending SET at = now()",
        "SELECT 1 FROM audit_leaves_default",
    ],
)
async def test_the_sealer_sees_hashes_and_adds_only(database: Database, statement: str) -> None:
    with pytest.raises(DatabaseFault, match="42501"):
        async with database.system(SystemRole.SEALER) as tx:
            await tx.execute(statement)


async def test_the_schema_passes_the_catalogue_audit(scratch_source: SocketSource) -> None:
    assert [found for found in await violations(scratch_source) if "audit" in found] == []
