"""Two tenants with the same names everywhere: nothing of one is reachable, changeable or visible from the other."""

import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from limen.api.app import create_api
from limen.control.vault.endpoints import router
from limen.control.vault.model import IssuedToken, Presented, Version, Workload, WorkloadState
from limen.control.vault.rules import versions
from limen.control.vault.service.tokens import TokenWish
from limen.control.vault.store import secrets, standing, tokens, workloads
from limen.db.errors import DatabaseFault, ReferenceViolated
from limen.kernel.access import Action, SubjectKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind, Principal, Role
from tests.integration.vault.world import VaultWorld
from tests.support.postgres import Tenants

pytestmark = pytest.mark.row("T1", "T2")
ADMIN = Actor(ActorKind.PERSON, None)
PLANTED = "planted-in-tenant-a"


@dataclass
class Side:
    """One tenant with everything in it."""

    tenant: UUID
    mount: UUID
    issued: IssuedToken
    secret: UUID
    grant: UUID
    workload: UUID

    @property
    def person(self) -> UUID:
        return self.issued.token.subject_id


async def _side(world: VaultWorld, tenant: UUID, value: str) -> Side:
    mount = await world.mount(tenant)
    issued = await world.allowed(tenant, mount)
    written = await world.client(issued.text).put("/secret/data/app", json={"data": {"k": value}})
    assert written.status_code == 200
    workload = await world.vault.workloads.create(tenant, "ci", ADMIN)
    (secret,) = await world.database.query(tenant, "SELECT id FROM vault_secrets WHERE tenant_id = %s", (tenant,))
    (grant,) = await world.database.query(tenant, "SELECT id FROM grants WHERE tenant_id = %s", (tenant,))
    return Side(tenant, mount.id, issued, secret["id"], grant["id"], workload.id)


@pytest.fixture
async def sides(world: VaultWorld, tenants: Tenants) -> tuple[Side, Side]:
    """Tenant a, which holds the planted value, and tenant b, which asks."""
    return await _side(world, tenants.a, PLANTED), await _side(world, tenants.b, "of b")


ROUTES = [
    ("GET", "secret/data/app", None),
    ("PUT", "secret/data/app", {"data": {"k": "overwritten"}}),
    ("POST", "secret/data/app", {"data": {"k": "overwritten"}}),
    ("PATCH", "secret/data/app", {"data": {"k": "overwritten"}}),
    ("DELETE", "secret/data/app", None),
    ("GET", "secret/metadata/app", None),
    ("LIST", "secret/metadata/", None),
    ("GET", "secret/metadata/?list=true", None),
    ("PUT", "secret/metadata/app", {"max_versions": 1}),
    ("PATCH", "secret/metadata/app", {"custom_metadata": {"k": "v"}}),
    ("DELETE", "secret/metadata/app", None),
    ("POST", "secret/delete/app", {"versions": [1]}),
    ("POST", "secret/undelete/app", {"versions": [1]}),
    ("POST", "secret/destroy/app", {"versions": [1]}),
    ("GET", "secret/nope/app", None),
    ("GET", "auth/token/lookup-self", None),
    ("POST", "auth/token/renew-self", None),
    ("POST", "auth/token/revoke-self", None),
    ("GET", "sys/mounts", None),
    ("GET", "sys/internal/ui/mounts/secret/app", None),
    ("POST", "sys/capabilities-self", {"paths": ["secret/data/app"]}),
    ("GET", "sys/nope", None),
]


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    return await client.request(method, f"/{path}", json=body, headers=headers)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES])
async def test_no_route_crosses(world: VaultWorld, sides: tuple[Side, Side], method: str, path: str, body: Any) -> None:
    a, b = sides
    before = await _everything(world, a.tenant)
    # b's token dressed up as one of a's; a's token id with b's secret; b's token under a's name.
    crossed = b.issued.text.replace(b.tenant.hex, a.tenant.hex)
    mixed = f"{a.issued.text.rpartition('.')[0]}.{b.issued.text.rpartition('.')[2]}"
    for token in (crossed, mixed):
        answer = await _ask(world.client(token), method, path, body)
        assert answer.status_code == 403
        assert answer.json() == {"errors": ["permission denied"]}
    named = await _ask(world.client(b.issued.text), method, path, body, **{"X-Vault-Namespace": "tenant-a"})
    assert (named.status_code, named.json()) == (404, {"errors": ["namespace not found"]})
    nowhere = await _ask(world.client(b.issued.text), method, path, body, **{"X-Vault-Namespace": "no-such"})
    assert (nowhere.status_code, nowhere.content) == (named.status_code, named.content)
    # The same names mean b's own things.
    own = await _ask(world.client(b.issued.text), method, path, body)
    assert PLANTED not in own.text
    assert str(a.mount) not in own.text
    assert await _everything(world, a.tenant) == before


