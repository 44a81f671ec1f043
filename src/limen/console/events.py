"""``GET /events``: the event stream of one open page (``text/event-stream``).

Events, each with a JSON object as data:

- ``changed`` ``{}``: something in the tenant is different; fetch what you show again. At most one per 300 ms;
- ``beat`` ``{"at": time}``: every 15 s, after the session was checked against the database once more;
- ``ended`` ``{"at": time}``: the session is over. The stream closes with it.

A stream that closes without ``ended`` lost its server or its certainty: when the change feed may be missing changes,
the stream closes rather than pretend. The page then connects again, and is refused (401) if its session is over.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from limen.console.live import OpenPage, OpenPages
from limen.control.identity.model import SessionKind
from limen.control.identity.service import IdentityService
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, Unauthenticated, Unavailable
from limen.runtime.http import SESSION_COOKIE, principal, source_of

BEAT_SECONDS = 15.0
QUIET_SECONDS = 0.3
CHECK_SECONDS = 5.0
_RETRY_MILLISECONDS = 2000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class EventSource:
    """Opens streams. ``feed_is_current`` says whether this process can know of every change."""

    pages: OpenPages
    identity: IdentityService
    feed_is_current: Callable[[], bool]
    clock: Clock

    async def endpoint(self, request: Request) -> Response:
        """The route. Browser sessions only.

        Raises:
            Unauthenticated: when nobody is signed in, or the session has ended.
            Denied: when the credential is not a browser's session.
            Unavailable: when changes cannot be known now.
            RateLimited: when the session has too many pages open.
        """
        who = principal(request)
        token = request.cookies.get(SESSION_COOKIE, "")
        if who.session_id is None or not token or "authorization" in request.headers:
            raise Denied("event streams are for browser sessions", fix="sign in to the console")
        watch = SessionWatch(self, token, source_of(request), request.state.session_expires_at)
        watch.require_feed()
        return EventStream(self.pages.open(who), self.pages, watch)


@dataclass(frozen=True, slots=True)
class SessionWatch:
    """Asks whether the session behind a page still holds."""

    origin: EventSource
    token: str = field(repr=False)
    source: str
    expires_at: datetime

    def require_feed(self) -> None:
        """Raises :class:`Unavailable` when this process may be missing changes."""
        if not self.origin.feed_is_current():
            raise Unavailable("changes cannot be followed now", fix="try again in a moment")

    async def holds(self) -> bool:
        """Ask the database.

        Raises:
            Unavailable: when it cannot be known.
        """
        self.require_feed()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.origin.identity.authenticate(self.token, self.source, SessionKind.COOKIE)
        except Unauthenticated:
            return False
        except TimeoutError:
            raise Unavailable("the session could not be checked") from None
        return True

    def now(self) -> datetime:
        """The time."""
        return self.origin.clock.now()

    def seconds_left(self) -> float:
        """Until the session runs out by itself."""
        return (self.expires_at - self.now()).total_seconds()


class EventStream(Response):
    """One stream, from its first byte to its last."""

    def __init__(self, page: OpenPage, pages: OpenPages, watch: SessionWatch) -> None:
        super().__init__(media_type="text/event-stream", headers=_HEADERS)
        del self.headers["content-length"]
        self._page = page
        self._pages = pages
        self._watch = watch
        # The first check is made after listening began, so that an end between the request and now is not missed.
        page.doubt = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            speaking = asyncio.create_task(self._speak(send))
            leaving = asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait((speaking, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError, Unavailable, OSError):
                    await speaking
        finally:
            self._pages.leave(self._page)

    async def _speak(self, send: Send) -> None:
        try:
            await _say(send, f"retry: {_RETRY_MILLISECONDS}\n\n")
            if not await self._until_over(send):
                await _say(send, _event("ended", {"at": self._watch.now()}))
        finally:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_over(self, send: Send) -> bool:
        """Tell the news until the session is over (False) or the process stops (True).

        Raises:
            Unavailable: when it cannot be known whether the session holds.
        """
        page, loop = self._page, asyncio.get_running_loop()
        beat_at, quiet_until = loop.time() + BEAT_SECONDS, 0.0
        while not page.shut:
            now = loop.time()
            beat = now >= beat_at
            if page.over or self._watch.seconds_left() <= 0:
                return False
            if page.doubt or beat:
                page.doubt = False
                if not await self._watch.holds():
                    return False
            if beat:
                beat_at = now + BEAT_SECONDS
                await _say(send, _event("beat", {"at": self._watch.now()}))
            if page.touched and now >= quiet_until:
                page.touched, quiet_until = False, now + QUIET_SECONDS
                await _say(send, _event("changed", {}))
            until = min(beat_at, quiet_until) if page.touched else beat_at
            await page.wait(min(until - loop.time(), self._watch.seconds_left()))
        return True


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n"


async def _say(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
