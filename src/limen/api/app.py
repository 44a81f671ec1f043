"""The control plane's one ASGI application: the JSON API, and the other HTTP doors mounted beside it.

From the outside in, every request passes: security headers, error rendering (nothing raw leaves), host check, body
limit, access (who is asking), then the API or another door. :func:`create_app` refuses to build an application with
a route that names no permission.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import limen
from limen.api import problems
from limen.api.access import Access, Authenticator
from limen.api.body import BodyLimit
from limen.api.headers import SecurityHeaders
from limen.api.health import HealthCheck, health_router
from limen.api.hosts import HostCheck, HostRules
from limen.runtime.http import SecureRouter

API_PREFIX = "/api/v1"
OPENAPI_PATH = "/api/openapi.json"
DEFAULT_BODY_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class AppSettings:
    """``body_limits``: bytes by path prefix, where the default of 1 MiB does not fit (the longest prefix wins).

    ``own_access``: path prefixes whose doors check credentials of their own or need none, so that no session is
    looked up there.
    """

    hosts: HostRules
    body_limits: Mapping[str, int] = field(default_factory=dict)
    own_access: tuple[str, ...] = ("/v1/", "/static/", "/.well-known/")


def create_app(
    settings: AppSettings,
    authenticator: Authenticator,
    routers: Sequence[SecureRouter],
    *,
    health: Mapping[str, HealthCheck],
    routes: Sequence[BaseRoute] = (),
    mounts: Sequence[tuple[str, ASGIApp]] = (),
) -> ASGIApp:
    """Build the application.

    ``routers`` go under ``/api/v1``. ``routes`` are plain Starlette routes (``/.well-known/...``); ``mounts`` are
    (prefix, ASGI application) pairs, tried after them in order: mount the console at ``""`` last. ``health`` maps
    the names of parts to what asks them. Serve it without ASGI lifespan; the process's main starts and stops things.

    Raises:
        ValueError: when a route names no permission; that is a defect of the code.
    """
    api = create_api([health_router(health), *routers])
    doors = Starlette(
        routes=[*routes, *(Mount(prefix, app) for prefix, app in mounts)],
        exception_handlers=dict.fromkeys(problems.HANDLED, problems.render),
    )
    app: ASGIApp = _Split(api, doors)
    app = Access(app, authenticator, settings.own_access)
    app = BodyLimit(app, DEFAULT_BODY_LIMIT, settings.body_limits)
    app = HostCheck(app, settings.hosts)
    app = problems.Problems(app)
    return SecurityHeaders(app)


def create_api(routers: Iterable[SecureRouter]) -> FastAPI:
    """The JSON API alone, without the layers around it; its OpenAPI document needs nothing else.

    Raises:
        ValueError: when a route names no permission.
    """
    api = FastAPI(
        title="Limen",
        version=limen.__version__,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=dict.fromkeys(problems.HANDLED, problems.render),
    )
    for router in routers:
        _check_permissions(router)
        api.include_router(router, prefix=API_PREFIX)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]
    return api


class _Split:
    """``/api`` goes to the API, all else to the other doors: a console at ``/`` cannot shadow the API's 404 and 405."""

    def __init__(self, api: ASGIApp, doors: ASGIApp) -> None:
        self._api = api
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError("serve this application with the ASGI lifespan switched off")
        path: str = scope["path"]
        await (self._api if path == "/api" or path.startswith("/api/") else self._doors)(scope, receive, send)


def _check_permissions(router: SecureRouter) -> None:
    for route in router.routes:
        named = isinstance(route, APIRoute) and (route.openapi_extra or {}).get("x-limen-permission")
        if not named:
            raise ValueError(f"route without a permission: {route!r}")


def _openapi(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with problem documents as the answer to every error instead of FastAPI's 422."""
    if api.openapi_schema is None:
        document = get_openapi(title=api.title, version=api.version, routes=api.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas["Problem"] = _PROBLEM_SCHEMA
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {
                    "description": "What went wrong (RFC 9457)",
                    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
        api.openapi_schema = document
    return api.openapi_schema


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable name of the error, for programs"},
        "detail": {"type": "string", "description": "what is wrong"},
        "fix": {"type": "string", "description": "what to do next"},
        "id": {"type": "string", "description": "also in the server's log"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}
