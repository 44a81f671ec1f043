"""The socket to keyd: a few connections, one request at a time on each, in order.

Rules:

1. A connection is reused only after a whole reply was read; anything else (time-out, cancellation, a broken
   frame) closes it, so a reply can never answer another request.
2. A reused connection that turns out to be dead is replaced once without telling the caller: every request to
   keyd may be repeated. A fresh connection that fails is reported.
3. keyd not answering is ``Unavailable`` with what to do next, never a raw socket error.
"""

import asyncio
from pathlib import Path

from limen.kernel.errors import Malformed, Unavailable
from limen.wire import keyd as wire
from limen.wire.codec import decode

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class KeydChannel:
    """A small pool of connections to one keyd; used from one event loop."""

    def __init__(self, socket_path: Path, *, connections: int, timeout_seconds: float) -> None:
        self._path = socket_path
        self._timeout = timeout_seconds
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Streams] = []
        self._closed = False

    async def ask(self, request: wire.Request) -> wire.Reply:
        """Send one request and return its reply, which may be a ``Failure``.

        Raises:
            Unavailable: when keyd cannot be reached or does not answer in time.
            Malformed: when the request is too long.
        """
        frame = wire.frame(request)
        async with self._free:
            if self._closed:
                raise self._down("is closed")
            while self._idle:
                streams = self._idle.pop()
                try:
                    return await self._exchange(streams, frame)
                except (OSError, asyncio.IncompleteReadError):
                    continue  # keyd was restarted since the connection was last used
            try:
                return await self._exchange(await self._connect(), frame)
            except (OSError, asyncio.IncompleteReadError) as exc:
                raise self._down("closed the connection (is this user allowed to connect?)") from exc

    async def close(self) -> None:
        """Close every idle connection; later requests are refused."""
        self._closed = True
        while self._idle:
            await _shut(self._idle.pop()[1])

    async def _connect(self) -> _Streams:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.open_unix_connection(str(self._path))
        except TimeoutError:
            raise self._down("does not accept connections") from None
        except PermissionError as exc:
            raise self._down("may not be reached by this user") from exc
        except OSError as exc:
            raise self._down("is not running") from exc

    async def _exchange(self, streams: _Streams, frame: bytes) -> wire.Reply:
        reader, writer = streams
        whole = False
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(frame)
                await writer.drain()
                length = int.from_bytes(await reader.readexactly(wire.HEADER_BYTES), "big")
                wire.check_length(length)
                reply: wire.Reply = decode(await reader.readexactly(length), wire.Reply)
                whole = True
                return reply
        except TimeoutError:
            raise self._down(f"did not answer within {self._timeout:g} s") from None
        except Malformed as exc:
            raise self._down("speaks another protocol") from exc
        finally:
            if whole and not self._closed:
                self._idle.append(streams)
            else:
                writer.close()

    def _down(self, what: str) -> Unavailable:
        return Unavailable(
            f"the key custody process {what}",
            fix=f"start `limen keyd` (socket {self._path}) and read its log",
        )


async def _shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return  # the peer was faster
