"""The wireguard-go back end: one child process per interface.

``setpriv --pdeathsig KILL`` makes the kernel kill the child when the thread that started it ends, so that a
killed agent leaves no tunnel behind: no cleanup code is needed for the case in which no code can run.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from limen.edge.wireguard import uapi
from limen.edge.wireguard.ports import Peer, PeerStatus, TunnelFailed

START_SECONDS = 10.0
STOP_SECONDS = 3.0
_POLL_SECONDS = 0.005

_log = structlog.get_logger("limen.wireguard")


class UserspaceWireGuard:
    """Implements :class:`limen.edge.wireguard.ports.WireGuard` with ``wireguard-go``."""

    def __init__(self, program: str = "wireguard-go") -> None:
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self._socket = Path()
        self._last_words = ""

    async def create(self, name: str, private_key: bytes, listen_port: int) -> None:
        """Start the process, wait for its control socket, configure it.

        Raises:
            TunnelFailed: when it does not come up; the process is gone then.
        """
        self._socket = uapi.SOCKET_DIRECTORY / f"{name}.sock"
        await asyncio.to_thread(_discard, self._socket)
        self._process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", self._program, "-f", name),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LOG_LEVEL": "error"},
            start_new_session=True,  # a Ctrl-C at the terminal reaches the agent, which then removes this in order
        )
        assert self._process.stderr is not None
        self._drain = asyncio.create_task(self._read_errors(self._process.stderr))
        try:
            await self._wait_for_socket(self._process)
            await uapi.exchange(self._socket, uapi.encode_interface(private_key, listen_port))
        except BaseException:
            await self.delete()
            raise

    async def set_peer(self, peer: Peer) -> None:
        """See :class:`WireGuard`."""
        await uapi.exchange(self._socket, uapi.encode_peer(peer))

    async def remove_peer(self, public_key: bytes) -> None:
        """See :class:`WireGuard`."""
        await uapi.exchange(self._socket, uapi.encode_removal(public_key))

    async def peers(self) -> Sequence[PeerStatus]:
        """See :class:`WireGuard`."""
        return list(uapi.parse_peers(await uapi.exchange(self._socket, "get=1\n\n")))

    async def listen_port(self) -> int:
        """See :class:`WireGuard`."""
        values = dict(await uapi.exchange(self._socket, "get=1\n\n"))
        return int(values.get("listen_port", "0"))

    async def ended(self) -> None:
        """See :class:`WireGuard`."""
        assert self._process is not None
        await self._process.wait()

    async def delete(self) -> None:
        """See :class:`WireGuard`."""
        process, self._process = self._process, None
        if process is not None:
            await _stop(process)
        if self._drain is not None:
            await self._drain
            self._drain = None
        await asyncio.to_thread(_discard, self._socket)

    async def _wait_for_socket(self, process: asyncio.subprocess.Process) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await _accepts(self._socket):
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS * 20):  # let the last words arrive
                        await process.wait()
                raise TunnelFailed(
                    f"wireguard-go did not start: {self._last_words or 'no reason given'}",
                    fix="check that /dev/net/tun exists and that this process has CAP_NET_ADMIN",
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _read_errors(self, stream: asyncio.StreamReader) -> None:
        """Keep the pipe empty; wireguard-go's banner goes to stderr too, so only real lines are kept."""
        while line := await stream.readline():
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("ERROR"):
                self._last_words = text
                _log.warning("wireguard-go", line=text)


async def _accepts(path: Path) -> bool:
    """Whether somebody listens there: the file is there a moment before its owner does."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask, then force. SIGTERM lets wireguard-go remove its socket and interface."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _discard(socket_path: Path) -> None:
    """Remove the control socket that a killed predecessor left behind."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        socket_path.unlink()
