"""The HTTP routes of the files room, from a name to a working sign-in."""

from base64 import b64decode, b64encode
from uuid import UUID

import asyncssh
import httpx
import pytest

from limen.control.files.endpoints import router
from limen.control.files.model import SignInClaim
from limen.crypto import sealing
from limen.db.database import Database
from tests.support.files import FilesWorld
from tests.support.identity import TenantWorld

KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode().strip()


@pytest.fixture
def world(database: Database) -> FilesWorld:
    return FilesWorld(database)


async def signed_in(world: FilesWorld, slug: str) -> tuple[TenantWorld, httpx.AsyncClient]:
    tenant = await world.tenant(slug)
    client = world.client(app=world.app([router(world.connections, world.users)]))
    body = {"tenant": slug, "email": f"owner@{slug}.example", "password": "a lamp beside the old door"}
    answer = await client.post("/api/v1/sign-in", json=body)
    assert answer.status_code == 200, answer.text
    client.headers["authorization"] = f"Bearer {answer.json()['token']}"
    return tenant, client


async def test_connect_a_bucket_and_let_a_person_in(world: FilesWorld) -> None:
    tenant, client = await signed_in(world, "acme")
    person = str(tenant.owner.person_id)
    place = {"name": "reports", "provider": "s3", "bucket": "my-bucket", "endpoint": "https://s3.example.com"}
    made = await client.post("/api/v1/connections", json=place)
    assert made.status_code == 201, made.text
    connection = made.json()
    assert not connection["has_credential"]
    public = b64decode((await client.get("/api/v1/connections/intake-key")).json()["public_key"])
    context = sealing.context("intake", tenant.id, UUID(connection["id"]))
    sealed = sealing.seal_to(public, b'{"access_key_id": "AK", "secret_access_key": "SECRET"}', context)
    path = f"/api/v1/connections/{connection['id']}/credential"
    assert (await client.put(path, json={"sealed": b64encode(sealed).decode()})).status_code == 204
    assert (await client.put(path, json={"sealed": "%%%"})).status_code == 400
    user = (
        await client.post(
            "/api/v1/sftp-users", json={"connection_id": connection["id"], "person_id": person, "username": "ana"}
        )
    ).json()
    assert user["login"] == f"ana.{connection['slug']}"
    keys = f"/api/v1/sftp-users/{user['id']}/keys"
    key = await client.post(keys, json={"public_key": KEY, "expires_at": "2099-01-01T00:00:00Z"})
    assert key.status_code == 201, key.text
    assert len((await client.get(keys)).json()["keys"]) == 1
    password = (await client.put(f"/api/v1/sftp-users/{user['id']}/password", json={})).json()["password"]
    listed = (await client.get("/api/v1/sftp-users")).json()["users"]
    assert listed[0]["has_password"]
    assert password not in (await client.get("/api/v1/sftp-users")).text
    await world.allow(tenant, UUID(person), UUID(connection["id"]))
    claim = SignInClaim(connection["slug"], "ana", "192.0.2.1", password=password)
    assert (await world.sign_in.authenticate(world.agent.id, claim)).allowed
    for gone in (f"{keys}/{key.json()['id']}", f"/api/v1/sftp-users/{user['id']}/password"):
        assert (await client.delete(gone)).status_code == 204
    assert not (await world.sign_in.authenticate(world.agent.id, claim)).allowed
    assert (await client.delete(f"/api/v1/sftp-users/{user['id']}")).status_code == 204
    assert (await client.delete(f"/api/v1/connections/{connection['id']}")).status_code == 204
    assert (await client.get("/api/v1/connections")).json() == {"connections": []}
    await client.aclose()
