"""Tenant transactions and system transactions: statements, field encryption, and the version protocol.

The version protocol makes "no stale decision" true. Facts that a transaction changed are collected; on commit

1. the tenant's version row is locked ``FOR UPDATE``, so that no other change and no issuing of a grant (which
   holds it ``FOR SHARE``) is in flight, and every earlier one is visible to the statements that follow;
2. the fact hook decides all concerned grants again, on facts that nobody else can change until this commit;
3. the version is counted up, the change goes into the outbox under that number, and one NOTIFY is sent;
4. COMMIT. The outbox therefore has no gaps and no row that appears late.

This is the only writer of versions. A transaction that collects facts must not hold the row ``FOR SHARE``:
two such would wait for each other. :meth:`Tx.lock_version` with ``share=False`` is the way to read the
version and change facts.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from limen.db.errors import DatabaseFault, Unreachable, translated
from limen.db.pool import Connection, Row
from limen.db.ports import FieldCipher, TenantCipher
from limen.kernel.errors import NotFound
from limen.kernel.facts import Change, Fact, RevokedGrant

Params = Sequence[Any] | dict[str, Any]
CHANGE_CHANNEL = "limen"

SET_TENANT = b"SELECT set_config('app.tenant', %s, true)"

_log = structlog.get_logger(__name__)


class SystemTx:
    """Statements of one transaction. Must not be used after its ``async with`` block has ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._callbacks: list[Callable[[], None]] = []

    async def fetch(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement and return all its rows (none for a statement that returns none)."""
        cursor = await self._run(sql, params)
        with translated():
            return await cursor.fetchall() if cursor.description is not None else []

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        """Run one statement and return its first row, if any."""
        cursor = await self._run(sql, params)
        with translated():
            return await cursor.fetchone() if cursor.description is not None else None

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement and return how many rows it touched."""
        return (await self._run(sql, params)).rowcount

    async def execute_many(self, sql: str, seq: Iterable[Params]) -> int:
        """Run one statement per set of parameters, in one pipeline; returns how many rows were touched."""
        with translated():
            cursor = self._open_connection().cursor()
            await cursor.executemany(sql.encode(), seq)
            return max(cursor.rowcount, 0)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after the commit; it must not block, and its errors are only logged."""
        self._open_connection()
        self._callbacks.append(callback)

    async def _run(self, sql: str, params: Params) -> psycopg.AsyncCursor[Row]:
        with translated():
            return await self._open_connection().execute(sql.encode(), params)

    def _open_connection(self) -> Connection:
        if self._connection is None:
            # The connection is back in the pool and may serve another tenant by now.
            raise RuntimeError("this transaction has ended")
        return self._connection


class Tx(SystemTx):
    """One transaction of one tenant; sees and writes the rows of that tenant only."""

    def __init__(self, connection: Connection, tenant_id: UUID, cipher: FieldCipher) -> None:
        super().__init__(connection)
        self.tenant_id = tenant_id
        self._field_cipher = cipher
        self._tenant_cipher: TenantCipher | None = None
        self._facts: set[Fact] = set()
        self._revoked: dict[UUID, RevokedGrant] = {}

    async def cipher(self) -> TenantCipher:
        """The field cipher of this tenant.

        Raises:
            Unavailable: when key custody does not answer.
        """
        if self._tenant_cipher is None:
            self._tenant_cipher = await self._field_cipher.for_tenant(self.tenant_id)
        return self._tenant_cipher

    async def seal(self, table: str, column: str, row_id: UUID, plaintext: str | bytes) -> bytes:
        """Encrypt a value for exactly this table, column and row; text is encoded as UTF-8."""
        data = plaintext.encode() if isinstance(plaintext, str) else plaintext
        return (await self.cipher()).seal(table, column, row_id, data)

    async def open(self, table: str, column: str, row_id: UUID, blob: bytes) -> bytes:
        """Decrypt what :meth:`seal` made for the same table, column and row."""
        return (await self.cipher()).open(table, column, row_id, blob)

    async def tag(self, kind: str, value: str) -> bytes:
        """A 32-byte keyed hash of ``value`` for equality look-up within this tenant."""
        return (await self.cipher()).tag(kind, value)

    def fact_changed(self, fact: Fact) -> None:
        """Say that a fact which grants may rest on was changed by this transaction."""
        self._open_connection()
        self._facts.add(fact)

    def revoked(self, grant: RevokedGrant) -> None:
        """Say that a grant ended in this transaction, so that the enforcement points learn of it."""
        self._open_connection()
        self._revoked[grant.id] = grant

    async def lock_version(self, *, share: bool) -> int:
        """Lock and return the tenant's version: shared to issue a grant, exclusive to change facts.

        Raises:
            NotFound: no such tenant.
        """
        strength = "SHARE" if share else "UPDATE"
        row = await self.fetch_one(
            f"SELECT version FROM tenant_versions WHERE tenant_id = %s FOR {strength}",  # noqa: S608
            [self.tenant_id],
        )
        if row is None:
            raise NotFound("no such tenant", fix="check the tenant's name")
        return int(row["version"])


FactHook = Callable[[Tx, frozenset[Fact]], Awaitable[None]]


async def _decide_again(tx: Tx, hook: FactHook | None) -> None:
    """Hand all changed facts to the hook; facts that the hook itself changes are handed over in turn."""
    handed: set[Fact] = set()
    while fresh := tx._facts - handed:
        handed |= fresh
        if hook is not None:
            await hook(tx, frozenset(fresh))


async def _finish(tx: Tx, connection: Connection, hook: FactHook | None) -> None:
    """Publish what was collected and commit."""
    if connection.info.transaction_status == TransactionStatus.INERROR:
        # A caller swallowed the error of a statement; COMMIT would silently roll back.
        raise DatabaseFault("25P02")
    if not tx._facts and not tx._revoked:
        await _commit(connection)
        return
    version = await tx.lock_version(share=False) + 1
    await _decide_again(tx, hook)
    change = Change(
        tx.tenant_id,
        version,
        tuple(sorted(tx._facts, key=lambda fact: (fact.kind, fact.id))),
        tuple(tx._revoked.values()),
    )
    with translated():
        async with connection.pipeline():
            await connection.execute(
                b"UPDATE tenant_versions SET version = %s WHERE tenant_id = %s", [version, tx.tenant_id]
            )
            await connection.execute(
                b"INSERT INTO outbox (tenant_id, version, at, payload) VALUES (%s, %s, %s, %s)",
                [tx.tenant_id, version, datetime.now(UTC), Jsonb(msgspec.to_builtins(change))],
            )
            await connection.execute(b"SELECT pg_notify(%s, %s)", [CHANGE_CHANNEL, f"{tx.tenant_id}:{version}"])
    await _commit(connection)


async def _commit(connection: Connection) -> None:
    try:
        with translated():
            cursor = await connection.execute(b"COMMIT")
    except Unreachable as exc:
        raise Unreachable(
            "the database went away while the change was being saved; it is not known whether it was",
            fix="look whether the change is there before repeating it",
        ) from exc
    if cursor.statusmessage != "COMMIT":
        raise DatabaseFault("25P02")


async def _rollback(connection: Connection) -> None:
    """Undo; a connection that cannot even do that is closed, so that the pool replaces it."""
    try:
        await connection.execute(b"ROLLBACK")
    except (psycopg.Error, OSError):
        await connection.close()


def _call_back(callbacks: Sequence[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _log.exception("after-commit callback failed")


@asynccontextmanager
async def tenant_transaction(
    connection: Connection, tenant_id: UUID, cipher: FieldCipher, hook: Callable[[], FactHook | None]
) -> AsyncIterator[Tx]:
    """Run one tenant transaction on an idle autocommit connection."""
    tx = Tx(connection, tenant_id, cipher)
    try:
        with translated():
            async with connection.pipeline():
                await connection.execute(b"BEGIN")
                await connection.execute(SET_TENANT, [str(tenant_id)])
        yield tx
        await _finish(tx, connection, hook())
    except BaseException:
        await _rollback(connection)
        raise
    finally:
        tx._connection = None
    _call_back(tx._callbacks)


@asynccontextmanager
async def system_transaction(connection: Connection) -> AsyncIterator[SystemTx]:
    """Run one transaction of an enumerated job on an idle autocommit connection."""
    tx = SystemTx(connection)
    try:
        with translated():
            await connection.execute(b"BEGIN")
        yield tx
        if connection.info.transaction_status == TransactionStatus.INERROR:
            raise DatabaseFault("25P02")
        await _commit(connection)
    except BaseException:
        await _rollback(connection)
        raise
    finally:
        tx._connection = None
    _call_back(tx._callbacks)
