"""RFC 9457 problem documents: the only shape in which an error leaves the HTTP doors.

``type`` is ``about:blank`` and ``title`` the status phrase, as the RFC asks; the members ``code`` (stable, for
programs), ``detail`` (what is wrong) and ``fix`` (what to do next) carry the meaning. What nobody foresaw answers
500 with an ``id`` that is also in the log, and nothing else: no dependency's text, no input, no address.
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limen.kernel.errors import LimenError, RateLimited, Unauthenticated, Unavailable
from limen.kernel.ids import new_id

MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS = 20
_UNAVAILABLE_RETRY_SECONDS = 5
_FIXES = {
    404: "check the path, and that you may see this",
    405: "look at the Allow header, or at /api/openapi.json",
}

_log = structlog.get_logger(__name__)


class TooLarge(LimenError):
    """The body is larger than the door takes."""

    status = 413
    code = "too-large"


class Misdirected(LimenError):
    """The host name of the request is none of ours (RFC 9110, 15.5.20)."""

    status = 421
    code = "misdirected"


class TooSlow(LimenError):
    """The body did not arrive in time."""

    status = 408
    code = "too-slow"


def problem(
    status: int,
    code: str,
    detail: str,
    fix: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    incident: str = "",
) -> Response:
    """One problem document."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if fix:
        document["fix"] = fix
    if errors:
        document["errors"] = list(errors)
    if incident:
        document["id"] = incident
    return Response(msgspec.json.encode(document), status, dict(headers or {}), MEDIA_TYPE)


def from_limen(exc: LimenError) -> Response:
    """The document of an error that Limen raised on purpose."""
    headers: dict[str, str] = {}
    if isinstance(exc, RateLimited):
        headers["Retry-After"] = str(max(1, math.ceil(exc.retry_after)))
    elif isinstance(exc, Unavailable):
        headers["Retry-After"] = str(_UNAVAILABLE_RETRY_SECONDS)
    elif isinstance(exc, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    incident = ""
    if exc.status >= 500:
        incident = str(new_id())
        _log.warning("request failed", code=exc.code, reason=exc.message, id=incident)
    return problem(exc.status, exc.code, exc.message, exc.fix, headers=headers, incident=incident)


def from_http(exc: HTTPException) -> Response:
    """The document of an error of the routing (404, 405) or of body parsing (400)."""
    phrase = HTTPStatus(exc.status_code).phrase
    code = phrase.lower().replace(" ", "-") if exc.status_code != 400 else "malformed"
    detail = "the request body cannot be read as JSON" if exc.status_code == 400 else f"{phrase.lower()}"
    return problem(exc.status_code, code, detail, _FIXES.get(exc.status_code, ""), headers=exc.headers)


def from_validation(exc: RequestValidationError) -> Response:
    """The document of a request that breaks its schema: where and what, never the value."""
    found = exc.errors()
    if any(error["type"] == "json_invalid" for error in found):
        return problem(400, "malformed", "the request body is not valid JSON", "check quotes, commas and brackets")
    errors = [
        {"where": ".".join(str(part) for part in error["loc"])[:100], "what": str(error["msg"])[:200]}
        for error in found[:_MAX_ERRORS]
    ]
    detail = "; ".join(f"{error['where']}: {error['what']}" for error in errors[:3])
    return problem(400, "malformed", f"the request is not valid: {detail}", "see /api/openapi.json", errors=errors)


async def render(_request: Request, exc: Exception) -> Response:
    """Exception handler of the applications inside; what it does not know it hands on to :class:`Problems`."""
    match exc:
        case LimenError():
            return from_limen(exc)
        case RequestValidationError():
            return from_validation(exc)
        case HTTPException():
            return from_http(exc)
    raise exc


HANDLED: tuple[type[Exception], ...] = (LimenError, RequestValidationError, HTTPException, Exception)


class Problems:
    """The outermost layer: whatever was not rendered further in becomes a problem document here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except LimenError as exc:
            if not started and scope["type"] == "http":
                await from_limen(exc)(scope, receive, send)
        except Exception:
            incident = str(new_id())
            _log.exception("unexpected error", id=incident, method=scope.get("method"))
            if not started and scope["type"] == "http":
                response = problem(
                    500, "internal", "something unexpected went wrong", "report it with this id", incident=incident
                )
                await response(scope, receive, send)
