"""What every HTTP door shares: the deny-by-default router, the caller's principal, and the session cookie.

A room's ``endpoints.py`` builds one :class:`SecureRouter`; ``api`` mounts it. Before any route runs, the access
middleware of ``api`` puts into ``request.state``:

- ``principal``: who is signed in, or ``None``;
- ``refusal``: why nobody is (an error to raise), or ``None`` when no credential came with the request;
- ``source``: the client's address in text;
- ``tenant_slug``: the host label's tenant, or ``None`` on the bare domain;
- ``csrf_token``: what a page must send back as ``X-CSRF-Token`` when it changes something; empty without a cookie;
- ``session_expires_at``: when the session ends, or ``None``.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from limen.kernel.errors import Denied, LimenError, Unauthenticated
from limen.kernel.principal import Permission, Principal, tenant_of

__all__ = [
    "CSRF_HEADER",
    "SESSION_COOKIE",
    "Body",
    "SecureRouter",
    "View",
    "clear_session_cookie",
    "principal",
    "set_session_cookie",
    "source_of",
    "tenant_of",
]

SESSION_COOKIE = "__Host-limen"
CSRF_HEADER = "X-CSRF-Token"


class Body(BaseModel):
    """Base of request bodies: strict types, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(frozen=True)


def principal(request: Request) -> Principal:
    """The signed-in caller.

    Raises:
        Unauthenticated: when nobody is signed in, or the session has ended.
        Denied: when a browser's request came without its CSRF token.
        Unavailable: when the session could not be checked.
    """
    who: Principal | None = request.state.principal
    if who is None:
        refusal: LimenError | None = getattr(request.state, "refusal", None)
        raise refusal or Unauthenticated("you are not signed in", fix="sign in first (limen login)")
    return who


def source_of(request: Request) -> str:
    """The client's address in text; seal it before it is stored."""
    source: str = request.state.source
    return source


def set_session_cookie(response: Response, token: str, expires_at: datetime) -> None:
    """Hand a browser its session: unreadable to scripts, this host only, not sent along from other sites."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=max(0, int((expires_at - datetime.now(UTC)).total_seconds())),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )


def clear_session_cookie(response: Response) -> None:
    """Make a browser forget its session."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def _require(permission: Permission) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if permission is Permission.PUBLIC:
            return
        if not principal(request).may(permission):
            raise Denied(f"your role does not include '{permission}'", fix="ask an owner of your tenant")

    return check


class SecureRouter(APIRouter):
    """An APIRouter whose routes must each name one permission."""

    def route_for(
        self, method: str, path: str, permission: Permission, **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a route; its permission is checked before its body is read into a model's use."""
        options.setdefault("openapi_extra", {})["x-limen-permission"] = str(permission)
        return self.api_route(path, methods=[method], dependencies=[Depends(_require(permission))], **options)

    def read(self, path: str, permission: Permission, **options: Any) -> Callable[..., Any]:
        """A GET route."""
        return self.route_for("GET", path, permission, **options)

    def act(self, path: str, permission: Permission, **options: Any) -> Callable[..., Any]:
        """A POST route."""
        return self.route_for("POST", path, permission, **options)

    def replace(self, path: str, permission: Permission, **options: Any) -> Callable[..., Any]:
        """A PUT route."""
        return self.route_for("PUT", path, permission, **options)

    def remove(self, path: str, permission: Permission, **options: Any) -> Callable[..., Any]:
        """A DELETE route."""
        return self.route_for("DELETE", path, permission, **options)
