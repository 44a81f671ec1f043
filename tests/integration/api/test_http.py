"""People's way through the HTTP API: set up, sign in, browse with a cookie, sign out."""

import asyncio
from pathlib import Path

import pytest

from limen.db.database import Database
from limen.db.source import SocketSource
from limen.runtime.http import SESSION_COOKIE
from tests.support.cipher import RandomFieldCipher
from tests.support.identity import PASSWORD, IdentityWorld


@pytest.fixture
def world(database: Database) -> IdentityWorld:
    return IdentityWorld(database)


async def operator(world: IdentityWorld) -> dict[str, str]:
    return {"Authorization": f"Bearer {await world.tenancy.mint_operator('root')}"}


async def test_from_nothing_to_a_signed_in_owner(world: IdentityWorld) -> None:
    async with world.client() as client:
        created = await client.post(
            "/api/v1/tenants", json={"slug": "acme", "name": "Acme"}, headers=await operator(world)
        )
        assert created.status_code == 201, created.text
        owner = {"email": "olive@acme.example", "name": "Olive", "password": PASSWORD}
        body = {"token": created.json()["setup_token"], **owner}
        made = await client.post("/api/v1/setup", json=body)
        assert (made.status_code, made.json()["role"]) == (201, "owner")
        assert (await client.post("/api/v1/setup", json=body)).status_code == 401
        sign_in = {"tenant": "acme", "email": "olive@acme.example", "password": PASSWORD}
        signed_in = await client.post("/api/v1/sign-in", json=sign_in)
        assert signed_in.status_code == 200, signed_in.text
        assert "set-cookie" not in signed_in.headers
        bearer = {"Authorization": f"Bearer {signed_in.json()['token']}"}
        me = (await client.get("/api/v1/me", headers=bearer)).json()
        assert (me["person"]["email"], me["tenant"]) == ("olive@acme.example", created.json()["id"])
        assert "directory.manage" in me["permissions"]
        invited = await client.post("/api/v1/people", json={"email": "a@b.example", "name": "Ada"}, headers=bearer)
        assert invited.status_code == 201
        assert invited.json()["state"] == "invited"
        assert (await client.post("/api/v1/sign-out", headers=bearer)).status_code == 204
        assert (await client.get("/api/v1/me", headers=bearer)).json()["code"] == "session-ended"


async def test_two_racing_set_ups_over_http(world: IdentityWorld) -> None:
    created = await world.tenancy.create_tenant(world.operator, "acme", "Acme")
    body = {"token": created.setup_token, "name": "Olive", "password": PASSWORD}
    async with world.client() as client:
        answers = await asyncio.gather(
            *(client.post("/api/v1/setup", json=body | {"email": f"p{n}@acme.example"}) for n in range(4))
        )
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401]


@pytest.mark.row("I2")
@pytest.mark.row("I8")
async def test_a_browsers_session(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    async with world.client("acme.limen.test") as client:
        body = {"email": acme.owner_email, "password": PASSWORD, "cookie": True}
        signed_in = await client.post("/api/v1/sign-in", json=body)
        assert signed_in.json()["token"] == ""
        name, _, attributes = signed_in.headers["set-cookie"].partition("=")
        assert name == SESSION_COOKIE == "__Host-limen"
        value, *flags = (part.strip().lower() for part in attributes.split(";"))
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= set(flags)
        assert not [flag for flag in flags if flag.startswith("domain")]
        client.cookies.clear()
        cookie = {"Cookie": f"{SESSION_COOKIE}={signed_in.headers['set-cookie'].split('=', 1)[1].split(';')[0]}"}
        csrf = {"X-CSRF-Token": signed_in.json()["csrf_token"]}
        me = await client.get("/api/v1/me", headers=cookie)
        assert me.json()["csrf_token"] == csrf["X-CSRF-Token"]
        group = {"name": "Engineers"}
        assert (await client.post("/api/v1/groups", json=group, headers=cookie)).status_code == 403
        other = await acme.sign_in("owner")
        foreign = {"X-CSRF-Token": other.csrf_token}
        assert (await client.post("/api/v1/groups", json=group, headers=cookie | foreign)).status_code == 403
        assert (await client.post("/api/v1/groups", json=group, headers=cookie | csrf)).status_code == 201
        out = await client.post("/api/v1/sign-out", headers=cookie | csrf)
        assert out.status_code == 204
        assert "max-age=0" in out.headers["set-cookie"].lower()
        assert (await client.get("/api/v1/me", headers=cookie)).status_code == 401
        assert value


async def test_throttling_over_http(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    body = {"tenant": "acme", "email": acme.owner_email, "password": "wrong but long enough"}
    async with world.client(source="198.51.100.9") as client:
        answers = [await client.post("/api/v1/sign-in", json=body) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "60"
    assert {answer.json()["code"] for answer in answers[:5]} == {"wrong-credentials"}


async def test_operators_and_people_are_apart(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    bearer = {"Authorization": f"Bearer {(await acme.sign_in('owner')).token}"}
    async with world.client() as client:
        assert (await client.get("/api/v1/tenants", headers=bearer)).status_code == 403
        root = await operator(world)
        assert [t["slug"] for t in (await client.get("/api/v1/tenants", headers=root)).json()["tenants"]] == ["acme"]
        for path in ("/api/v1/people", "/api/v1/groups", "/api/v1/me", "/api/v1/sessions"):
            assert (await client.get(path, headers=root)).status_code == 403
    async with world.client("acme.limen.test") as client:
        assert (await client.get("/api/v1/tenants", headers=root)).status_code == 401


async def test_an_operators_token_does_not_work_as_a_cookie(world: IdentityWorld) -> None:
    token = await world.tenancy.mint_operator("root")
    async with world.client() as client:
        response = await client.get("/api/v1/tenants", headers={"Cookie": f"{SESSION_COOKIE}={token}"})
    assert response.status_code == 401


async def test_when_the_database_is_gone_it_says_so(world: IdentityWorld, field_cipher: RandomFieldCipher) -> None:
    acme = await world.tenant("acme")
    bearer = {"Authorization": f"Bearer {(await acme.sign_in('owner')).token}"}
    gone = Database(SocketSource(Path("/nonexistent"), "gone"), field_cipher, wait=0.2)
    try:
        cut = IdentityWorld(gone)
        cut.keys, cut.identity.sessions._keys = world.keys, world.keys
        async with cut.client() as client:
            asked = await client.get("/api/v1/me", headers=bearer)
            body = {"tenant": "acme", "email": acme.owner_email, "password": PASSWORD}
            signing_in = await client.post("/api/v1/sign-in", json=body)
    finally:
        await gone.close()
    for answer in (asked, signing_in):
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert "database" in answer.json()["detail"]
        assert "nonexistent" not in answer.text
