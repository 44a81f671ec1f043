"""Door events on their way to the audit trail. Sans-IO.

Rules:

1. Events leave in batches of one tenant, one batch of a tenant at a time, in the order in which they happened.
2. The agent channel keeps a batch until its ``EventsAck``, over reconnections too (at least once).
3. Memory is bounded: at :data:`MAX_EVENTS` the ledger is full, and the door refuses new operations rather than let
   one happen unrecorded. What was already under way may still record its end (a reserve of as many again).
"""

from collections import OrderedDict, deque
from typing import Final
from uuid import UUID

from limen.wire.agent import DoorEvent, Events

MAX_EVENTS: Final = 20_000
BATCH_EVENTS: Final = 200


class EventLedger:
    """Events that are not yet known to be durable."""

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self._limit = limit
        self._queues: OrderedDict[UUID, deque[DoorEvent]] = OrderedDict()
        self._outstanding: dict[UUID, Events] = {}
        self._tenant_of_batch: dict[int, UUID] = {}
        self._next_batch = 1
        self._count = 0
        self.dropped = 0

    @property
    def full(self) -> bool:
        """Whether new operations must be refused."""
        return self._count >= self._limit

    @property
    def empty(self) -> bool:
        """Whether everything is acknowledged."""
        return self._count == 0

    def record(self, tenant_id: UUID, event: DoorEvent) -> None:
        """Take one event; beyond the reserve it is dropped and counted."""
        if self._count >= 2 * self._limit:
            self.dropped += 1
            return
        self._queues.setdefault(tenant_id, deque()).append(event)
        self._count += 1

    def due(self) -> list[Events]:
        """Batches to send now: one for each tenant that has events and none outstanding."""
        batches: list[Events] = []
        for tenant_id in [t for t in self._queues if t not in self._outstanding]:
            queue = self._queues[tenant_id]
            taken = tuple(queue.popleft() for _ in range(min(BATCH_EVENTS, len(queue))))
            if not queue:
                del self._queues[tenant_id]
            batch = Events(tenant_id=tenant_id, batch=self._next_batch, events=taken)
            self._next_batch += 1
            self._outstanding[tenant_id] = batch
            self._tenant_of_batch[batch.batch] = tenant_id
            batches.append(batch)
        return batches

    def acknowledged(self, batch: int) -> None:
        """The control plane has it; unknown numbers are old news."""
        tenant_id = self._tenant_of_batch.pop(batch, None)
        if tenant_id is not None:
            self._count -= len(self._outstanding.pop(tenant_id).events)
