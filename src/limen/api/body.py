"""Bodies are bounded and complete before anything parses them.

A declared length beyond the limit is refused unread; an undeclared one as soon as it goes beyond; a body that
dribbles is refused after 30 s. So no parser sees a body that is too large, and none waits inside a route.
"""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limen.api.problems import TooLarge, TooSlow
from limen.kernel.errors import Malformed

BODY_SECONDS = 30.0


class BodyLimit:
    """Reads the body, at most ``limits`` (bytes by path prefix, the longest wins) or ``default``, then replays it."""

    def __init__(self, app: ASGIApp, default: int, limits: Mapping[str, int], seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._default = default
        self._limits = sorted(limits.items(), key=lambda item: -len(item[0]))
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            receive = await self._bounded(scope, receive)
        await self._app(scope, receive, send)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers(scope=scope)
        declared = headers.get("content-length")
        if declared is None and "transfer-encoding" not in headers:
            return receive
        limit = next((size for prefix, size in self._limits if scope["path"].startswith(prefix)), self._default)
        if declared is not None and not (declared.isascii() and declared.isdigit()):
            raise Malformed("Content-Length is not a number")
        if declared is not None and int(declared[:20]) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read(receive, limit)
        except TimeoutError:
            raise TooSlow("the request body did not arrive in time", fix="try again") from None
        return _replay(body, receive)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body; ``None`` when the client went away."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes | None, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if body is None:
            return {"type": "http.disconnect"}
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body may hold at most {limit} bytes", fix="send less at once")
