"""Who is asking: credential to principal, before any route runs. Fills ``request.state`` (see ``runtime.http``).

Rules:
- ``Authorization: Bearer`` carries a session token or an operator's token; the ``__Host-limen`` cookie a browser's;
- a credential names its tenant; where the host label names one too, the two must agree;
- a browser's state-changing request must repeat its CSRF token in ``X-CSRF-Token``; without it nobody is signed in
  for that request, so that public routes still answer and all others refuse;
- a state-changing request that a browser says comes from another origin is refused outright;
- a credential that does not hold leaves the request without principal, and the reason for whoever asks.
"""

import hmac
import ipaddress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from limen.control.identity.model import SessionKind
from limen.control.identity.service import IdentityService
from limen.control.tenancy.service import TenancyService
from limen.kernel.errors import Denied, LimenError, Unauthenticated
from limen.kernel.principal import Principal
from limen.runtime.http import CSRF_HEADER, SESSION_COOKIE

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "LIST"})
_OPERATOR_PREFIX = "lo1."


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A credential that holds."""

    principal: Principal
    csrf_token: str = field(default="", repr=False)
    expires_at: datetime | None = None


class Authenticator(Protocol):
    """Turns a credential into a principal."""

    async def authenticate(self, credential: str, kind: SessionKind, source: str) -> Authenticated:
        """Raises a kernel error when the credential does not hold."""
        ...

    async def belongs_to(self, principal: Principal, slug: str) -> bool:
        """Whether the principal's tenant is the one at this host label."""
        ...


class SessionAuthenticator:
    """Sessions of people and tokens of operators."""

    def __init__(self, identity: IdentityService, tenancy: TenancyService) -> None:
        self._identity = identity
        self._tenancy = tenancy

    async def authenticate(self, credential: str, kind: SessionKind, source: str) -> Authenticated:
        """The principal of a session token or an operator's token.

        Raises:
            Unauthenticated: when it does not hold.
            Unavailable: when it cannot be checked now.
        """
        if kind is SessionKind.BEARER and credential.startswith(_OPERATOR_PREFIX):
            operator = await self._tenancy.check_operator(credential)
            return Authenticated(Principal(None, None, None, None, source, operator_id=operator.id))
        checked = await self._identity.authenticate(credential, source, kind)
        csrf = checked.csrf_token if kind is SessionKind.COOKIE else ""
        return Authenticated(checked.principal, csrf, checked.expires_at)

    async def belongs_to(self, principal: Principal, slug: str) -> bool:
        """Operators belong to no tenant's host."""
        return principal.tenant_id is not None and principal.tenant_id == await self._tenancy.find_tenant_id(slug)


class Access:
    """The middleware."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, own_access: tuple[str, ...]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._own_access = own_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._fill(scope)
        await self._app(scope, receive, send)

    async def _fill(self, scope: Scope) -> None:
        state: dict[str, Any] = scope.setdefault("state", {})
        state |= {
            "principal": None,
            "refusal": None,
            "source": client_source(scope),
            "csrf_token": "",
            "session_expires_at": None,
        }
        state.setdefault("tenant_slug", None)
        if scope["path"].startswith(self._own_access):
            return
        headers = Headers(scope=scope)
        if scope["method"] not in _SAFE_METHODS:
            refuse_other_origins(headers)
        try:
            await self._identify(scope["method"], headers, state)
        except LimenError as exc:
            state["refusal"] = exc

    async def _identify(self, method: str, headers: Headers, state: dict[str, Any]) -> None:
        found = credential_of(headers)
        if found is None:
            return
        credential, kind = found
        answer = await self._authenticator.authenticate(credential, kind, state["source"])
        slug = state["tenant_slug"]
        if slug is not None and not await self._authenticator.belongs_to(answer.principal, slug):
            raise Unauthenticated("this session is not of the tenant at this host name", fix="sign in here")
        if kind is SessionKind.COOKIE and method not in _SAFE_METHODS:
            _check_csrf(headers, answer.csrf_token)
        state["principal"] = answer.principal
        state["csrf_token"] = answer.csrf_token
        state["session_expires_at"] = answer.expires_at


def credential_of(headers: Headers) -> tuple[str, SessionKind] | None:
    """The request's credential; an Authorization header wins over a cookie.

    Raises:
        Unauthenticated: when there is more than one of a kind, or the scheme is not Bearer.
    """
    given = headers.getlist("authorization")
    if given:
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the Authorization header must be one Bearer token", fix="sign in (limen login)")
        return token.strip(), SessionKind.BEARER
    cookies = headers.getlist("cookie")
    token = cookie_parser("; ".join(cookies)).get(SESSION_COOKIE, "")
    return (token, SessionKind.COOKIE) if token else None


def client_source(scope: Scope) -> str:
    """The client's address in its plain form; an IPv4 client of a dual-stack socket is an IPv4 client."""
    client = scope.get("client")
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0].split("%", 1)[0])
    except ValueError:
        return str(client[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def refuse_other_origins(headers: Headers) -> None:
    """Raises :class:`Denied` when the browser says that the request was made by another origin's page."""
    origin = headers.get("origin")
    same = origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    if not same or headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
        raise Denied("this request was made by a page of another site", fix="open the console itself and try again")


def _check_csrf(headers: Headers, expected: str) -> None:
    given = headers.get(CSRF_HEADER, "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Denied("the request lacks its CSRF token", fix="reload the page and try again")
