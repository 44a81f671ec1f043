"""The agents' door: a mutual-TLS WebSocket server (TLS 1.3) that hands each connection to the devices room.

A thin shell on ``websockets``' own server, because the application must read the client's certificate, which the
HTTP servers do not show. The TLS layer lets in only certificates of the agent authority; who the agent is and
whether it still may connect is decided in :mod:`limen.control.devices.service.channel`.
"""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from limen.control.devices.service import ChannelServer
from limen.control.devices.service.certificates import peer_certificate
from limen.kernel.errors import Malformed, Unavailable
from limen.wire.agent import MAX_MESSAGE_BYTES

CHANNEL_PATH = "/agent"
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
READ_AHEAD = 16
"""Messages read before the application asks; beyond it TCP holds the agent back."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def agent_door(server: ChannelServer, context: ssl.SSLContext, host: str, port: int) -> AsyncIterator[int]:
    """Listen until the block ends, then end all sessions; yields the port (of use when ``port`` is 0).

    ``context`` comes from :func:`limen.runtime.tls.agent_server_context`.

    Raises:
        Unavailable: when the port is taken or must not be used.
    """
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise ValueError("the agents' door must ask for client certificates")

    async def accept(connection: ServerConnection) -> None:
        await _accept(server, connection)

    listener = serve(
        accept,
        host,
        port,
        ssl=context,
        process_request=_only_the_channel,
        compression=None,  # what is compressed together can be guessed from its length
        server_header=None,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=READ_AHEAD,
        ping_interval=None,  # heartbeats are the proof of life
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
    )
    try:
        running = await listener
    except OSError as exc:
        raise Unavailable(f"cannot listen on {host}:{port}: {_why(exc)}", fix="choose another port") from exc
    try:
        yield int(next(iter(running.sockets)).getsockname()[1])
    finally:
        await server.hub.shut()
        running.close()
        await running.wait_closed()


async def _accept(server: ChannelServer, connection: ServerConnection) -> None:
    source = str(connection.remote_address[0])
    tls: ssl.SSLObject = connection.transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True)
    if certificate is None:
        raise AssertionError("a connection without a client certificate got through the handshake")
    try:
        peer = peer_certificate(certificate)
    except Malformed as exc:
        _log.warning("certificate of our authority that names no agent", error=exc.message)
        await connection.close(1008)
        return
    await server.serve(_WebSocketWire(connection), peer, source)


def _only_the_channel(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != CHANNEL_PATH:
        return connection.respond(HTTPStatus.NOT_FOUND, "this port is for agents only\n")
    return None


class _WebSocketWire:
    """``control.devices.ports.Wire`` on a WebSocket."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes:
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as exc:
            raise ConnectionError("the agent has gone") from exc

    async def transmit(self, data: bytes) -> None:
        try:
            await self._connection.send(data, text=True)
        except ConnectionClosed as exc:
            raise ConnectionError("the agent has gone") from exc

    async def close(self) -> None:
        # close() first waits until all that was written has left: for ever, when the peer is gone without a word.
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self._connection.close()
        except TimeoutError:
            self._connection.transport.abort()


def _why(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the port is taken by another process"
    if exc.errno == errno.EACCES:
        return "this user may not use ports below 1024"
    return exc.strerror or "the address cannot be used"
