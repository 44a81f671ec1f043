"""Row T1 over the whole control plane as ``limen serve`` composes it, with a real keyd and a real database.

A route that is added to any room is covered at once; a new kind of id must be added to :func:`things_of`.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from limen.api.app import create_api
from limen.control.custody.service import CustodyFieldCipher
from limen.db.database import Database
from limen.db.source import SocketSource
from limen.kernel.clock import SystemClock
from limen.kernel.ids import new_id
from limen.kernel.principal import Permission
from limen.processes.serve.composition import ControlPlane, application, compose, routers
from limen.processes.serve.settings import DatabaseSettings, ServeSettings
from tests.integration.keyd.conftest import Keyd, directory, keyd
from tests.support.api import client_of
from tests.support.identity import PASSWORD, QuickHasher
from tests.support.matrix import assert_not_found_across, operations

__all__ = ["directory", "keyd"]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNZf5V5yLCbEUqTqnzGGjvuYLSBdZyA2wZ9hqXKZb0y"
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/sftp-users/{user_id}/keys": {"public_key": KEY},
    "PUT /api/v1/connections/{connection_id}/credential": {"sealed": "AAAA"},
}


@dataclass
class Whole:
    """The composed application, two tenants, and a client of each owner."""

    plane: ControlPlane
    document: dict[str, Any]
    a: httpx.AsyncClient
    b: httpx.AsyncClient
    b_tenant: UUID
    operator: str


@pytest.fixture
async def whole(keyd: Keyd, scratch_source: SocketSource, tmp_path: Path) -> AsyncIterator[Whole]:
    custody = await keyd.start()
    cipher = CustodyFieldCipher(custody)
    settings = ServeSettings(
        state=tmp_path,
        keyd_socket=keyd.socket,
        database=DatabaseSettings(socket=tmp_path),
        base_domain="limen.test",
    )
    async with Database(scratch_source, cipher) as database:
        plane = compose(settings, database, cipher, custody, SystemClock(), b"")
        quick = QuickHasher()
        for part in (plane.identity, plane.identity.sign_in, plane.identity.passwords):
            setattr(part, "hasher" if part is plane.identity else "_hasher", quick)
        app = application(settings, plane, await custody.authorities(), b"")
        operator = await plane.tenancy.mint_operator("root")
        async with client_of(app) as a, client_of(app) as b:
            await open_tenant(a, operator, "acme")
            tenant = await open_tenant(b, operator, "globex")
            yield Whole(plane, create_api(routers(plane)).openapi(), a, b, tenant, operator)
    await custody.close()


async def open_tenant(client: httpx.AsyncClient, operator: str, slug: str) -> UUID:
    """Open a tenant and sign its owner in on ``client``."""
    headers = {"Authorization": f"Bearer {operator}"}
    created = await client.post("/api/v1/tenants", json={"slug": slug, "name": slug.title()}, headers=headers)
    assert created.status_code == 201, created.text
    owner = {"email": f"owner@{slug}.example", "password": PASSWORD}
    body = {"token": created.json()["setup_token"], "name": "Olive", **owner}
    assert (await client.post("/api/v1/setup", json=body)).status_code == 201
    signed_in = await client.post("/api/v1/sign-in", json={"tenant": slug, **owner})
    assert signed_in.status_code == 200, signed_in.text
    client.headers["Authorization"] = f"Bearer {signed_in.json()['token']}"
    return UUID(created.json()["id"])


async def things_of(whole: Whole) -> dict[str, str]:
    """One of everything in tenant B, by the name of the path parameter."""
    client = whole.b

    async def make(path: str, **body: object) -> dict[str, Any]:
        answer = await client.post(f"/api/v1{path}", json=body)
        assert answer.status_code in (200, 201), (path, answer.text)
        made: dict[str, Any] = answer.json()
        return made

    me = (await client.get("/api/v1/me")).json()
    person = await make("/people", email="zelda@globex.example", name="Zelda")
    group = await make("/groups", name="Zeldas")
    await client.post(f"/api/v1/groups/{group['id']}/members/{person['id']}")
    resource = await make("/resources", kind="network", name="zelda-server", cidr="10.9.8.7/32")
    policy = await make(
        "/policies", name="zelda-policy", principals=[group["id"]], resources=[resource["id"]], actions=["connect"]
    )
    grant = (await client.get("/api/v1/grants")).json()["grants"][0]
    token = await make("/vault/tokens", display="zelda")
    workload = await make("/workloads", name="zelda-ci")
    ids = {
        "person_id": person["id"],
        "subject_id": person["id"],
        "group_id": group["id"],
        "session_id": me["session"],
        "resource_id": resource["id"],
        "policy_id": policy["id"],
        "grant_id": grant["id"],
        "token_id": token.get("id") or token["token"]["id"],
        "workload_id": workload["id"],
        "agent_id": str(await an_agent(whole)),
    }
    if "/api/v1/connections" in whole.document["paths"]:
        connection = await make("/connections", name="zelda-files", provider="local", root="/srv/zelda")
        user = await make("/sftp-users", connection_id=connection["id"], person_id=person["id"], username="zelda")
        key = await make(f"/sftp-users/{user['id']}/keys", public_key=KEY)
        ids |= {"connection_id": connection["id"], "user_id": user["id"], "key_id": key["id"]}
    return ids


async def an_agent(whole: Whole) -> UUID:
    agent_id = new_id()
    async with whole.plane.database.transaction(whole.b_tenant) as tx:
        await tx.execute(
            "INSERT INTO agents (tenant_id, id, kind, name, spki_sha256, sealing_key, tunnel_host, state, enrolled_at)"
            " VALUES (%s, %s, 'gateway', 'zelda-gateway', %s, %s, 77, 'active', now())",
            (whole.b_tenant, agent_id, b"s" * 32, b"k" * 32),
        )
    return agent_id


@pytest.mark.row("T1")
async def test_another_tenants_things_are_not_found_anywhere(whole: Whole) -> None:
    ids = await things_of(whole)
    before = await everything_of(whole.b, whole.document)
    asked = await assert_not_found_across(whole.a, whole.document, {}, ids, BODIES)
    assert len(asked) >= 15
    assert await everything_of(whole.b, whole.document) == before


@pytest.mark.row("T1")
async def test_lists_and_exports_hold_nothing_of_another_tenant(whole: Whole) -> None:
    ids = await things_of(whole)
    for path, text in (await everything_of(whole.a, whole.document)).items():
        for word in ("zelda", "globex", str(whole.b_tenant), *ids.values()):
            assert word not in text.lower(), (path, word)


@pytest.mark.row("I7")
async def test_no_route_answers_a_stranger(whole: Whole) -> None:
    ids = await things_of(whole)
    for operation in operations(whole.document):
        assert operation.permission in set(Permission), operation
        if operation.permission != Permission.PUBLIC:
            path = operation.path.format(**{name: ids.get(name, str(new_id())) for name in operation.parameters})
            body = {**(operation.body or {}), **BODIES.get(str(operation), {})} or None
            response = await whole.a.request(operation.method, path, json=body, headers={"Authorization": ""})
            assert response.status_code == 401, (operation, response.text)


@pytest.mark.parametrize("text", ["\x00", "\u202e", "a" * 600, "'\"<>%s{}\\", "\U0010ffff" * 9])
async def test_no_text_in_any_field_is_an_unforeseen_error(whole: Whole, text: str) -> None:
    wrong: list[str] = []
    for operation in operations(whole.document):
        path = operation.path.format(**{name: str(new_id()) for name in operation.parameters})
        headers = {"Authorization": f"Bearer {whole.operator}"} if "tenants" in path or "platform" in path else {}
        for name, value in (operation.body or {}).items():
            hostile = [text] if isinstance(value, list) else text
            body = {**(operation.body or {}), name: hostile}
            response = await whole.a.request(operation.method, path, json=body, headers=headers)
            if response.status_code >= 500:
                wrong.append(f"{operation} {name}: {response.status_code} {response.text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.row("T1")
async def test_a_token_of_a_tenant_that_does_not_exist_or_is_another(whole: Whole) -> None:
    token = whole.a.headers["Authorization"].removeprefix("Bearer ")
    header, payload, signature = token.split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    for tenant in (new_id(), whole.b_tenant):
        forged = urlsafe_b64encode(json.dumps(claims | {"tid": str(tenant)}).encode()).rstrip(b"=").decode()
        answer = await whole.a.get("/api/v1/me", headers={"Authorization": f"Bearer {header}.{forged}.{signature}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text


async def everything_of(client: httpx.AsyncClient, document: dict[str, Any]) -> dict[str, str]:
    """What every GET without parameters shows, but for what changes by looking (sessions' and audit's times)."""
    shown: dict[str, str] = {}
    for operation in operations(document):
        wanted = operation.method == "get" and not operation.parameters
        if wanted and operation.permission != "platform.operate" and "/audit" not in operation.path:
            response = await client.get(operation.path)
            assert response.status_code == 200, (operation, response.text)
            shown[operation.path] = json.dumps(response.json(), sort_keys=True)
    return shown
