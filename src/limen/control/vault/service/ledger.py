"""Uses of the door that change nothing, recorded before they are answered, many in one transaction.

Every read needs a durable record of its own, and one commit per read would bound the door by the disk's flushes.
So per tenant one transaction runs at a time; what arrives meanwhile goes together into the next. A lone read
waits for nobody, a crowd shares each flush, and no timer is needed.

The same transaction looks again at the grants that the batch rests on. A read whose grant has ended since it was
authorised is recorded as denied and refused, so that an answer never follows a revocation by more than the time
that the answer itself takes. When the batch cannot be written, every use in it fails: no record, no answer.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record_many
from limen.control.vault.errors import PassageRefused
from limen.control.vault.store import standing
from limen.db.database import Database
from limen.kernel.clock import Clock

MAX_BATCH = 200


@dataclass(slots=True)
class _Use:
    event: AuditEvent
    at: datetime
    grant_id: UUID | None
    settled: asyncio.Future[None]


@dataclass(slots=True)
class _Queue:
    waiting: deque[_Use] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


class UseLedger:
    """One per process. Needs a running event loop."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._queues: dict[UUID, _Queue] = {}

    async def settle(self, tenant_id: UUID, event: AuditEvent, grant_id: UUID | None = None) -> None:
        """Return when ``event`` is recorded and the grant that it rests on, if any, was still live then.

        Raises:
            PassageRefused: when the grant has ended meanwhile; the record then says denied.
            Unavailable: when the record cannot be written.
        """
        use = _Use(event, self._clock.now(), grant_id, asyncio.get_running_loop().create_future())
        queue = self._queues.setdefault(tenant_id, _Queue())
        queue.waiting.append(use)
        if queue.worker is None:
            queue.worker = asyncio.create_task(self._drain(tenant_id, queue))
        await use.settled

    async def _drain(self, tenant_id: UUID, queue: _Queue) -> None:
        try:
            while queue.waiting:
                batch = [queue.waiting.popleft() for _ in range(min(MAX_BATCH, len(queue.waiting)))]
                await self._write(tenant_id, batch)
        finally:
            del self._queues[tenant_id]
            for use in queue.waiting:
                use.settled.cancel()

    async def _write(self, tenant_id: UUID, batch: list[_Use]) -> None:
        grants = frozenset(use.grant_id for use in batch if use.grant_id is not None)
        try:
            async with self._database.transaction(tenant_id) as tx:
                live = await standing.live_grants(tx, grants, self._clock.now()) if grants else frozenset()
                await record_many(
                    tx, [(use.event if _stands(use, live) else _denied(use.event), use.at) for use in batch]
                )
        except BaseException as exc:
            for use in batch:
                if not use.settled.done():
                    use.settled.set_exception(exc) if isinstance(exc, Exception) else use.settled.cancel()
            if not isinstance(exc, Exception):
                raise
            return
        for use in batch:
            if use.settled.done():  # its request was cancelled; the record stands
                continue
            if _stands(use, live):
                use.settled.set_result(None)
            else:
                use.settled.set_exception(PassageRefused())


def _stands(use: _Use, live: frozenset[UUID]) -> bool:
    return use.grant_id is None or use.grant_id in live


def _denied(event: AuditEvent) -> AuditEvent:
    return replace(event, outcome=Outcome.DENIED, detail={**event.detail, "reason": "the grant has ended"})