async def test_a_mount_of_the_other_tenant_is_as_unknown_as_none(world: VaultWorld, sides: tuple[Side, Side]) -> None:
    a, b = sides
    await world.mount(a.tenant, "only-in-a")
    client = world.client(b.issued.text)
    for method, path, body in ROUTES:
        if path.startswith("secret/"):
            there = await _ask(client, method, path.replace("secret", "only-in-a", 1), body)
            nowhere = await _ask(client, method, path.replace("secret", "in-nobody", 1), body)
            assert (there.status_code, there.json().get("errors")) == (
                nowhere.status_code,
                nowhere.json().get("errors"),
            )
            assert there.status_code in (403, 404)


async def test_the_host_name_of_the_other_tenant_refuses(world: VaultWorld, sides: tuple[Side, Side]) -> None:
    _, b = sides
    label: str | None = None

    async def at_host(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"tenant_slug": label, "source": "192.0.2.9"}
        await world.app(scope, receive, send)

    headers = {"X-Vault-Token": b.issued.text}
    transport = httpx.ASGITransport(app=at_host)
    async with httpx.AsyncClient(transport=transport, base_url="http://vault/v1", headers=headers) as client:
        for host_label, status in (("tenant-a", 403), ("tenant-b", 200), (None, 200)):
            label = host_label
            assert (await client.get("/secret/data/app")).status_code == status


