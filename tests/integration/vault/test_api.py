"""The Vault-compatible API inside one process: envelope, status codes, traps."""

import json

import httpx
import pytest

from limen.control.vault.rules.rate import Rate
from limen.db.database import Database
from tests.integration.vault.world import VaultWorld
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import Tenants

MERGE = {"Content-Type": "application/merge-patch+json"}
ENVELOPE = {"request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"}


@pytest.fixture
async def client(world: VaultWorld, tenants: Tenants) -> httpx.AsyncClient:
    """A client allowed everything on the mount ``secret`` of tenant a."""
    mount = await world.mount(tenants.a)
    return world.client((await world.allowed(tenants.a, mount)).text)


@pytest.mark.row("V2")
async def test_a_value_survives_the_round_trip_with_all_its_digits(client: httpx.AsyncClient) -> None:
    body = '{"data":{"pi":3.14159265358979323846,"big":123456789012345678901234567890,"ten":1.10,"u":"é\\u0000"}}'
    written = await client.post("/secret/data/app/db", content=body)
    assert written.status_code == 200
    assert set(written.json()) == ENVELOPE
    read = await client.get("/secret/data/app/db")
    assert read.status_code == 200
    assert read.headers["content-type"] == "application/json"
    assert read.headers["cache-control"] == "no-store"
    for digits in ("3.14159265358979323846", "123456789012345678901234567890", "1.10"):
        assert digits in read.text
    assert read.json()["data"]["metadata"]["version"] == 1


@pytest.mark.row("V1")
async def test_versions_can_be_read_deleted_brought_back_and_destroyed(client: httpx.AsyncClient) -> None:
    for number in (1, 2, 3):
        assert (await client.put("/secret/data/x", json={"data": {"n": number}})).status_code == 200
    assert (await client.get("/secret/data/x?version=1")).json()["data"]["data"] == {"n": 1}
    assert (await client.delete("/secret/data/x")).status_code == 204
    gone = await client.get("/secret/data/x")
    assert gone.status_code == 404
    assert gone.json()["data"]["data"] is None
    assert gone.json()["data"]["metadata"]["deletion_time"]
    assert (await client.put("/secret/undelete/x", json={"versions": ["3"]})).status_code == 204
    assert (await client.get("/secret/data/x")).json()["data"]["data"] == {"n": 3}
    assert (await client.put("/secret/destroy/x", json={"versions": "1,2"})).status_code == 204
    assert (await client.get("/secret/data/x?version=2")).json()["data"]["metadata"]["destroyed"] is True
    assert (await client.post("/secret/undelete/x", json={"versions": [1]})).status_code == 204
    assert (await client.get("/secret/data/x?version=1")).status_code == 404


async def test_what_never_was_is_an_empty_404(client: httpx.AsyncClient) -> None:
    await client.put("/secret/data/x", json={"data": {}})
    for path in ("/secret/data/none", "/secret/data/x?version=9", "/secret/metadata/none", "/secret/metadata/"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"errors": []})
    answer = await client.request("LIST", "/secret/metadata/none")
    assert (answer.status_code, answer.json()) == (404, {"errors": []})


@pytest.mark.row("V1")
async def test_check_and_set(client: httpx.AsyncClient) -> None:
    async def write(cas: object) -> int:
        body = {"data": {"a": 1}, "options": {"cas": cas}}
        return (await client.post("/secret/data/c", json=body)).status_code

    assert await write(1) == 400
    assert await write(0) == 200
    assert await write(0) == 400
    assert await write("1") == 200
    assert await write("x") == 400
    await client.post("/secret/metadata/c", json={"cas_required": True})
    refused = await client.post("/secret/data/c", json={"data": {}})
    assert (refused.status_code, refused.json()) == (
        400,
        {"errors": ["check-and-set parameter required for this call"]},
    )
    assert await write(2) == 200


