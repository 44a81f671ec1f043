"""The change feed: every version of every tenant, in order, to every subscriber in this process.

Rules:

1. One direct connection listens; a notification is a hint, the outbox table is the truth.
2. Per tenant, versions are delivered in order, without gaps, each once. The outbox is numbered under a row lock, so the
   next row after the last delivered one is always the next version.
3. On every (re)connection, and every ``CATCH_UP_SECONDS``, all tenants are caught up from the table.
4. A tenant first seen starts at its present version: who subscribes reads the present state from the tables after
   subscribing, so nothing falls between.
5. Subscribers are plain functions that only hand over; one that raises is logged and does not stop the others.
"""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from limen.db.database import Database, SystemRole
from limen.kernel.errors import Unavailable
from limen.kernel.facts import Change

CATCH_UP_SECONDS = 5.0
STALE_SECONDS = 3 * CATCH_UP_SECONDS
_RETRY_SECONDS = 0.5
_log = structlog.get_logger(__name__)

Subscriber = Callable[[Change], None]


class ChangeFeed:
    """Run :meth:`run` as one task per process; ``ready`` is set while the feed is live."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscribers: dict[int, Subscriber] = {}
        self._next_key = 0
        self._delivered: dict[UUID, int] = {}
        self._last_contact = float("-inf")
        self.ready = asyncio.Event()

    def is_current(self) -> bool:
        """Whether this process can know of every change: the database answered within the last few seconds.

        Enforcement points get no lease from a process that may be missing changes.
        """
        return self.ready.is_set() and time.monotonic() - self._last_contact < STALE_SECONDS

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Deliver every later change to ``subscriber``; call the result to stop."""
        key = self._next_key
        self._next_key += 1
        self._subscribers[key] = subscriber

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    async def run(self) -> None:
        """Deliver until cancelled; outlives the database going away."""
        while True:
            try:
                await self._listen()
            except Unavailable:
                self.ready.clear()
                _log.warning("change feed lost the database, retrying")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        async with self._database.listen() as listener:
            await self._catch_up()
            self.ready.set()
            loop = asyncio.get_running_loop()
            caught_up = loop.time()
            while True:
                for payload in await listener.wait(CATCH_UP_SECONDS):
                    await self._advance(UUID(payload.partition(":")[0]))
                if loop.time() - caught_up >= CATCH_UP_SECONDS:
                    await self._catch_up()
                    caught_up = loop.time()

    async def _catch_up(self) -> None:
        async with self._database.system(SystemRole.FEED) as tx:
            rows = await tx.fetch("SELECT tenant_id, version FROM tenant_versions")
        self._last_contact = time.monotonic()
        for row in rows:
            tenant_id, version = row["tenant_id"], int(row["version"])
            if tenant_id not in self._delivered:
                self._delivered[tenant_id] = version
            elif self._delivered[tenant_id] < version:
                await self._advance(tenant_id)

    async def _advance(self, tenant_id: UUID) -> None:
        # A tenant that is first heard of through a notification is new: all of its versions are news.
        last = self._delivered.setdefault(tenant_id, 0)
        rows = await self._database.query(
            tenant_id,
            "SELECT version, payload FROM outbox WHERE tenant_id = %s AND version > %s ORDER BY version",
            (tenant_id, last),
        )
        for row in rows:
            self._delivered[tenant_id] = int(row["version"])
            self._deliver(msgspec.convert(row["payload"], Change))

    def _deliver(self, change: Change) -> None:
        for subscriber in list(self._subscribers.values()):
            try:
                subscriber(change)
            except Exception:
                _log.exception("a subscriber of the change feed failed", tenant=str(change.tenant_id))
