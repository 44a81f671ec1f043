"""Every use leaves exactly one record, and no value is anywhere but in its answer."""

import asyncio
import base64
import subprocess

import psycopg
import pytest

from limen.db.embedded import EmbeddedPostgres
from limen.db.installation import find_installation
from limen.db.source import SocketSource
from tests.integration.vault.world import VaultWorld
from tests.support.postgres import Tenants

MERGE = {"Content-Type": "application/merge-patch+json"}
PLANTED = "planted-7f3a91c2-value"
PLANTED_META = "planted-custom-metadata-55"


@pytest.mark.row("V7", "O1")
async def test_each_use_writes_one_record(world: VaultWorld, tenants: Tenants) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    client = world.client(issued.text)
    body = {"data": {"k": PLANTED}}
    calls = [
        ("PUT", "data/x", body, "vault.secret.write", "ok"),
        ("PUT", "data/x", {**body, "options": {"cas": 9}}, "vault.secret.write", "failed"),
        ("GET", "data/x", None, "vault.secret.read", "ok"),
        ("GET", "data/none", None, "vault.secret.read", "failed"),
        ("PATCH", "data/x", body, "vault.secret.patch", "ok"),
        ("PATCH", "data/none", body, "vault.secret.patch", "failed"),
        ("LIST", "metadata/", None, "vault.secret.list", "ok"),
        ("LIST", "metadata/none", None, "vault.secret.list", "failed"),
        ("POST", "metadata/x", {"max_versions": 5}, "vault.metadata.write", "ok"),
        ("GET", "metadata/x", None, "vault.metadata.read", "ok"),
        ("POST", "delete/x", {"versions": [1]}, "vault.secret.delete", "ok"),
        ("GET", "data/x?version=1", None, "vault.secret.read", "failed"),
        ("POST", "undelete/x", {"versions": [1]}, "vault.secret.undelete", "ok"),
        ("POST", "destroy/x", {"versions": [1]}, "vault.secret.destroy", "ok"),
        ("DELETE", "data/x", None, "vault.secret.delete", "ok"),
        ("DELETE", "metadata/x", None, "vault.metadata.delete", "ok"),
    ]
    for method, path, content, action, outcome in calls:
        before = await world.audit(tenants.a)
        headers = MERGE if method == "PATCH" else {}
        await client.request(method, f"/secret/{path}", json=content, headers=headers)
        fresh = (await world.audit(tenants.a))[len(before) :]
        assert [(row["action"], row["outcome"]) for row in fresh] == [(action, outcome)], (method, path)
        assert fresh[0]["actor_id"] == issued.token.subject_id
        assert fresh[0]["detail"]["mount"] == "secret"
        assert "path" not in fresh[0]["detail"]
    for path in ("auth/token/renew-self", "auth/token/revoke-self"):
        await client.post(f"/{path}")
    await client.get("/auth/token/lookup-self")
    tags = [(row["action"], row["outcome"]) for row in await world.audit(tenants.a, "vault.token")]
    assert tags == [
        ("vault.token.create", "ok"),
        ("vault.token.renew", "ok"),
        ("vault.token.revoke", "ok"),
        ("vault.token.refuse", "denied"),
    ]


async def test_a_wrong_secret_is_recorded_as_a_stranger(world: VaultWorld, tenants: Tenants) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    forged = issued.text[:-6] + ("AAAAAA" if not issued.text.endswith("AAAAAA") else "BBBBBB")
    assert (await world.client(forged).get("/secret/data/x")).status_code == 403
    (refused,) = await world.audit(tenants.a, "vault.token.refuse")
    assert (refused["actor_kind"], refused["actor_id"]) == ("anonymous", None)


async def test_a_crowd_of_reads_shares_transactions_and_each_has_its_record(
    world: VaultWorld, tenants: Tenants
) -> None:
    client = world.client((await world.allowed(tenants.a, await world.mount(tenants.a))).text)
    await client.put("/secret/data/x", json={"data": {"n": 1}})
    await client.get("/secret/data/x")
    answers = await asyncio.gather(*(client.get("/secret/data/x") for _ in range(120)))
    assert {answer.status_code for answer in answers} == {200}
    rows = await world.database.query(
        tenants.a,
        "SELECT count(*) AS records, count(DISTINCT xmin::text) AS commits FROM audit_leaves"
        " WHERE tenant_id = %s AND action = 'vault.secret.read'",
        (tenants.a,),
    )
    assert rows[0]["records"] == 121
    assert rows[0]["commits"] < 60


async def test_no_record_no_answer(world: VaultWorld, tenants: Tenants, scratch_source: SocketSource) -> None:
    client = world.client((await world.allowed(tenants.a, await world.mount(tenants.a))).text)
    await client.put("/secret/data/x", json={"data": {"k": PLANTED}})
    async with await psycopg.AsyncConnection.connect(scratch_source.conninfo("limen_owner"), autocommit=True) as owner:
        await owner.execute("REVOKE INSERT ON audit_leaves FROM limen_app")
        answer = await client.get("/secret/data/x")
        assert answer.status_code == 500
        assert answer.json() == {"errors": ["internal error"]}
        assert (await client.put("/secret/data/x", json={"data": {}})).status_code == 500
        await owner.execute("GRANT INSERT ON audit_leaves TO limen_app")
    assert (await client.get("/secret/data/x")).json()["data"]["metadata"]["version"] == 1


@pytest.mark.row("V7", "T6")
async def test_planted_values_are_in_no_log_no_record_and_no_dump(
    world: VaultWorld,
    tenants: Tenants,
    postgres_server: EmbeddedPostgres,
    scratch_source: SocketSource,
    capfd: pytest.CaptureFixture[str],
) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    client = world.client(issued.text)
    body = {"data": {"k": PLANTED}}
    await client.put("/secret/data/x", json=body)
    await client.put("/secret/data/x", json={**body, "options": {"cas": 9}})
    await client.patch("/secret/data/x", json=body, headers=MERGE)
    await client.post("/secret/metadata/x", json={"custom_metadata": {"k": PLANTED_META}, "max_versions": PLANTED})
    await client.post("/secret/metadata/x", json={"custom_metadata": {"k": PLANTED_META}})
    await client.put("/secret/data/x", content=f'{{"data":"{PLANTED}"')
    await client.put(f"/secret/data/x?version={PLANTED}", json={"data": PLANTED})
    world.custody.sealed = True
    await client.put("/secret/data/x", json=body)
    world.custody.sealed = False
    answer = await client.get("/secret/data/x")
    assert PLANTED in answer.text
    assert PLANTED_META in answer.text

    secret = issued.text.rpartition(".")[2]
    program = find_installation().program("pg_dump")
    source = postgres_server.superuser_conninfo(scratch_source.database)
    dumped = subprocess.run([program, "--inserts", source], capture_output=True, check=True).stdout
    captured = capfd.readouterr()
    everything = dumped + captured.out.encode() + captured.err.encode()
    assert b"vault_versions" in dumped
    for planted in (PLANTED, PLANTED_META, secret):
        raw = planted.encode()
        for form in (raw, raw.hex().encode(), base64.b64encode(raw)[:-4]):
            assert form not in everything
