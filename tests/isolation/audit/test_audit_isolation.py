"""Two tenants: no method of the audit stores shows one anything of the other."""

import json
from pathlib import Path

import pytest

from limen.control.audit import seal_store, service, store
from limen.control.audit.export import recent_checkpoints
from limen.control.audit.model import AuditFilter
from limen.control.audit.rules import chain
from limen.db.database import Database
from limen.db.errors import DatabaseFault
from tests.integration.audit.parts import Room, sign_in
from tests.support.postgres import Tenants
from tests.unit.audit.verifier import check


@pytest.fixture
async def room(database: Database, tmp_path: Path, tenants: Tenants) -> Room:
    """Both tenants have records, sealed together in one checkpoint."""
    made = Room(database, tmp_path)
    await made.record(tenants.a, *(sign_in(n) for n in range(3)))
    await made.record(tenants.b, *(sign_in(n) for n in range(2)))
    await made.sealer.seal_all()
    return made


@pytest.mark.row("O1")
async def test_reading(room: Room, tenants: Tenants) -> None:
    async with room.database.transaction(tenants.b) as tx:
        theirs = await service.search(tx, AuditFilter(), open_personal=True)
    async with room.database.transaction(tenants.a) as tx:
        mine = await service.search(tx, AuditFilter(), open_personal=True)
        assert await service.search(tx, AuditFilter(actor_id=theirs[0].actor_id), open_personal=True) == []
        assert await service.search(tx, AuditFilter(object_id=theirs[0].object_id), open_personal=True) == []
        assert await store.by_members(tx, [r.at for r in theirs], [r.id for r in theirs]) == []
    assert (len(mine), len(theirs)) == (3, 2)
    assert not {r.id for r in mine} & {r.id for r in theirs}


async def test_seals_and_checkpoints(room: Room, tenants: Tenants) -> None:
    async with room.database.transaction(tenants.a) as tx:
        (step,) = await seal_store.steps(tx, after=0, limit=10)
        assert await seal_store.latest_steps(tx, 10) == [step]
        members = chain.unpack_members(await seal_store.packed_members(tx, 1))
        (kept,) = await recent_checkpoints(tx, 10)
    assert (step.seal.tenant_id, step.seal.count, len(members)) == (tenants.a, 3, 3)
    assert str(tenants.b) not in json.dumps(kept)
    assert step.signed.checkpoint.size == 2, "both tenants stand under one checkpoint"


@pytest.mark.row("O2")
async def test_an_export_of_one_tenant_holds_nothing_of_the_other(room: Room, tenants: Tenants) -> None:
    async with room.database.transaction(tenants.b) as tx:
        theirs = await service.search(tx, AuditFilter(), open_personal=True)
    export = (await room.export(tenants.a)).decode()
    for secret in [str(tenants.b), *(str(part) for r in theirs for part in (r.id, r.actor_id, r.object_id))]:
        assert secret not in export
    assert check(export.encode(), await room.signer.public_key(), room.directory)["records"] == 4


async def test_nobody_writes_for_another_tenant(room: Room, tenants: Tenants) -> None:
    for table, columns, values in (
        ("audit_pending", "tenant_id, at, id, leaf_hash", "%s, now(), %s, sha256('x')"),
        ("audit_values", "tenant_id, at, id, salts, detail", "%s, now(), %s, decode(repeat('00', 128), 'hex'), '{}'"),
    ):
        statement = f"INSERT INTO {table} ({columns}) VALUES ({values})"
        with pytest.raises(DatabaseFault, match="42501"):
            await room.database.query(tenants.a, statement, [tenants.b, tenants.b])
        await room.database.query(tenants.a, statement, [tenants.a, tenants.b])


async def test_equal_addresses_of_two_tenants_cannot_be_matched(room: Room, tenants: Tenants) -> None:
    tags = [
        {
            row["source_tag"]
            for row in await room.database.query(t, "SELECT source_tag FROM audit_values WHERE tenant_id = %s", [t])
        }
        for t in tenants
    ]
    assert len(tags[0]) == len(tags[1]) == 1
    assert tags[0] != tags[1]
