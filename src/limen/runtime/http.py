"""The deny-by-default router: a route without a permission cannot be written, and none answers without it.

A room's ``endpoints.py`` builds one :class:`SecureRouter`; ``api`` mounts it and puts the caller's Principal
into ``request.state.principal`` before any route runs (``None`` when nobody is signed in).
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from limen.kernel.errors import Denied, Unauthenticated
from limen.kernel.principal import Permission, Principal


class Body(BaseModel):
    """Base of request bodies: strict types, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(frozen=True)


def principal(request: Request) -> Principal:
    """The signed-in caller.

    Raises:
        Unauthenticated: when nobody is signed in.
    """
    who: Principal | None = request.state.principal
    if who is None:
        raise Unauthenticated("you are not signed in", fix="sign in first (limen login)")
    return who


def tenant_of(who: Principal) -> UUID:
    """The caller's tenant.

    Raises:
        Denied: for a platform operator, who has none.
    """
    if who.tenant_id is None:
        raise Denied("platform operators cannot see inside a tenant", fix="sign in as a person of the tenant")
    return who.tenant_id


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
