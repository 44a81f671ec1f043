"""One direct connection that listens for notifications. A notification is a hint; the tables are the truth.

Use: enter the listener, then catch up from the table, then wait. What is committed after the listener was
entered is notified, what was committed before is in the table, so nothing can fall between. A lost connection
raises :class:`~limen.db.errors.Unreachable`; the caller enters a new listener and catches up again.
"""

from collections.abc import AsyncIterator

from limen.db.errors import translated
from limen.db.pool import Connection


class Listener:
    """Receives the payloads of one channel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def wait(self, seconds: float) -> list[str]:
        """Payloads that have arrived, waiting up to ``seconds`` for the first; empty when none came.

        Raises:
            Unreachable: the connection was lost.
        """
        with translated():
            return [note.payload async for note in self._connection.notifies(timeout=seconds, stop_after=1)]

    async def __aiter__(self) -> AsyncIterator[str]:
        """Payloads as they come, until the connection is lost."""
        while True:
            for payload in await self.wait(60.0):
                yield payload
