"""Exports from a real database: they verify; what a database administrator changes underneath is found."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from limen.control.audit.export import Window
from limen.db.embedded import EmbeddedPostgres
from limen.db.source import SocketSource
from limen.kernel.errors import Malformed, Unavailable
from tests.integration.audit.parts import ADDRESS, EMAIL, Room, sign_in
from tests.support.postgres import Tenants
from tests.unit.audit.verifier import check

pytestmark = [pytest.mark.row("O1"), pytest.mark.row("O2")]


class Administrator:
    """Somebody with the superuser's password of the database."""

    def __init__(self, server: EmbeddedPostgres, database: str) -> None:
        self._dsn = psycopg.conninfo.make_conninfo(server.superuser_conninfo(), dbname=database)

    def run(self, statement: str, *parameters: Any) -> None:
        """Run one statement past every rule."""
        with psycopg.connect(self._dsn) as connection:
            done = connection.execute(sql.SQL(statement), parameters)  # type: ignore[arg-type]
            assert done.rowcount > 0, "the attack must hit something"


@pytest.fixture
def administrator(postgres_server: EmbeddedPostgres, scratch_source: SocketSource) -> Administrator:
    return Administrator(postgres_server, scratch_source.database)


@pytest.fixture
async def records(room: Room, tenants: Tenants) -> list[UUID]:
    """Six records of tenant A under two seals."""
    ids = await room.record(tenants.a, *(sign_in(n) for n in range(3)))
    await room.sealer.seal_all()
    return ids + await room.record(tenants.a, *(sign_in(n) for n in range(3)))


async def result(room: Room, tenants: Tenants, **known: Any) -> dict[str, Any]:
    return check(await room.export(tenants.a), await room.signer.public_key(), room.directory, **known)


async def test_an_export_verifies_and_holds_its_own_record(room: Room, tenants: Tenants, records: list[UUID]) -> None:
    lines = await room.export_lines(tenants.a)
    found = [line for line in lines if line["type"] == "record"]
    assert [line["id"] for line in found[:-1]] == [str(record) for record in records]
    assert found[-1]["action"] == "audit.trail.export"
    assert found[0]["values"]["source"] == ADDRESS
    assert found[0]["values"]["personal"] == {"email": EMAIL}
    verified = await result(room, tenants)
    assert (verified["ok"], verified["records"], verified["seals"]) == (True, 8, 3)


async def test_an_empty_trail_holds_its_own_export(room: Room, tenants: Tenants) -> None:
    assert (await result(room, tenants))["records"] == 1


async def test_an_export_needs_the_signer(room: Room, tenants: Tenants) -> None:
    room.signer.broken = True
    with pytest.raises(Unavailable):
        await room.export(tenants.a)


async def test_later_exports_continue_earlier_ones(room: Room, tenants: Tenants, records: list[UUID]) -> None:
    earlier = [json.loads(line) for line in (await room.export(tenants.a)).splitlines()]
    kept = [line for line in earlier if line["type"] == "seal"][-1]
    await room.record(tenants.a, sign_in())
    assert (await result(room, tenants, trusted=kept))["ok"]


ATTACKS = {
    "value": ('audit_values SET detail = \'{"method": "none"}\'', "its value of 'detail' was changed"),
    "actor": ("audit_leaves SET actor_id = object_id", "its value of 'actor_id' was changed"),
    "outcome": ("audit_leaves SET outcome = 'failed'", "its value of 'outcome' was changed"),
    "action": ("audit_leaves SET action = 'a.b.c'", "its action is not the one in its leaf"),
    "leaf": ("audit_leaves SET leaf = leaf || '\\x00'", "its leaf has the wrong length"),
    "salt": ("audit_values SET salts = set_byte(salts, 0, get_byte(salts, 0) # 1)", "its value of 'outcome'"),
    "ciphertext": (
        "audit_values SET sealed = set_byte(sealed, 30, get_byte(sealed, 30) # 1)",
        "its sealed values were damaged",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_administrator_edits_a_record(
    room: Room, tenants: Tenants, records: list[UUID], administrator: Administrator, attack: str
) -> None:
    await room.sealer.seal_all()
    statement, says = ATTACKS[attack]
    administrator.run(f"UPDATE {statement} WHERE id = %s", records[4])
    found = await result(room, tenants)
    assert not found["ok"]
    assert found["findings"][0]["record"] == str(records[4])
    assert found["findings"][0]["message"].startswith(says)


async def test_an_administrator_deletes_a_record(
    room: Room, tenants: Tenants, records: list[UUID], administrator: Administrator
) -> None:
    await room.sealer.seal_all()
    administrator.run("DELETE FROM audit_leaves WHERE id = %s", records[1])
    (found,) = (await result(room, tenants))["findings"]
    assert found["message"].startswith("record number 2 under seal 1 is missing")


async def test_an_administrator_edits_before_the_seal(
    room: Room, tenants: Tenants, records: list[UUID], administrator: Administrator
) -> None:
    """The pending entry holds the leaf's hash, so that the two would have to be changed together."""
    administrator.run("UPDATE audit_leaves SET leaf = set_byte(leaf, 100, 7) WHERE id = %s", records[5])
    assert any(f["record"] == str(records[5]) for f in (await result(room, tenants))["findings"])


async def test_an_administrator_deletes_the_last_seal(
    room: Room, tenants: Tenants, records: list[UUID], administrator: Administrator
) -> None:
    """Roll back the whole end: the next export builds on the older seal, and the kept checkpoint tells."""
    kept = [line for line in await room.export_lines(tenants.a) if line["type"] == "seal"][-1]
    administrator.run("DELETE FROM audit_leaves WHERE id = ANY(%s)", records[3:])
    administrator.run("DELETE FROM audit_seals WHERE number = 2")
    administrator.run("DELETE FROM audit_checkpoints WHERE number = 2")
    assert (await result(room, tenants))["ok"], "consistent in itself"
    found = await result(room, tenants, trusted=kept)
    assert "fork" in found["findings"][0]["message"]


async def test_erasing_values_leaves_every_proof_whole(
    room: Room, tenants: Tenants, records: list[UUID], administrator: Administrator
) -> None:
    await room.sealer.seal_all()
    administrator.run("DELETE FROM audit_values WHERE id = ANY(%s)", records[:2])
    found = await result(room, tenants)
    assert (found["ok"], found["erased"]) == (True, 2)


async def test_a_window(room: Room, tenants: Tenants, records: list[UUID]) -> None:
    lines = await room.export_lines(tenants.a)
    times = {line["id"]: line["at"] for line in lines if line["type"] == "record"}
    window = Window(datetime.fromisoformat(times[str(records[3])]), datetime.fromisoformat(times[str(records[5])]))
    export = await room.export(tenants.a, window)
    found = check(export, await room.signer.public_key(), room.directory)
    assert found["ok"], found
    opened = [line["id"] for line in map(json.loads, export.splitlines()) if line.get("values")]
    assert opened == [str(record) for record in records[3:5]]
    with pytest.raises(Malformed):
        Window(window.until, window.since)
