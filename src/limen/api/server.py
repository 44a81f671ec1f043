"""The TLS server: uvicorn on h11, TLS 1.3 only, stopped by its owner and not by signals.

h11 rather than httptools because the Vault protocol's LIST is a method that httptools' parser refuses. The socket is
bound before the server starts, so that a taken port is one clear error and never a half-started process.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from limen.kernel.errors import Unavailable

STOP_SECONDS = 5
_KEEP_ALIVE_SECONDS = 30
_FAREWELL_SECONDS = 0.4


class PortTaken(Unavailable):
    """Another program listens there."""

    code = "port-taken"


class HttpServer:
    """One listening server. ``await start()``, later ``await stop()``; ``port`` is the real one after the start."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, tls: ssl.SSLContext | None, *, stop_seconds: int = STOP_SECONDS
    ) -> None:
        self.host = host
        self.port = port
        self._task: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=stop_seconds,
            ssl_context_factory=(lambda _config, _default: tls) if tls is not None else None,
        )
        self._server = _Server(config)

    async def start(self) -> None:
        """Bind and serve; returns once connections are accepted.

        Raises:
            PortTaken: when another program listens there.
            Unavailable: when the address cannot be bound for another reason.
        """
        listener = bind(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([listener]), name=f"http-{self.port}")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise Unavailable(f"the server on port {self.port} did not start")
            await asyncio.sleep(0.005)

    async def wait(self) -> None:
        """Until the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop accepting, let running requests end for up to ``stop_seconds``, then cut them."""
        self._server.should_exit = True
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=_FAREWELL_SECONDS)
        self._drop_idle()
        await self._task
        self._task = None

    def _drop_idle(self) -> None:
        """Connections without a request were asked to close; a client that does not answer holds nobody up."""
        for connection in list(self._server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            transport = getattr(connection, "transport", None)
            if transport is not None and (cycle is None or cycle.response_complete):
                transport.abort()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the process's main, which may run several servers."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's address, bound.

    Raises:
        PortTaken: when another program listens there.
        Unavailable: when the address is not ours or the port is privileged.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's algorithm off only for sockets that name it; with it on,
    # the body of each answer waits for the client's delayed acknowledgement of the headers: 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} on {host} is taken by another program",
                fix=f"stop it (ss -ltnp 'sport = :{port}' shows it) or choose another port",
            ) from exc
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise Unavailable(
            f"cannot listen on {host} port {port}: {reason.lower()}",
            fix="choose an address of this machine and a port above 1023, or grant CAP_NET_BIND_SERVICE",
        ) from exc
    return listener