async def test_patch_merges(client: httpx.AsyncClient) -> None:
    await client.put("/secret/data/p", json={"data": {"a": 1, "b": {"c": 1, "d": 2}}})
    patch = json.dumps({"data": {"a": None, "b": {"c": None, "e": [None]}}})
    assert (await client.patch("/secret/data/p", content=patch)).status_code == 415
    assert (await client.patch("/secret/data/p", content=patch, headers=MERGE)).status_code == 200
    assert (await client.get("/secret/data/p")).json()["data"]["data"] == {"b": {"d": 2, "e": [None]}}
    assert (await client.patch("/secret/data/none", content=patch, headers=MERGE)).status_code == 404
    await client.delete("/secret/data/p")
    gone = await client.patch("/secret/data/p", content=patch, headers=MERGE)
    assert gone.status_code == 404
    assert gone.json()["data"]["version"] == 2


async def test_listing_by_verb_and_by_query(client: httpx.AsyncClient) -> None:
    for path in ("a", "d", "d/e", "d/e/f", "d/g", "dx", "é"):
        await client.put(f"/secret/data/{path}", json={"data": {}})
    root = ["a", "d", "d/", "dx", "é"]
    for answer in (
        await client.request("LIST", "/secret/metadata"),
        await client.request("LIST", "/secret/metadata/"),
        await client.get("/secret/metadata/?list=true"),
        await client.get("/secret/metadata?list=true"),
    ):
        assert answer.json()["data"]["keys"] == root
    assert (await client.get("/secret/metadata/d?list=true")).json()["data"]["keys"] == ["e", "e/", "g"]
    page = await client.get("/secret/metadata/?list=true&after=d&limit=2")
    assert page.json()["data"]["keys"] == ["d/", "dx"]


async def test_settings_prune_and_date_versions(client: httpx.AsyncClient) -> None:
    settings = {"max_versions": "2", "delete_version_after": "1h30m", "custom_metadata": {"owner": "ops", "n": 1}}
    assert (await client.post("/secret/metadata/m", json=settings)).status_code == 204
    for number in range(4):
        await client.put("/secret/data/m", json={"data": {"n": number}})
    found = (await client.get("/secret/metadata/m")).json()["data"]
    assert list(found["versions"]) == ["3", "4"]
    assert found["oldest_version"] == 3
    assert found["delete_version_after"] == "1h30m0s"
    assert found["custom_metadata"] == {"owner": "ops", "n": "1"}
    assert found["versions"]["4"]["deletion_time"]
    patched = await client.patch("/secret/metadata/m", content='{"custom_metadata":{"n":null,"x":"y"}}', headers=MERGE)
    assert patched.status_code == 204
    assert (await client.get("/secret/data/m")).json()["data"]["metadata"]["custom_metadata"] == {
        "owner": "ops",
        "x": "y",
    }
    assert (await client.delete("/secret/metadata/m")).status_code == 204
    assert (await client.get("/secret/metadata/m")).status_code == 404


BAD_BODIES = {
    "broken": b"{bad",
    "a list": b"[1]",
    "text": b'"x"',
    "data a list": b'{"data":[1]}',
    "data text": b'{"data":"x"}',
    "null": b"null",
    "empty": b"",
    "no data": b"{}",
    "never closed": b'{"data":{"a":' + b"[" * 5000,
    "too deep": b'{"data":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}",
    "too large": b'{"data":{"k":"' + b"a" * (1 << 20) + b'"}}',
    "not UTF-8": b'{"data":{"k":"\xff"}}',
    "huge number": b'{"data":{"k":' + b"9" * 6000 + b"}}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_bad_bodies_are_400_and_change_nothing(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/secret/data/bad", content=body)
    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert (await client.get("/secret/data/bad")).status_code == 404


@pytest.mark.parametrize("path", ["a/%2e%2e/b", "a//b", "a/", "%2e", "a%00b", "a%0a", "%ff", "a" * 1025, "%e2%80%ae"])
async def test_bad_paths_are_400(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"/secret/data/{path}", json={"data": {}})
    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == 1


