"""Records and seals per second of the audit trail, against a bare INSERT of the same bytes.

Both on one connection to the same durable PostgreSQL (our launcher, data checksums, every commit forced to disk), in
turns, with the same number of rows per transaction. A record of ours is built from an event (salted commitments,
sealed personal values) and goes into three tables under row-level security; the bare one puts the same columns,
already made, into one table without any of that.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import add_tenant

from benchmarks.measure import median
from benchmarks.report import Row, row
from limen.control.audit import service, store
from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.partitions import ensure_partitions
from limen.control.audit.rules import chain, leaf
from limen.control.audit.sealer import Sealer
from limen.crypto import signatures
from limen.db.database import Database
from limen.db.embedded import EmbeddedPostgres
from limen.db.migrate import migrate
from limen.db.roles import OWNER
from limen.kernel.clock import SystemClock
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind

BATCHES = (1, 100, 1000)
_COLUMNS = {
    "id": "uuid",
    "at": "timestamptz",
    "action": "text",
    "outcome": "text",
    "actor_kind": "text",
    "actor_id": "uuid",
    "object_kind": "text",
    "object_id": "uuid",
    "leaf": "bytea",
    "leaf_hash": "bytea",
    "salts": "bytea",
    "detail": "jsonb",
    "source_tag": "bytea",
    "sealed": "bytea",
}
_BARE_TABLE = f"CREATE TABLE bare ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())}, PRIMARY KEY (id))"
_BARE = f"INSERT INTO bare SELECT * FROM unnest({', '.join(f'%s::{kind}[]' for kind in _COLUMNS.values())})"


class _Signer:
    """Signs checkpoints with a key in memory: keyd's part of a seal is one call for thousands of leaves."""

    def __init__(self) -> None:
        self._seed = os.urandom(32)

    async def sign(self, message: bytes) -> bytes:
        return signatures.sign(self._seed, chain.SIGNING_PURPOSE, message)

    async def public_key(self) -> bytes:
        return signatures.public_of(self._seed)


def run(*, quick: bool) -> list[Row]:
    """All batch sizes, then sealing."""
    directory = Path(tempfile.mkdtemp(prefix="limen-bench-", dir="/tmp"))
    directory.chmod(0o711)
    server = EmbeddedPostgres(directory / "pg")
    try:
        return asyncio.run(_measured(server, quick=quick))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _measured(server: EmbeddedPostgres, *, quick: bool) -> list[Row]:
    rounds, seconds = (1, 0.1) if quick else (5, 2.0)
    await server.start()
    try:
        await migrate(server.source)
        async with await psycopg.AsyncConnection.connect(server.conninfo(OWNER), autocommit=True) as owner:
            await ensure_partitions(owner, datetime.now(UTC))
            await owner.execute(_BARE_TABLE)
            async with Database(server.source, RandomFieldCipher(), pool_size=2) as database:
                tenant = await add_tenant(database, "bench")
                rows = []
                for size in BATCHES:
                    rows.append(await _recorded(database, owner, tenant, size, rounds, seconds))
                rows.append(await _sealed(database, owner, tenant, 1_000 if quick else 30_000, 1 if quick else 3))
        return rows
    finally:
        await server.stop()


async def _recorded(
    database: Database, owner: psycopg.AsyncConnection[object], tenant: UUID, size: int, rounds: int, seconds: float
) -> Row:
    async def ours() -> None:
        async with database.transaction(tenant) as tx:
            await service.record_many(tx, [(_event(number), datetime.now(UTC)) for number in range(size)])

    bare = _bare(owner, _made(tenant, size))
    await ours()
    await bare()
    mine, its = [], []
    for _ in range(rounds):
        mine.append(await _rate(ours, seconds) * size)
        its.append(await _rate(bare, seconds) * size)
    case = f"record, {size:,} per transaction"
    return row(case, "records/s, more is better", median(mine), median(its), "bare INSERT")


async def _sealed(
    database: Database, owner: psycopg.AsyncConnection[object], tenant: UUID, count: int, rounds: int
) -> Row:
    sealer = Sealer(database, _Signer(), SystemClock())
    await sealer.seal_all()
    bare = _bare(owner, _made(tenant, 1000))
    rates, its = [], []
    for _ in range(rounds):
        for _ in range(count // 1000):
            async with database.transaction(tenant) as tx:
                await service.record_many(tx, [(_event(number), datetime.now(UTC)) for number in range(1000)])
        started = time.perf_counter()
        await sealer.seal_all()
        rates.append(count / (time.perf_counter() - started))
        its.append(await _rate(bare, 1.0) * 1000)
    return row(f"seal, {count:,} pending", "records/s, more is better", median(rates), median(its), "bare INSERT")


def _bare(owner: psycopg.AsyncConnection[object], made: list[store.NewRecord]) -> Callable[[], Awaitable[None]]:
    """The INSERT of finished rows, with fresh ids each time."""
    columns = [[getattr(one, name) for one in made] for name in _COLUMNS]

    async def insert() -> None:
        columns[0] = [new_id() for _ in made]
        await owner.execute(_BARE, columns)

    return insert


def _made(tenant: UUID, count: int) -> list[store.NewRecord]:
    """Rows of the size that :func:`service.record_many` writes."""
    made = []
    for number in range(count):
        event, record_id, salts, at = _event(number), new_id(), leaf.new_salts(), datetime.now(UTC)
        values = leaf.values_of(event)
        encoded = leaf.encode(tenant, record_id, at, action=event.action, salts=salts, values=values)
        made.append(
            store.NewRecord(
                id=record_id,
                at=at,
                action=event.action,
                outcome=values.outcome,
                actor_kind=values.actor_kind,
                actor_id=values.actor_id,
                object_kind=values.object_kind,
                object_id=values.object_id,
                leaf=encoded,
                leaf_hash=os.urandom(32),
                salts=salts,
                detail=leaf.canonical_json(values.detail).decode(),
                source_tag=os.urandom(32),
                sealed=os.urandom(128),
            )
        )
    return made


def _event(number: int) -> AuditEvent:
    """A read of a secret, as the vault records it."""
    return AuditEvent(
        "vault.secret.read",
        Outcome.OK,
        Actor(ActorKind.PERSON, UUID(int=7), "198.51.100.7"),
        "secret",
        UUID(int=number),
        {"mount": "app", "token": "accessor-of-the-token", "grant": str(UUID(int=9)), "version": 3},
        {"path": "team/service/database"},
    )


async def _rate(work: Callable[[], Awaitable[None]], seconds: float) -> float:
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        await work()
        done += 1
    return done / (time.perf_counter() - started)
