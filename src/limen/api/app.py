"""The control plane's one ASGI application: JSON API, and the other HTTP doors mounted beside it.

From the outside in, every request passes: error rendering (nothing raw leaves), security headers, host check, body
limit, access (who is asking; see :mod:`.access`), then the router. :func:`create_app` refuses to build an
application with a route that names no permission.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

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

Lifespan = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class AppSettings:
    """``body_limits``: bytes by path prefix, where the default of 1 MiB does not fit (longest prefix wins).

    ``own_access``: path prefixes whose doors check credentials of their own, so that no session is looked up.
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
    mounts: Sequence[tuple[str, ASGIApp]] = (),
    routes: Sequence[BaseRoute] = (),
    on_start: Sequence[Callable[[], Awaitable[None]]] = (),
) -> ASGIApp:
    """Build the application.

    ``routers`` go under ``/api/v1``; ``routes`` are plain Starlette routes (``/.well-known/...``); ``mounts`` are
    (prefix, ASGI application) pairs, tried after everything else in order, so mount the console at ``""`` last.
    ``health`` names what :func:`.health.health_router` asks.

    Raises:
        ValueError: when a route names no permission; that is a defect of the code.
    """
    raise NotImplementedError