async def test_verbs_and_paths_that_do_not_exist(client: httpx.AsyncClient) -> None:
    assert (await client.get("/secret/delete/x")).status_code == 405
    assert (await client.request("LIST", "/secret/data/x")).status_code == 405
    assert (await client.request("FOO", "/secret/data/x")).status_code == 405
    assert (await client.get("/sys/nope")).status_code == 404
    assert (await client.get("/secret/nope/x")).json()["warnings"]
    assert (await client.get("/secret")).status_code == 404
    assert (await client.get("/")).status_code == 404


async def test_wrapping_is_refused_rather_than_ignored(client: httpx.AsyncClient) -> None:
    await client.put("/secret/data/x", json={"data": {"k": "planted"}})
    answer = await client.get("/secret/data/x", headers={"X-Vault-Wrap-TTL": "60"})
    assert answer.status_code == 400
    assert "planted" not in answer.text


async def test_health_needs_no_token_and_tells_when_custody_is_away(world: VaultWorld) -> None:
    client = world.client()
    assert (await client.get("/sys/health")).json()["sealed"] is False
    assert (await client.head("/sys/health")).status_code == 200
    world.custody.sealed = True
    assert (await client.get("/sys/health")).status_code == 503
    assert (await client.get("/sys/health?sealedcode=299")).status_code == 299
    assert (await client.get("/sys/seal-status")).json()["sealed"] is True
    assert (await client.get("/sys/leader")).json() == {"ha_enabled": False}


async def test_custody_away_is_503_and_nothing_is_half_done(client: httpx.AsyncClient, world: VaultWorld) -> None:
    await client.put("/secret/data/x", json={"data": {"n": 1}})
    world.custody.sealed = True
    assert (await client.get("/secret/data/x")).status_code == 503
    assert (await client.put("/secret/data/x", json={"data": {"n": 2}})).status_code == 503
    world.custody.sealed = False
    assert (await client.get("/secret/data/x")).json()["data"]["metadata"]["version"] == 1


async def test_mounts_preflight_and_capabilities(world: VaultWorld, tenants: Tenants) -> None:
    mount, hidden = await world.mount(tenants.a), await world.mount(tenants.a, "hidden")
    client = world.client((await world.allowed(tenants.a, mount, "read", "list")).text)
    preflight = (await client.get("/sys/internal/ui/mounts/secret/foo")).json()["data"]
    assert (preflight["path"], preflight["options"]) == ("secret/", {"version": "2"})
    assert (await client.get(f"/sys/internal/ui/mounts/{hidden.name}/foo")).status_code == 403
    assert (await client.get("/sys/internal/ui/mounts/nosuch/foo")).status_code == 403
    assert list((await client.get("/sys/mounts")).json()["data"]) == ["secret/"]
    found = await client.post(
        "/sys/capabilities-self", json={"paths": ["secret/data/x", "secret/metadata/x", "secret/delete/x", "no/x"]}
    )
    assert found.json()["data"] == {
        "secret/data/x": ["read"],
        "secret/metadata/x": ["list", "read"],
        "secret/delete/x": ["deny"],
        "no/x": ["deny"],
    }
    assert (await client.post("/sys/capabilities-self", json={})).status_code == 400


@pytest.mark.row("V3")
async def test_too_many_requests(database: Database, field_cipher: RandomFieldCipher, tenants: Tenants) -> None:
    world = VaultWorld(database, field_cipher, Rate(per_second=0.5, burst=3))
    mount = await world.mount(tenants.a)
    token = (await world.allowed(tenants.a, mount)).text
    client = world.client(token)
    answers = [await client.get("/auth/token/lookup-self") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) in (1, 2)
    # Knowing the token's id does not let a stranger use up its bucket, nor does another token share it.
    stranger = world.client(token[:-1] + ("A" if token[-1] != "A" else "B"))
    assert (await stranger.get("/auth/token/lookup-self")).status_code == 403
    other = world.client((await world.allowed(tenants.a, mount)).text)
    assert (await other.get("/auth/token/lookup-self")).status_code == 200
