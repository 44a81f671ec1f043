"""An HTTP proxy in front of an object store that answers chosen requests itself: refuse, hang, or break off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Fault = Callable[[str, int], str]
"""(request line, how many requests came before) -> '' to pass on, '500', '403', 'hang' or 'drop'."""


@dataclass
class FaultyProxy:
    """Runs until its context ends. ``requests`` keeps every request line."""

    upstream: str
    fault: Fault
    port: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection; each request on an upstream connection of its own."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line = head.split(b"\r\n", 1)[0].decode()
                fault = self.fault(line, len(self.requests))
                self.requests.append(line)
                length = next(
                    (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                if fault == "drop":
                    return
                if fault == "hang":
                    await asyncio.sleep(3600)
                if fault:
                    writer.write(f"HTTP/1.1 {fault} Fault\r\ncontent-length: 0\r\n\r\n".encode())
                else:
                    writer.write(await self._forward(head, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        target = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            lines = [h for h in head.split(b"\r\n") if h and not h.lower().startswith(b"connection:")]
            writer.write(b"\r\n".join([*lines, b"connection: close", b"", b""]) + body)
            await writer.drain()
            answer = await reader.read()
            # The client's connection stays open; the store said that it closes.
            return answer.replace(b"Connection: close\r\n", b"", 1)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def faulty_proxy(upstream: str, fault: Fault) -> AsyncIterator[FaultyProxy]:
    """Run a proxy on a free port."""
    proxy = FaultyProxy(upstream, fault)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