async def test_no_store_method_crosses(world: VaultWorld, sides: tuple[Side, Side]) -> None:
    a, b = sides
    now = world.clock.now()
    before = await _everything(world, a.tenant)
    called = set()
    head = versions.fresh(now)
    version = Version(1, now, None, destroyed=False)
    token = a.issued.token
    reads: list[tuple[Any, tuple[Any, ...], Any]] = [
        (secrets.find, (a.mount, "app"), None),
        (secrets.versions, (a.secret,), []),
        (secrets.blob, (a.secret, 1), None),
        (secrets.children, (a.mount, "", "", None), []),
        (standing.live_grants, (frozenset({a.grant}), now), frozenset()),
        (standing.hold_grant, (a.grant, now), False),
        (tokens.lock, (token.id,), None),
        (tokens.revoke, (token.id, now), False),
        (tokens.revoke_of, (a.person, now), []),
        (tokens.live_of, (SubjectKind.PERSON, a.person, now), []),
        (workloads.find, (a.workload,), None),
        (workloads.find_many, ([a.workload],), []),
        (workloads.remove, (a.workload, now), False),
    ]
    for method, arguments, nothing in reads:
        called.add(method)
        async with world.database.transaction(b.tenant) as tx:
            assert await method(tx, *arguments) == nothing, method.__name__
    async with world.database.transaction(b.tenant) as tx:
        called.add(workloads.list_active)
        assert [found.id for found in await workloads.list_active(tx)] == [b.workload]
    changes: list[tuple[Any, tuple[Any, ...]]] = [
        (secrets.update, (a.secret, head)),
        (secrets.set_custom_metadata, (a.secret, b"x")),
        (secrets.delete, (a.secret,)),
        (secrets.save_versions, (a.secret, [versions.destroy(version)])),
        (tokens.set_expiry, (token.id, now + timedelta(days=1))),
    ]
    for change, arguments in changes:
        called.add(change)
        async with world.database.transaction(b.tenant) as tx:
            await change(tx, *arguments)
    inserts: list[tuple[Any, tuple[Any, ...]]] = [
        (secrets.insert, (a.mount, "intruder", head)),
        (secrets.add_version, (a.secret, version, b"x", 0)),
    ]
    for insert, arguments in inserts:
        called.add(insert)
        with pytest.raises(ReferenceViolated):
            async with world.database.transaction(b.tenant) as tx:
                await insert(tx, *arguments)
    # These two write into the transaction's tenant whatever they are given.
    async with world.database.transaction(b.tenant) as tx:
        await tokens.insert(tx, token, b"x" * 32)
        await workloads.insert(tx, Workload(new_id(), "other", WorkloadState.ACTIVE, now))
        called |= {tokens.insert, workloads.insert}
    presented_as_b = {"database": world.database, "now": now}
    for ask in (standing.bearer, standing.passage, standing.reading):
        called.add(ask)
        place = await _stand(ask, a, b, **presented_as_b)
        assert place is None or place.standing.secret_hash == b"x" * 32
    assert await _everything(world, a.tenant) == before
    assert called == {
        function
        for module in (secrets, standing, tokens, workloads)
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


async def _stand(ask: Any, a: Side, b: Side, *, database: Any, now: Any) -> Any:
    """Look for a's token among b's rows (b has a token of that id by then, with another hash)."""
    presented = Presented(b.tenant, a.issued.token.id, b"", "", source="", namespace="", host_label="")
    more: dict[Any, tuple[Any, ...]] = {
        standing.bearer: (),
        standing.passage: ("secret", Action.READ, now),
        standing.reading: ("secret", "app", 0, now),
    }
    return await ask(database, presented, *more[ask])


async def test_row_level_security_holds_without_the_where_clause(world: VaultWorld, sides: tuple[Side, Side]) -> None:
    a, b = sides
    for table in ("vault_secrets", "vault_versions", "vault_tokens", "workloads"):
        rows = await world.database.query(b.tenant, f"SELECT tenant_id FROM {table}")
        assert {row["tenant_id"] for row in rows} == {b.tenant}
        async with world.database.transaction(b.tenant) as tx:
            assert await tx.execute(f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %s", (a.tenant,)) == 0
    with pytest.raises(DatabaseFault):
        await world.database.query(
            b.tenant,
            "INSERT INTO workloads (tenant_id, id, name, state, created_at) VALUES (%s, %s, 'x', 'active', now())",
            (a.tenant, new_id()),
        )


@pytest.mark.row("T3")
async def test_a_ciphertext_moved_to_the_other_tenant_or_another_row_does_not_open(
    world: VaultWorld, sides: tuple[Side, Side]
) -> None:
    a, b = sides
    (stolen,) = await world.database.query(
        a.tenant, "SELECT blob FROM vault_versions WHERE tenant_id = %s", (a.tenant,)
    )
    await world.database.query(
        b.tenant, "UPDATE vault_versions SET blob = %s WHERE tenant_id = %s", (stolen["blob"], b.tenant)
    )
    moved = await world.client(b.issued.text).get("/secret/data/app")
    assert moved.status_code >= 400
    assert PLANTED not in moved.text
    client = world.client(a.issued.text)
    await client.put("/secret/data/other", json={"data": {}})
    await world.database.query(
        a.tenant,
        "UPDATE vault_versions SET blob = %s WHERE tenant_id = %s AND secret_id <> %s",
        (stolen["blob"], a.tenant, a.secret),
    )
    swapped = await client.get("/secret/data/other")
    assert swapped.status_code >= 400
    assert PLANTED not in swapped.text


def _api(world: VaultWorld, who: Principal | None) -> httpx.AsyncClient:
    api = create_api([router(world.vault)])

    async def signed_in(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"principal": who, "source": "192.0.2.9", "refusal": None}
        await api(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=signed_in), base_url="http://limen/api/v1")


def _principal(side: Side, role: Role) -> Principal:
    return Principal(side.tenant, side.person, new_id(), role, "192.0.2.9")


async def test_the_routes_of_tokens_and_workloads(world: VaultWorld, sides: tuple[Side, Side]) -> None:
    a, b = sides
    owner, member = _api(world, _principal(b, Role.OWNER)), _api(world, _principal(b, Role.MEMBER))
    before = await _everything(world, a.tenant)
    # Of the other tenant: not found.
    assert (await owner.delete(f"/vault/tokens/{a.issued.token.id}")).status_code == 404
    assert (await owner.delete(f"/workloads/{a.workload}")).status_code == 404
    assert (await owner.post(f"/workloads/{a.workload}/token", json={})).status_code == 404
    listed = await owner.get("/workloads")
    assert [workload["id"] for workload in listed.json()["workloads"]] == [str(b.workload)]
    own = (await owner.get("/vault/tokens")).json()["tokens"]
    assert [token["id"] for token in own] == [str(b.issued.token.id)]
    assert await _everything(world, a.tenant) == before
    # Nobody, and somebody without the permission.
    for method, path in (("GET", "/vault/tokens"), ("POST", "/vault/tokens"), ("GET", "/workloads")):
        assert (await _api(world, None).request(method, path, json={})).status_code == 401
    operator = Principal(None, None, None, None, "", operator_id=new_id())
    assert (await _api(world, operator).post("/vault/tokens", json={})).status_code == 403
    for method, path in (
        ("GET", "/workloads"),
        ("POST", "/workloads"),
        ("DELETE", f"/workloads/{b.workload}"),
        ("POST", f"/workloads/{b.workload}/token"),
    ):
        assert (await member.request(method, path, json={"name": "x"})).status_code == 403
    # One's own.
    made = await member.post("/vault/tokens", json={"ttl": 60, "display": "laptop"})
    assert made.status_code == 201
    assert (await world.client(made.json()["token"]).get("/secret/data/app")).status_code == 200
    assert (await member.delete(f"/vault/tokens/{made.json()['id']}")).status_code == 204
    assert (await world.client(made.json()["token"]).get("/secret/data/app")).status_code == 403
    for body in ({"ttl": 0}, {"ttl": 10**9}, {"unknown": 1}, {"ttl": "60"}, {"display": "x" * 65}):
        assert (await member.post("/vault/tokens", json=body)).status_code in (400, 422)
    workload = await owner.post("/workloads", json={"name": "deploy"})
    assert workload.status_code == 201
    assert (await owner.post("/workloads", json={"name": "DEPLOY"})).status_code == 409
    token = await owner.post(f"/workloads/{workload.json()['id']}/token", json={"ttl": 90000})
    assert token.status_code == 201
    assert (await owner.delete(f"/workloads/{workload.json()['id']}")).status_code == 204
    # A colleague's token is not one's own.
    colleague = await world.token(b.tenant, await world.person(b.tenant), TokenWish())
    assert (await owner.delete(f"/vault/tokens/{colleague.token.id}")).status_code == 404


async def _everything(world: VaultWorld, tenant: UUID) -> list[Any]:
    """All vault rows of a tenant, and which of its grants live."""
    rows: list[Any] = []
    for table in ("vault_secrets", "vault_versions", "vault_tokens", "workloads"):
        rows += await world.database.query(
            tenant, f"SELECT * FROM {table} WHERE tenant_id = %s ORDER BY 1, 2", (tenant,)
        )
    return rows + await world.database.query(
        tenant, "SELECT id, state FROM grants WHERE tenant_id = %s ORDER BY id", (tenant,)
    )
