"""A relay in front of PostgreSQL's Unix socket that counts how often the client waits for the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class Relay:
    """Forwards bytes; ``round_trips`` counts the answers that the client waited for."""

    def __init__(self, server_directory: Path) -> None:
        self.round_trips = 0
        self._server_directory = server_directory
        self._client_spoke_last = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = str(self._server_directory / _SOCKET)
        server_reader, server_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(
            self._forward(reader, server_writer, from_client=True),
            self._forward(server_reader, writer, from_client=False),
        )

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not from_client and self._client_spoke_last:
                    self.round_trips += 1
                self._client_spoke_last = from_client
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def relay(server_directory: Path, directory: Path) -> AsyncIterator[Relay]:
    """Listen in ``directory`` under the name that libpq looks for."""
    counting = Relay(server_directory)
    server = await asyncio.start_unix_server(counting._serve, directory / _SOCKET)
    try:
        yield counting
    finally:
        server.close()
        await server.wait_closed()
