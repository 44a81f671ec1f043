"""``/health``: is what we depend on there? Public, so it names parts and states and nothing more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from fastapi import Response

from limen.db.database import Database, SystemRole
from limen.kernel.principal import Permission
from limen.runtime.http import SecureRouter, View

HealthCheck = Callable[[], Awaitable[None]]
_TIMEOUT_SECONDS = 2.0
_REMEMBERED_SECONDS = 1.0


class HealthView(View):
    """``status`` is ``ok`` when every part is ``ok``, else ``degraded`` (HTTP 503)."""

    status: str
    parts: dict[str, str]


def database_check(database: Database) -> HealthCheck:
    """Does the database answer?"""

    async def check() -> None:
        async with database.system(SystemRole.DIRECTORY) as tx:
            await tx.fetch("SELECT 1")

    return check


class Health:
    """Asks each part, at once, at most once a second however many ask."""

    def __init__(self, checks: Mapping[str, HealthCheck]) -> None:
        self._checks = dict(checks)
        self._lock = asyncio.Lock()
        self._known: tuple[float, dict[str, str]] | None = None

    async def parts(self) -> dict[str, str]:
        """State of each part: ``ok`` or ``unavailable``."""
        async with self._lock:
            if self._known is None or self._known[0] <= time.monotonic():
                states = await asyncio.gather(*(self._ask(check) for check in self._checks.values()))
                self._known = (time.monotonic() + _REMEMBERED_SECONDS, dict(zip(self._checks, states, strict=True)))
            return self._known[1]

    async def _ask(self, check: HealthCheck) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await check()
        except Exception:  # whatever is wrong with a part, the answer is that it is not available
            return "unavailable"
        return "ok"


def health_router(checks: Mapping[str, HealthCheck]) -> SecureRouter:
    """The route."""
    routes = SecureRouter(tags=["health"])
    health = Health(checks)

    @routes.read("/health", Permission.PUBLIC)
    async def read_health(response: Response) -> HealthView:
        """Whether Limen and what it depends on work; 503 when a part does not."""
        parts = await health.parts()
        good = all(state == "ok" for state in parts.values())
        response.status_code = 200 if good else 503
        return HealthView(status="ok" if good else "degraded", parts=parts)

    return routes
