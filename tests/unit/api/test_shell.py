"""The HTTP shell: problems, headers, bodies, hosts, access."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import Request
from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limen.api.access import Authenticated
from limen.api.app import AppSettings, create_app
from limen.api.body import BodyLimit
from limen.api.headers import SECURITY_HEADERS
from limen.api.hosts import HostRules
from limen.api.problems import TooSlow
from limen.kernel.errors import Conflict, Denied, NotFound, RateLimited, Unauthenticated, Unavailable
from limen.kernel.ids import new_id
from limen.kernel.principal import Permission, Principal, Role
from limen.runtime.http import Body, SecureRouter, View, principal
from tests.support.api import FixedAuthenticator, client_of

TENANT, PERSON = new_id(), new_id()
MEMBER = Principal(TENANT, PERSON, new_id(), Role.MEMBER, "203.0.113.7")
OWNER = Principal(TENANT, PERSON, new_id(), Role.OWNER, "203.0.113.7")
CSRF = "c" * 43


class Note(Body):
    text: str = Field(max_length=10)
    count: int = 0


class Echo(View):
    text: str


def notes() -> SecureRouter:
    routes = SecureRouter()
    errors: dict[str, Exception] = {
        "missing": NotFound("no such note", fix="look at the list"),
        "conflict": Conflict("it is there already"),
        "denied": Denied("not you"),
        "limited": RateLimited("too often", retry_after=2.2),
        "down": Unavailable("the database does not answer", fix="wait"),
        "bug": RuntimeError("password=hunter2 at 198.51.100.5"),
    }

    @routes.act("/notes", Permission.SELF)
    async def write(body: Note) -> Echo:
        return Echo(text=body.text)

    @routes.act("/public-notes", Permission.PUBLIC)
    async def write_public(body: Note) -> Echo:
        return Echo(text=body.text)

    @routes.read("/notes", Permission.SELF)
    async def read(request: Request) -> Echo:
        return Echo(text=str(principal(request).person_id))

    @routes.read("/managed", Permission.MANAGE_POLICIES)
    async def managed() -> Echo:
        return Echo(text="managed")

    @routes.read("/errors/{name}", Permission.PUBLIC)
    async def fail(name: str) -> Echo:
        raise errors[name]

    return routes


@pytest.fixture
def authenticator() -> FixedAuthenticator:
    return FixedAuthenticator(
        {
            "member": Authenticated(MEMBER, "", datetime(2026, 6, 1, tzinfo=UTC)),
            "owner": Authenticated(OWNER),
            "browser": Authenticated(MEMBER, CSRF),
            "ended": Unauthenticated("your session has ended", fix="sign in again"),
            "unsure": Unavailable("keyd does not answer"),
        },
        {"acme": TENANT, "globex": new_id()},
    )


@pytest.fixture
def app(authenticator: FixedAuthenticator) -> ASGIApp:
    async def door(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"door {request.state.principal is not None}", headers={"Cache-Control": "max-age=60"})

    async def fine() -> None:
        return None

    return create_app(
        AppSettings(HostRules("limen.test"), body_limits={"/v1/": 2 << 20}),
        authenticator,
        [notes()],
        health={"database": fine},
        routes=[
            Route("/.well-known/thing", door),
            Route("/page", door, methods=["GET", "POST"]),
            Route("/v1/secret", door, methods=["GET", "POST"]),
        ],
    )


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == "about:blank"
    assert (document["status"], document["code"]) == (status, code)
    assert document["title"]
    assert document["detail"]
    return document


# --- problems -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("missing", 404, "not-found"),
        ("conflict", 409, "conflict"),
        ("denied", 403, "denied"),
        ("limited", 429, "rate-limited"),
        ("down", 503, "unavailable"),
        ("bug", 500, "internal"),
    ],
)
async def test_every_error_is_a_problem_document(client: httpx.AsyncClient, name: str, status: int, code: str) -> None:
    document = check_problem(await client.get(f"/api/v1/errors/{name}"), status, code)
    assert (name == "missing") == (document.get("fix") == "look at the list")


async def test_retry_after_is_given_in_whole_seconds(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/errors/limited")).headers["retry-after"] == "3"
    assert (await client.get("/api/v1/errors/down")).headers["retry-after"] == "5"


async def test_the_unforeseen_shows_an_id_and_nothing_else(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/errors/bug")
    assert "hunter2" not in response.text
    assert "198.51" not in response.text
    assert "RuntimeError" not in response.text
    assert response.json()["id"]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/nothing", "/api", "/nothing", "/v1/nothing"])
async def test_unknown_paths(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.get(path), 404, "not-found")


async def test_wrong_method_names_the_right_ones(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/v1/managed")
    check_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"{'text': 'a'}",
        b'{"text": "a"} trailing',
        b"\xff\xfe",
        b"[" * 100_000,
        b"NaN",
        b"null",
        b"[]",
        b'"x"',
    ],
)
async def test_malformed_json_is_said_plainly(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post(
        "/api/v1/notes", content=body, headers=bearer("member") | {"Content-Type": "application/json"}
    )
    document = check_problem(response, 400, "malformed")
    assert "\\" not in document["detail"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"text": "a", "colour": "red"}, "body.colour"),
        ({"count": 1}, "body.text"),
        ({"text": 5}, "body.text"),
        ({"text": "a", "count": "many-secrets"}, "body.count"),
        ({"text": "x" * 11}, "body.text"),
        ({"text": "\ud800"}, "body.text"),
    ],
)
async def test_a_body_that_breaks_its_schema_says_where_and_never_repeats_the_value(
    client: httpx.AsyncClient, body: dict[str, Any], where: str
) -> None:
    import json

    response = await client.post(
        "/api/v1/notes", content=json.dumps(body), headers=bearer("member") | {"Content-Type": "application/json"}
    )
    document = check_problem(response, 400, "malformed")
    assert [error["where"] for error in document["errors"]] == [where]
    assert "many-secrets" not in response.text


async def test_a_form_is_no_json(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/notes", data={"text": "a"}, headers=bearer("member"))
    check_problem(response, 400, "malformed")


# --- bodies -------------------------------------------------------------------------------------------------


async def test_a_declared_body_that_is_too_large_is_refused_unread(app: ASGIApp) -> None:
    sent: list[Message] = []

    async def never() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/notes",
        "headers": [(b"host", b"limen.test"), (b"content-length", str((1 << 20) + 1).encode())],
        "client": ("203.0.113.7", 1),
        "query_string": b"",
    }
    await app(scope, never, send)
    assert sent[0]["status"] == 413


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536 + 1):
        yield b"x" * 65536


async def test_an_undeclared_body_is_cut_at_the_limit(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/notes", content=chunks(1 << 20), headers=bearer("member"))
    check_problem(response, 413, "too-large")


async def test_a_door_may_take_more(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/secret", content=b"x" * (1 << 20 | 1))).status_code == 200
    assert (await client.post("/v1/secret", content=chunks(2 << 20))).status_code == 413


@pytest.mark.parametrize("length", ["-1", "+5", "5_0", "x", "٣", ""])
async def test_a_length_that_is_no_number(client: httpx.AsyncClient, length: str) -> None:
    response = await client.post("/api/v1/notes", content=b"{}", headers={"Content-Length": length.encode()})  # type: ignore[dict-item]
    check_problem(response, 400, "malformed")


async def test_a_body_that_dribbles_is_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application was reached")

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope: Scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"5")]}
    with pytest.raises(TooSlow):
        await BodyLimit(app, 100, {}, seconds=0.0)(scope, never, send)


# --- headers ------------------------------------------------------------------------------------------------


@pytest.mark.row("I8")
@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/api/v1/notes", "limen.test"),
        ("/api/v1/health", "limen.test"),
        ("/api/openapi.json", "limen.test"),
        ("/api/v1/errors/bug", "limen.test"),
        ("/nothing", "limen.test"),
        ("/page", "limen.test"),
        ("/page", "evil.test"),
    ],
)
async def test_security_headers_on_every_answer(client: httpx.AsyncClient, path: str, host: str) -> None:
    response = await client.get(path, headers={"Host": host})
    for name, value in SECURITY_HEADERS.items():
        if not (path == "/page" and host == "limen.test" and name == "Cache-Control"):
            assert response.headers.get_list(name) == [value], name
    assert "server" not in response.headers


async def test_a_door_may_say_more_about_caching(client: httpx.AsyncClient) -> None:
    assert (await client.get("/page")).headers.get_list("cache-control") == ["max-age=60"]


# --- hosts --------------------------------------------------------------------------------------------------


async def test_other_hosts_are_misdirected(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/api/v1/health", headers={"Host": "evil.test"}), 421, "misdirected")
    check_problem(await client.get("/api/v1/health", headers={"Host": "limen.test:x"}), 400, "malformed")


# --- access -------------------------------------------------------------------------------------------------


async def test_nobody_is_told_to_sign_in(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/notes")
    assert check_problem(response, 401, "unauthenticated")["fix"]
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_bearer_is_known_with_their_address(
    client: httpx.AsyncClient, authenticator: FixedAuthenticator
) -> None:
    assert (await client.get("/api/v1/notes", headers=bearer("member"))).json() == {"text": str(PERSON)}
    assert authenticator.asked == [("member", "bearer", "203.0.113.7")]


async def test_why_a_session_no_longer_holds_is_said(client: httpx.AsyncClient) -> None:
    document = check_problem(await client.get("/api/v1/notes", headers=bearer("ended")), 401, "unauthenticated")
    assert document["detail"] == "your session has ended"
    check_problem(await client.get("/api/v1/notes", headers=bearer("unsure")), 503, "unavailable")


async def test_public_routes_answer_whatever_the_credential(client: httpx.AsyncClient) -> None:
    for token in ("ended", "unsure", "unknown"):
        assert (await client.get("/api/v1/health", headers=bearer(token))).status_code == 200


async def test_a_role_opens_what_it_holds(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/api/v1/managed", headers=bearer("member")), 403, "denied")
    assert (await client.get("/api/v1/managed", headers=bearer("owner"))).status_code == 200


@pytest.mark.parametrize("header", ["Basic b3duZXI6eA==", "Bearer", "Bearer ", "owner", "Token owner"])
async def test_other_schemes_are_refused(client: httpx.AsyncClient, header: str) -> None:
    check_problem(await client.get("/api/v1/notes", headers={"Authorization": header}), 401, "unauthenticated")


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient) -> None:
    headers = [("Authorization", "Bearer owner"), ("Authorization", "Bearer member")]
    check_problem(await client.get("/api/v1/notes", headers=headers), 401, "unauthenticated")


async def test_the_host_label_and_the_credential_agree(app: ASGIApp) -> None:
    for host, status in (
        ("limen.test", 200),
        ("acme.limen.test", 200),
        ("globex.limen.test", 401),
        ("no.limen.test", 401),
    ):
        async with client_of(app, host) as client:
            assert (await client.get("/api/v1/notes", headers=bearer("member"))).status_code == status, host


async def test_doors_with_their_own_access_are_not_looked_up(
    client: httpx.AsyncClient, authenticator: FixedAuthenticator
) -> None:
    assert (await client.get("/v1/secret", headers=bearer("member"))).text == "door False"
    assert (await client.get("/.well-known/thing", headers=bearer("member"))).text == "door False"
    assert authenticator.asked == []
    assert (await client.get("/page", headers=bearer("member"))).text == "door True"


COOKIE = {"Cookie": "theme=dark; __Host-limen=browser"}


@pytest.mark.row("I8")
@pytest.mark.parametrize("token", [None, "", "wrong", CSRF[:-1], CSRF + "x", "é"])
async def test_a_browser_changes_nothing_without_its_csrf_token(client: httpx.AsyncClient, token: str | None) -> None:
    headers: dict[str, Any] = dict(COOKIE)
    if token is not None:
        headers["X-CSRF-Token"] = token.encode()
    check_problem(await client.post("/api/v1/notes", json={"text": "a"}, headers=headers), 403, "denied")
    assert (await client.post("/page", headers=headers)).text == "door False"
    assert (await client.get("/api/v1/notes", headers=COOKIE)).status_code == 200


@pytest.mark.row("I8")
async def test_a_browser_with_its_csrf_token_may(client: httpx.AsyncClient) -> None:
    headers = COOKIE | {"X-CSRF-Token": CSRF, "Origin": "https://limen.test", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/api/v1/notes", json={"text": "a"}, headers=headers)).status_code == 200


@pytest.mark.row("I8")
@pytest.mark.parametrize(
    "extra",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": "https://acme.limen.test"},
        {"Origin": "https://limen.test.evil.test"},
        {"Origin": "https://limen.test:444"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_other_origins_change_nothing_not_even_signing_in(
    client: httpx.AsyncClient, extra: dict[str, str]
) -> None:
    response = await client.post("/api/v1/public-notes", json={"text": "a"}, headers=extra)
    check_problem(response, 403, "denied")
    with_token = COOKIE | {"X-CSRF-Token": CSRF} | extra
    check_problem(await client.post("/api/v1/notes", json={"text": "a"}, headers=with_token), 403, "denied")


# --- composition --------------------------------------------------------------------------------------------


def test_a_route_without_a_permission_cannot_be_mounted() -> None:
    routes = SecureRouter()

    @routes.get("/open")
    async def left_open() -> None:
        return None

    with pytest.raises(ValueError, match="permission"):
        create_app(AppSettings(HostRules("limen.test")), FixedAuthenticator(), [routes], health={})


async def test_openapi_names_permissions_and_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/openapi.json")).json()
    operation = document["paths"]["/api/v1/notes"]["post"]
    assert operation["x-limen-permission"] == "self"
    assert "422" not in operation["responses"]
    assert "application/problem+json" in operation["responses"]["default"]["content"]


async def test_health_names_what_is_missing_and_no_more(authenticator: FixedAuthenticator) -> None:
    async def fine() -> None:
        return None

    async def broken() -> None:
        raise RuntimeError("connection to 10.0.0.5 refused, password hunter2")

    app = create_app(AppSettings(HostRules("limen.test")), authenticator, [], health={"database": fine, "keyd": broken})
    async with client_of(app) as client:
        response = await client.get("/api/v1/health")
    assert response.status_code == 503
    assert response.json() == {"status": "degraded", "parts": {"database": "ok", "keyd": "unavailable"}}
