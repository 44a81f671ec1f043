"""``Database``: the one helper through which everything reaches PostgreSQL.

Two forms for tenants: :meth:`Database.query` sends ``set_config`` and one statement in a single round trip
(reads and single writes); :meth:`Database.transaction` is for read-then-write, with audit record and outbox
version. A third, :meth:`Database.system`, is for the enumerated jobs over all tenants. One small pool per
role.

When the server goes away, running work ends with :class:`~limen.db.errors.Unreachable`. Connections that died
while idle are noticed before use without a round trip, so work succeeds again with the first request after
the server is back. Do not open a second connection while holding a transaction: a pool that is full would
wait for itself.
"""

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from limen.db.errors import translated
from limen.db.listener import Listener
from limen.db.ports import FieldCipher
from limen.db.roles import APP, SystemRole
from limen.db.source import ConnectionSource
from limen.db.transaction import (
    CHANGE_CHANNEL,
    SET_TENANT,
    Connection,
    FactHook,
    Params,
    Row,
    SystemTx,
    Tx,
    system_transaction,
    tenant_transaction,
)

__all__ = ["CHANGE_CHANNEL", "Database", "FactHook", "Params", "Row", "SystemRole", "SystemTx", "Tx"]

_SYSTEM_POOL_SIZE = 2


class Database:
    """Connections of one process. Open it once, share it, close it at the end (or use ``async with``).

    ``pool_size`` bounds the tenant connections; ``wait`` is how many seconds work waits for one of them
    before it fails with ``Unavailable``.
    """

    def __init__(self, source: ConnectionSource, cipher: FieldCipher, *, pool_size: int = 8, wait: float = 5.0) -> None:
        self.fact_hook: FactHook | None = None
        self._source = source
        self._cipher = cipher
        self._pool_size = pool_size
        self._wait = wait
        self._pools: dict[str, AsyncConnectionPool[Connection]] = {}

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: the database does not answer within the waiting time.
        """
        pool = await self._pool(APP)
        try:
            with translated():
                await pool.wait(self._wait)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; running work fails."""
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def query(self, tenant_id: UUID, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement for a tenant in one round trip and return its rows.

        The statement and the tenant's setting travel together and form one implicit transaction; a statement
        that fails leaves nothing behind. Statements that change facts need :meth:`transaction`.
        """
        async with self._connection(APP) as connection:
            with translated():
                async with connection.pipeline():
                    await connection.execute(SET_TENANT, [str(tenant_id)])
                    cursor = await connection.execute(sql.encode(), params)
                return await cursor.fetchall() if cursor.description is not None else []

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[Tx]:
        """One transaction of one tenant: commits on a clean exit, rolls back on any exception."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._connection(APP))
            yield await stack.enter_async_context(
                tenant_transaction(connection, tenant_id, self._cipher, lambda: self.fact_hook)
            )

    @asynccontextmanager
    async def system(self, role: SystemRole) -> AsyncIterator[SystemTx]:
        """One transaction over all tenants, with the columns that the role was granted."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._connection(role))
            yield await stack.enter_async_context(system_transaction(connection))

    @asynccontextmanager
    async def listen(self, channel: str = CHANGE_CHANNEL) -> AsyncIterator[Listener]:
        """Listen on a channel over a direct connection; listening has begun when the block is entered.

        Raises:
            Unavailable: the database does not answer.
        """
        with translated():
            connection = await psycopg.AsyncConnection[Row].connect(
                self._source.conninfo(SystemRole.FEED), autocommit=True, row_factory=dict_row
            )
        try:
            with translated():
                await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
            yield Listener(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def _connection(self, role: str) -> AsyncIterator[Connection]:
        pool = await self._pool(role)
        with translated():
            connection = await pool.getconn(self._wait)
        try:
            yield connection
        finally:
            # Shielded, because a cancelled task must not leave its connection out of the pool for ever.
            await asyncio.shield(pool.putconn(connection))

    async def _pool(self, role: str) -> AsyncConnectionPool[Connection]:
        pool = self._pools.get(role)
        if pool is None:
            pool = self._pools[role] = self._make_pool(role)
            await pool.open(wait=False)
        return pool

    def _make_pool(self, role: str) -> AsyncConnectionPool[Connection]:
        app = role == APP
        arguments: dict[str, Any] = {"autocommit": True, "row_factory": dict_row}
        return AsyncConnectionPool(
            self._source.conninfo(role),
            connection_class=psycopg.AsyncConnection[Row],
            kwargs=arguments,
            min_size=1 if app else 0,
            max_size=self._pool_size if app else _SYSTEM_POOL_SIZE,
            name=role,
            timeout=self._wait,
            # Short, because its back-off doubles: a request after a long outage then starts a fresh attempt.
            reconnect_timeout=2.0,
            check=_refuse_dead,
            num_workers=1,
            open=False,
        )


async def _refuse_dead(connection: Connection) -> None:
    """Notice a connection that died while idle. One poll(2), no round trip: an idle socket is silent."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    if poller.poll(0):
        await AsyncConnectionPool.check_connection(connection)
