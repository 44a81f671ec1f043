"""Rows T1 and I8 over every route that is mounted: another tenant's things, no credential, and headers."""

from typing import Any

import httpx
import pytest

from limen.api.app import create_api
from limen.api.headers import SECURITY_HEADERS
from limen.control.identity.endpoints import routers as identity_routers
from limen.control.tenancy.endpoints import router as tenancy_router
from limen.db.database import Database
from limen.kernel.principal import Permission
from tests.support.identity import PASSWORD, IdentityWorld, TenantWorld
from tests.support.matrix import assert_not_found_across, example, operations


@pytest.fixture
def world(database: Database) -> IdentityWorld:
    return IdentityWorld(database)


def openapi(world: IdentityWorld) -> dict[str, Any]:
    return create_api([tenancy_router(world.tenancy), *identity_routers(world.identity)]).openapi()


async def bearer(tenant: TenantWorld, name: str = "owner") -> dict[str, str]:
    return {"Authorization": f"Bearer {(await tenant.sign_in(name)).token}"}


@pytest.mark.row("T1")
async def test_another_tenants_things_are_not_found(world: IdentityWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    victim = await globex.person("ada")
    group = await world.identity.directory.create_group(globex.owner, "Engineers")
    await world.identity.directory.add_member(globex.owner, group.id, victim)
    session = await globex.sign_in("ada")
    ids = {"person_id": str(victim), "group_id": str(group.id), "session_id": str(session.session_id)}
    async with world.client() as client:
        asked = await assert_not_found_across(client, openapi(world), await bearer(acme), ids)
    assert {str(operation) for operation in asked} >= {
        "DELETE /api/v1/people/{person_id}",
        "PUT /api/v1/people/{person_id}/role",
        "DELETE /api/v1/sessions/{session_id}",
        "POST /api/v1/groups/{group_id}/members/{person_id}",
    }
    assert [p.id for p in await world.identity.directory.list_people(globex.owner) if p.id == victim]
    assert await world.identity.check_session(session.token, "203.0.113.7")


@pytest.mark.row("T1")
async def test_own_group_does_not_take_a_person_of_another_tenant(world: IdentityWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    victim = await globex.person("ada")
    group = await world.identity.directory.create_group(acme.owner, "Engineers")
    async with world.client() as client:
        path = f"/api/v1/groups/{group.id}/members/{victim}"
        response = await client.post(path, headers=await bearer(acme))
    assert response.status_code == 404


@pytest.mark.row("T1")
async def test_lists_hold_only_the_own_tenant(world: IdentityWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    await globex.person("zelda")
    await world.identity.directory.create_group(globex.owner, "Zeldas")
    await globex.sign_in("zelda")
    async with world.client() as client:
        headers = await bearer(acme)
        for operation in operations(openapi(world)):
            if operation.method == "get" and not operation.parameters and operation.permission != "platform.operate":
                response = await client.get(operation.path, headers=headers)
                assert response.status_code == 200, operation
                assert "zelda" not in response.text.lower(), operation
                assert str(globex.id) not in response.text, operation


@pytest.mark.row("T1")
async def test_a_session_is_no_use_on_another_tenants_host(world: IdentityWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    headers = await bearer(acme)
    for host, status in (("acme.limen.test", 200), ("globex.limen.test", 401), ("limen.test", 200)):
        async with world.client(host) as client:
            assert (await client.get("/api/v1/me", headers=headers)).status_code == status
    async with world.client("globex.limen.test") as client:
        body = {"tenant": "acme", "email": acme.owner_email, "password": PASSWORD}
        assert (await client.post("/api/v1/sign-in", json=body)).status_code == 400
        del body["tenant"]
        assert (await client.post("/api/v1/sign-in", json=body)).status_code == 401
        body["email"] = globex.owner_email
        assert (await client.post("/api/v1/sign-in", json=body)).status_code == 200


@pytest.mark.row("I7")
async def test_every_route_refuses_those_without_its_permission(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    await acme.person("ada")
    member = await bearer(acme, "ada")
    document = openapi(world)
    ids = {"person_id": str(acme.owner.person_id), "group_id": str(acme.id), "session_id": str(acme.id)}
    async with world.client() as client:
        for operation in operations(document):
            assert operation.permission in set(Permission), operation
            if operation.permission == Permission.PUBLIC:
                continue
            path = operation.path.format(**ids)
            response = await client.request(operation.method, path, json=operation.body)
            assert response.status_code == 401, operation
            if operation.permission != Permission.SELF:
                response = await client.request(operation.method, path, json=operation.body, headers=member)
                assert response.status_code == 403, operation


@pytest.mark.row("I8")
async def test_every_route_sends_the_security_headers(world: IdentityWorld) -> None:
    document = openapi(world)
    async with world.client() as client:
        for operation in operations(document):
            path = operation.path.format(**dict.fromkeys(operation.parameters, "x"))
            response = await client.request(operation.method, path, json=operation.body)
            check_headers(response)
            assert response.headers["cache-control"] == "no-store"


def check_headers(response: httpx.Response) -> None:
    for name in SECURITY_HEADERS:
        assert len(response.headers.get_list(name)) == 1, (response.url, name)


async def test_every_body_refuses_unknown_fields(world: IdentityWorld) -> None:
    acme = await world.tenant("acme")
    headers = await bearer(acme)
    operator = {"Authorization": f"Bearer {await world.tenancy.mint_operator('root')}"}
    asked = 0
    async with world.client() as client:
        for operation in operations(openapi(world)):
            if operation.body is None:
                continue
            path = operation.path.format(**dict.fromkeys(operation.parameters, str(acme.id)))
            who = operator if operation.permission == Permission.OPERATE_PLATFORM else headers
            body = operation.body | {"is_admin": True}
            response = await client.request(operation.method, path, json=body, headers=who)
            assert response.status_code == 400, operation
            assert response.json()["errors"] == [{"where": "body.is_admin", "what": "Extra inputs are not permitted"}]
            asked += 1
    assert asked >= 6


@pytest.mark.parametrize("text", ["\x00", "\x00'; --", "\U0010ffff" * 20, "\u202e", "a" * 5000, "'\"<>%s{}\\"])
async def test_no_text_in_any_field_is_an_unforeseen_error(world: IdentityWorld, text: str) -> None:
    acme = await world.tenant("acme")
    owner = await bearer(acme)
    operator = {"Authorization": f"Bearer {await world.tenancy.mint_operator('root')}"}
    async with world.client() as client:
        for operation in operations(openapi(world)):
            path = operation.path.format(**dict.fromkeys(operation.parameters, str(acme.owner.person_id)))
            who = operator if operation.permission == Permission.OPERATE_PLATFORM else owner
            for name in operation.body or {}:
                body = (operation.body or {}) | {name: text}
                response = await client.request(operation.method, path, json=body, headers=who)
                assert response.status_code < 500, (operation, name, response.text)
            for value in ("%00", "%ff", "%27%22%25s"):
                if operation.path.endswith("/sign-out"):
                    continue
                response = await client.request(
                    operation.method,
                    operation.path.format(**dict.fromkeys(operation.parameters, value)),
                    params={"search": text},
                    headers=who,
                )
                assert response.status_code < 500, (operation, value, response.text)


def test_examples_are_of_the_schema() -> None:
    document = {"components": {"schemas": {"R": {"enum": ["a", "b"]}}}}
    schema = {
        "type": "object",
        "required": ["r", "n", "list", "flag", "text"],
        "properties": {
            "r": {"$ref": "#/components/schemas/R"},
            "n": {"type": "integer", "minimum": 3},
            "list": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "flag": {"type": "boolean"},
            "text": {"anyOf": [{"type": "string", "minLength": 20}, {"type": "null"}]},
            "optional": {"type": "string"},
        },
    }
    assert example(schema, document) == {"r": "a", "n": 3, "list": ["x" * 12], "flag": False, "text": "x" * 20}
