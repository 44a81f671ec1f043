"""The routes of the audit trail over HTTP (in process), with the real service and database behind them."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from limen.control.audit.endpoints import router
from limen.kernel.errors import LimenError
from limen.kernel.ids import new_id
from limen.kernel.principal import Principal, Role
from tests.integration.audit.parts import ADDRESS, EMAIL, Room, sign_in
from tests.support.postgres import Tenants
from tests.unit.audit.verifier import check


class Caller:
    """Who the next request comes from."""

    def __init__(self) -> None:
        self.principal: Principal | None = None

    def become(self, tenant_id: UUID, role: Role) -> None:
        """A person of a tenant."""
        self.principal = Principal(tenant_id, new_id(), new_id(), role, "192.0.2.9")


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
async def client(room: Room, caller: Caller) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router(room.database, room.exporter))

    @app.middleware("http")
    async def identify(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.state.principal = caller.principal
        return await call_next(request)

    @app.exception_handler(LimenError)
    async def render(request: Request, exc: LimenError) -> Response:
        return JSONResponse({"code": exc.code}, status_code=exc.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://limen.test") as opened:
        yield opened


PATHS = ["/audit", "/audit/export", "/audit/checkpoints"]


@pytest.mark.row("O1")
@pytest.mark.parametrize("path", PATHS)
async def test_only_readers_of_the_audit_get_in(
    client: httpx.AsyncClient, caller: Caller, tenants: Tenants, path: str
) -> None:
    assert (await client.get(path)).status_code == 401
    caller.become(tenants.a, Role.MEMBER)
    assert (await client.get(path)).status_code == 403
    caller.principal = Principal(None, None, None, None, "192.0.2.9", operator_id=new_id())
    assert (await client.get(path)).status_code == 403
    caller.become(tenants.a, Role.AUDITOR)
    assert (await client.get(path)).status_code == 200


@pytest.mark.row("O1")
async def test_reading_and_paging(client: httpx.AsyncClient, caller: Caller, room: Room, tenants: Tenants) -> None:
    caller.become(tenants.a, Role.OWNER)
    ids = await room.record(tenants.a, *(sign_in(n) for n in range(5)))
    await room.record(tenants.b, sign_in())
    first = (await client.get("/audit", params={"limit": 3, "action": "identity."})).json()
    assert [r["id"] for r in first["records"]] == [str(i) for i in reversed(ids)][:3]
    assert (first["records"][0]["source"], first["records"][0]["personal"]) == (ADDRESS, {"email": EMAIL})
    second = (await client.get("/audit", params={"limit": 3, "before": first["next"]})).json()
    assert [r["id"] for r in second["records"]] == [str(i) for i in reversed(ids)][3:]
    assert second["next"] is None
    one = first["records"][1]
    for query in ({"actor": one["actor_id"]}, {"object": one["object_id"]}):
        assert [r["id"] for r in (await client.get("/audit", params=query)).json()["records"]] == [one["id"]]
    window = {"since": one["at"], "until": first["records"][0]["at"]}
    assert [r["id"] for r in (await client.get("/audit", params=window)).json()["records"]] == [one["id"]]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"actor": "x"},
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
        {"outcome": "maybe"},
        {"before": "x"},
        {"before": "2026-01-01T00:00:00Z~x"},
        {"before": "2026-01-01T00:00:00~00000000-0000-0000-0000-000000000000"},
    ],
)
async def test_bad_queries(client: httpx.AsyncClient, caller: Caller, tenants: Tenants, query: dict[str, str]) -> None:
    caller.become(tenants.a, Role.OWNER)
    assert (await client.get("/audit", params=query)).status_code in {400, 422}


@pytest.mark.row("O2")
async def test_export_and_checkpoints_fit_together(
    client: httpx.AsyncClient, caller: Caller, room: Room, tenants: Tenants
) -> None:
    caller.become(tenants.a, Role.AUDITOR)
    await room.record(tenants.a, sign_in(), sign_in())
    await room.sealer.seal_all()
    kept = (await client.get("/audit/checkpoints")).json()["checkpoints"]
    assert len(kept) == 1
    done = await client.get("/audit/export")
    assert done.headers["content-type"].startswith("application/jsonl")
    assert done.headers["cache-control"] == "no-store"
    found = check(done.content, await room.signer.public_key(), room.directory, trusted=kept[0])
    assert (found["ok"], found["records"]) == (True, 3)
    (own,) = (await client.get("/audit", params={"action": "audit.trail.export"})).json()["records"]
    assert own["source"] == "192.0.2.9"
    backwards = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    assert (await client.get("/audit/export", params=backwards)).status_code == 400
