"""What the audit tests put together: a signer with a key in memory, a clock that counts, the usual events."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from limen.control.audit import service
from limen.control.audit.export import Exporter, Window
from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.rules import chain
from limen.control.audit.sealer import Sealer
from limen.crypto import signatures
from limen.db.database import Database
from limen.kernel.errors import Unavailable
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor, ActorKind

EMAIL, ADDRESS = "ana.leaky@example.org", "198.51.100.77"


class MemorySigner:
    """Implements ``limen.control.audit.ports.Signer`` with a fresh key; ``broken`` makes it refuse."""

    def __init__(self) -> None:
        self._seed = os.urandom(32)
        self.broken = False

    async def sign(self, message: bytes) -> bytes:
        if self.broken:
            raise Unavailable("the signer does not answer")
        return signatures.sign(self._seed, chain.SIGNING_PURPOSE, message)

    async def public_key(self) -> bytes:
        return signatures.public_of(self._seed)


class CountingClock:
    """A clock that goes one millisecond at each look."""

    def __init__(self) -> None:
        self._now = datetime(2026, 5, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now


class Room:
    """The audit room over a test's database."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.signer = MemorySigner()
        self.clock = CountingClock()
        self.sealer = Sealer(database, self.signer, self.clock)
        self.exporter = Exporter(database, self.sealer, self.signer, self.clock)

    async def record(self, tenant_id: UUID, *events: AuditEvent) -> list[UUID]:
        """Record events, one transaction for all."""
        async with self.database.transaction(tenant_id) as tx:
            return [await service.record(tx, event, self.clock.now()) for event in events]

    async def export(self, tenant_id: UUID, window: Window | None = None) -> bytes:
        """An export as bytes."""
        stream = await self.exporter.begin(tenant_id, SYSTEM, window or Window())
        return b"".join([part async for part in _typed(stream)])

    async def export_lines(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """An export as objects."""
        return [json.loads(line) for line in (await self.export(tenant_id)).splitlines()]


async def _typed(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in stream:
        yield part


def sign_in(number: int = 0, outcome: Outcome = Outcome.OK) -> AuditEvent:
    """A sign-in with an address and an e-mail, which must never be stored in the clear."""
    return AuditEvent(
        "identity.session.start",
        outcome,
        Actor(ActorKind.PERSON, new_id(), ADDRESS),
        "person",
        new_id(),
        {"number": number, "method": "password"},
        {"email": EMAIL},
    )


async def count(database: Database, tenant_id: UUID, table: str) -> int:
    """How many rows of a table the tenant sees."""
    rows = await database.query(tenant_id, f"SELECT count(*) AS n FROM {table} WHERE tenant_id = %s", [tenant_id])
    return int(rows[0]["n"])
