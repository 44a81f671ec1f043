"""``Database``: the one helper through which everything reaches PostgreSQL.

Two forms for tenants: :meth:`Database.query` sends ``set_config`` and one statement in a single round trip
(reads and single writes); :meth:`Database.transaction` is for read-then-write, with audit record and outbox
version. A third, :meth:`Database.system`, is for the enumerated jobs over all tenants. One small pool per
role.

When the server goes away, running work ends with :class:`~limen.db.errors.Unreachable`, and new work fails at once;
the first request after the server is back succeeds (:mod:`limen.db.pool`). Do not ask for a second connection while
holding a transaction: a pool that is full would wait for itself.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self
from uuid import UUID

from psycopg.sql import SQL, Identifier

from limen.db.errors import translated
from limen.db.listener import Listener
from limen.db.pool import Pool, Row, connect
from limen.db.ports import FieldCipher
from limen.db.roles import APP, SystemRole
from limen.db.source import ConnectionSource
from limen.db.transaction import (
    CHANGE_CHANNEL,
    SET_TENANT,
    FactHook,
    Params,
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
        self._pools: dict[str, Pool] = {}

    async def open(self) -> None:
        """Connect once, to fail early.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self._pool(APP).connection():
            pass

    async def close(self) -> None:
        """Close all connections; those in use close when their work ends."""
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()

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
        async with self._pool(APP).connection() as connection:
            with translated():
                async with connection.pipeline():
                    await connection.execute(SET_TENANT, [str(tenant_id)])
                    cursor = await connection.execute(sql.encode(), params)
                return await cursor.fetchall() if cursor.description is not None else []

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[Tx]:
        """One transaction of one tenant: commits on a clean exit, rolls back on any exception."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._pool(APP).connection())
            yield await stack.enter_async_context(
                tenant_transaction(connection, tenant_id, self._cipher, lambda: self.fact_hook)
            )

    @asynccontextmanager
    async def system(self, role: SystemRole) -> AsyncIterator[SystemTx]:
        """One transaction over all tenants, with the columns that the role was granted."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._pool(role).connection())
            yield await stack.enter_async_context(system_transaction(connection))

    @asynccontextmanager
    async def listen(self, channel: str = CHANGE_CHANNEL) -> AsyncIterator[Listener]:
        """Listen on a channel over a direct connection; listening has begun when the block is entered.

        Raises:
            Unavailable: the database does not answer.
        """
        connection = await connect(self._source.conninfo(SystemRole.FEED))
        try:
            with translated():
                await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
            yield Listener(connection)
        finally:
            await connection.close()

    def _pool(self, role: str) -> Pool:
        pool = self._pools.get(role)
        if pool is None:
            size = self._pool_size if role == APP else _SYSTEM_POOL_SIZE
            pool = self._pools[role] = Pool(self._source.conninfo(role), size=size, wait=self._wait)
        return pool
