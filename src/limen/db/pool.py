"""A few connections of one role, opened when they are needed and reused last in, first out.

Our own, because psycopg_pool connects in the background with a growing back-off: while the database is down each
request would wait its full time before it fails, and after the restart dead idle connections are replaced one per
back-off step. Here a request connects itself: refused at once while the database is down, served at once when it is
back. There is no task in the background and nothing to wake up.

A connection that died while idle is noticed before use by poll(2), without a round trip: an idle socket is silent.
"""

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row

from limen.db.errors import Contention, translated, unreachable

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]


async def connect(conninfo: str) -> Connection:
    """Open one autocommit connection with rows as dicts.

    Raises:
        Unreachable: the database does not answer, or refuses the login.
    """
    with translated():
        return await Connection.connect(conninfo, autocommit=True, row_factory=dict_row)


class Pool:
    """At most ``size`` connections at a time; ``wait`` is how many seconds work waits for a free one."""

    def __init__(self, conninfo: str, *, size: int, wait: float) -> None:
        self._conninfo = conninfo
        self._wait = wait
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode, outside of any transaction.

        Raises:
            Contention: all connections stay in use.
            Unreachable: the database does not answer.
        """
        await self._await_free()
        try:
            connection = await self._take()
            try:
                yield connection
            finally:
                await self._give_back(connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close idle connections now and those in use when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _await_free(self) -> None:
        if self._closed:
            raise unreachable("this process is stopping")
        try:
            async with asyncio.timeout(self._wait):
                await self._free.acquire()
        except TimeoutError:
            raise Contention(
                "all database connections are in use", fix="try again in a moment, or allow more connections"
            ) from None

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if _is_silent(connection):
                return connection
            await connection.close()
        return await connect(self._conninfo)

    async def _give_back(self, connection: Connection) -> None:
        """Keep it if it is as it was lent; whatever was interrupted half-way is closed."""
        reusable = (
            not self._closed
            and connection.pgconn.transaction_status == TransactionStatus.IDLE
            and connection.pgconn.pipeline_status == PipelineStatus.OFF
        )
        if reusable:
            self._idle.append(connection)
        else:
            await connection.close()


def _is_silent(connection: Connection) -> bool:
    """Whether an idle connection has nothing to read: neither its end nor the server's last words."""
    if connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poller.poll(0)
