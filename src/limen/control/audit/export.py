"""The export: everything a customer needs to verify the trail without trusting Limen, as a stream of JSON
lines.

Order of the lines: header; for each of the tenant's seals from the first to the head, the seal and then its
records; end. A seal with records, and the head, come with their signed checkpoint. With a window of time,
seals that have nothing in it are named without their records (their ``first_at`` and ``last_at`` prove it),
so the chain stays whole; records outside the window appear as bare leaves, because their seal's root needs
them.

The export is itself recorded, then everything pending is sealed, so the file ends with a checkpoint that is
as young as the file: a tail cannot be cut off without the head growing old. One seal's records are in
memory at a time.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.control.audit import seal_store, service, store
from limen.control.audit.errors import NotSealed
from limen.control.audit.model import AuditEvent, Outcome, SealedStep
from limen.control.audit.ports import Signer
from limen.control.audit.rules import chain, lines
from limen.control.audit.sealer import Sealer
from limen.db.database import Database, Row, Tx
from limen.db.ports import TenantCipher
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, Malformed
from limen.kernel.principal import Actor

_PAGE = 64


@dataclass(frozen=True, slots=True)
class Window:
    """Which records are opened: ``since`` inclusive, ``until`` exclusive, None for no bound."""

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise Malformed("the window ends before it begins", fix="give a 'since' that is before 'until'")

    def has(self, at: datetime) -> bool:
        """Whether a record of this time is wanted."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def meets(self, first: datetime, last: datetime) -> bool:
        """Whether anything from ``first`` to ``last`` (both inclusive) can be wanted."""
        return (self.since is None or last >= self.since) and (self.until is None or first < self.until)


class Exporter:
    """Makes exports."""

    def __init__(self, database: Database, sealer: Sealer, signer: Signer, clock: Clock) -> None:
        self._database = database
        self._sealer = sealer
        self._signer = signer
        self._clock = clock

    async def begin(self, tenant_id: UUID, actor: Actor, window: Window) -> AsyncIterator[bytes]:
        """Record the export, seal, and return the stream of lines. Errors come before the first line if
        they can.

        Raises:
            NotSealed: the export's own record could not be sealed.
            Unavailable: database, keys or signer do not answer.
        """
        now = self._clock.now()
        event = AuditEvent(
            "audit.trail.export",
            Outcome.OK,
            actor,
            detail={
                "since": lines.time_text(window.since) if window.since else None,
                "until": lines.time_text(window.until) if window.until else None,
            },
        )
        async with self._database.transaction(tenant_id) as tx:
            await service.record(tx, event, now)
        await self._sealer.seal_all()
        public_key = await self._signer.public_key()
        async with self._database.transaction(tenant_id) as tx:
            head = await seal_store.latest_steps(tx, 1)
        if not head:
            raise NotSealed("the trail could not be sealed", fix="try again; then look at the log of limen serve")
        start = lines.header(tenant_id, public_key, now, since=window.since, until=window.until)
        return self._stream(tenant_id, window, head[0].seal.number, start)

    async def public_key(self) -> bytes:
        """The key that checkpoints are signed with: 32 raw bytes of Ed25519."""
        return await self._signer.public_key()

    async def _stream(self, tenant_id: UUID, window: Window, head: int, header: lines.Object) -> AsyncIterator[bytes]:
        yield lines.line(header)
        records = done = 0
        while done < head:
            async with self._database.transaction(tenant_id) as tx:
                page = await seal_store.steps(tx, after=done, limit=min(_PAGE, head - done))
            if not page:
                break
            for step in page:
                wanted = window.meets(step.seal.first_at, step.seal.last_at)
                if wanted:
                    block, written = await self._sealed_records(tenant_id, step, window)
                    records += written
                    yield block
                else:
                    at_head = step.seal.number == head
                    yield lines.line(lines.seal_line(step, None, with_checkpoint=at_head))
            done = page[-1].seal.number
        yield lines.line(lines.end_line(records, done))

    async def _sealed_records(self, tenant_id: UUID, step: SealedStep, window: Window) -> tuple[bytes, int]:
        async with self._database.transaction(tenant_id) as tx:
            members = chain.unpack_members(await seal_store.packed_members(tx, step.seal.number))
            rows = await store.by_members(tx, [m.at for m in members], [m.id for m in members])
            cipher = await tx.cipher() if any(row["sealed"] for row in rows) else None
        found = {row["id"]: row for row in rows}
        block = [lines.line(lines.seal_line(step, members, with_checkpoint=True))]
        written = 0
        for number, member in enumerate(members, start=step.seal.before + 1):
            row = found.get(member.id)
            if row is not None:  # a leaf that is gone is for the verifier to report
                block.append(lines.line(_record(number, row, cipher, window)))
                written += 1
        return b"".join(block), written


async def recent_checkpoints(tx: Tx, limit: int) -> list[lines.Object]:
    """A tenant's newest seals with their signed checkpoints, newest first, each fit to be kept elsewhere."""
    return [lines.step(step) for step in await seal_store.latest_steps(tx, limit)]


def _record(number: int, row: Row, cipher: TenantCipher | None, window: Window) -> lines.Object:
    shown = {"id": str(row["id"]), "at": lines.time_text(row["at"]), "action": row["action"]}
    if not window.has(row["at"]):
        return lines.record_line(number, row["leaf"], None, shown)
    try:
        values = service.opened(row, cipher)
    except LimenError:
        return lines.record_line(number, row["leaf"], None, shown) | {"unreadable": True}
    return lines.record_line(number, row["leaf"], None if values is None else (values, row["salts"]), shown)
