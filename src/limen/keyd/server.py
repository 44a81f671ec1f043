"""The socket of keyd: frames in, frames out; who may connect is the kernel's word (SO_PEERCRED).

Rules:

1. A peer whose uid is not on the list gets one ``Failure`` and is cut off; nothing it sends is looked at.
2. One request at a time per connection. A message that follows the framing but not the protocol is answered
   with a ``Failure``; one that breaks the framing, or stalls in the middle for ten seconds, ends the
   connection.
3. The socket stands in a directory that only keyd and one group may enter, so the list is the second lock.
"""

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path

import structlog

from limen.kernel.errors import LimenError, Malformed
from limen.keyd.errors import CannotStart
from limen.keyd.service import Caller, Custodian
from limen.wire import keyd as wire
from limen.wire.codec import decode

MAX_CONNECTIONS = 256
STALL_SECONDS = 10.0
DISMISSAL_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7))
_log = structlog.get_logger("limen.keyd")


class KeydServer:
    """Listens on one socket path for one custodian."""

    def __init__(self, custodian: Custodian, path: Path, allowed_uids: frozenset[int]) -> None:
        self._custodian = custodian
        self._path = path
        self._allowed = allowed_uids
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen. The caller holds the keystore's lock, so a socket file that stands there is a
        leftover.

        Raises:
            CannotStart: when the path cannot be bound.
        """
        listener = _bind(self._path)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener)

    async def close(self) -> None:
        """Stop listening, end every connection, remove the socket file."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a connection's callback always runs in a task
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return  # the peer went away or stalled
        except asyncio.CancelledError:
            return  # keyd stops
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _caller(writer)
        if caller.uid not in self._allowed:
            _log.warning("peer refused", uid=caller.uid, pid=caller.pid)
            await _dismiss(reader, writer, _refusal(caller))
            return
        if len(self._connections) > MAX_CONNECTIONS:
            crowded = wire.Failure(code="unavailable", message="too many connections to key custody")
            await _dismiss(reader, writer, crowded)
            return
        while header := await reader.readexactly(wire.HEADER_BYTES):
            length = int.from_bytes(header, "big")
            try:
                wire.check_length(length)
            except Malformed as exc:
                await _dismiss(reader, writer, _failure(exc))
                return
            async with asyncio.timeout(STALL_SECONDS):
                body = await reader.readexactly(length)
            await _send(writer, await self._answer(body, caller))

    async def _answer(self, body: bytes, caller: Caller) -> wire.Reply:
        try:
            request: wire.Request = decode(body, wire.Request)
        except Malformed as exc:
            return _failure(exc)
        return await self._custodian.handle(request, caller)


async def _dismiss(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: wire.Failure) -> None:
    """Send a last word and wait briefly for the peer to hang up, throwing away what it sends: closing on
    unread bytes would reset the connection, and the peer might never see the reason."""
    await _send(writer, reply)
    writer.write_eof()
    async with asyncio.timeout(DISMISSAL_SECONDS):
        while await reader.read(1 << 16):
            pass


async def _send(writer: asyncio.StreamWriter, reply: wire.Reply) -> None:
    try:
        writer.write(wire.frame(reply))
    except Malformed as exc:
        writer.write(wire.frame(_failure(exc)))
    async with asyncio.timeout(STALL_SECONDS):
        await writer.drain()


def _failure(exc: LimenError) -> wire.Failure:
    return wire.Failure(code=exc.code, message=exc.message, fix=exc.fix)


def _refusal(caller: Caller) -> wire.Failure:
    return wire.Failure(
        code="denied",
        message=f"user id {caller.uid} may not use key custody",
        fix="run this as the user of `limen serve`, or allow the uid in keyd's settings",
    )


def _caller(writer: asyncio.StreamWriter) -> Caller:
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return Caller(uid=uid, pid=pid)


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # Mode 0660 from the first moment: the directory's group (set-group-id) is the group that may connect.
        previous = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
    except OSError as exc:
        listener.close()
        raise CannotStart(
            f"cannot listen on {path}: {exc.strerror or exc}", fix="give a short path in a directory keyd may write to"
        ) from exc
    return listener
