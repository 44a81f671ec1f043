"""The main of ``limen sftp``: the file door as a process of its own.

``run(settings)`` is what the command line and the supervisor of ``limen up`` call; ``main`` parses arguments for a
process of its own (``python -m limen.processes.sftp``). With a token the agent enrols first; without one it uses the
identity in its state directory.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncssh
import uvloop

from limen import __version__
from limen.crypto import sealing
from limen.edge.channel import Channel, enrol, load_identity
from limen.edge.channel.identity import AGENT_FILE
from limen.edge.sftp.door import Door
from limen.edge.sftp.hostkeys import fingerprints, load_host_keys
from limen.edge.sftp.limits import ConnectionLimits
from limen.edge.sftp.ssh import listen
from limen.edge.sftp.storage.connect import StorageConnector, StorageSettings
from limen.kernel.errors import LimenError, Malformed, Unavailable
from limen.runtime.logs import configure_logs
from limen.wire.agent import AgentKind

GOODBYE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """All that ``limen sftp`` can be told. ``port`` 0 picks a free one."""

    state: Path
    token: str = ""
    server: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - a door faces its clients
    port: int = 2022
    local_root: Path | None = None
    private_endpoints: bool = False
    ca_file: Path | None = None
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)


def run(settings: SftpSettings) -> int:
    """Serve until told to stop; returns the exit status (0, or 1 with one line on standard error)."""
    configure_logs("sftp")
    # asyncssh's own log lines name users and addresses.
    logging.getLogger("asyncssh").setLevel(logging.ERROR)
    try:
        uvloop.run(serve(settings))
    except LimenError as exc:
        return _fail(exc)
    return 0


async def serve(settings: SftpSettings) -> None:
    """Enrol if need be, open the door, and keep it open until SIGTERM, SIGINT, or a permanent refusal.

    Raises:
        LimenError: enrolment failed, the identity or a key file is damaged, the port is taken, the agent is refused.
    """
    if settings.token and not (settings.state / AGENT_FILE).exists():
        await enrol(settings.token, settings.state, AgentKind.SFTP, server=settings.server or None)
    identity = load_identity(settings.state)
    keys = load_host_keys(settings.state)
    channel = Channel(identity)

    def open_sealed(tenant_id: UUID, connection_id: UUID, grant_id: UUID, blob: bytes) -> bytes:
        context = sealing.context("storage", tenant_id, connection_id, grant_id)
        return sealing.open_sealed(identity.sealing_private_key, blob, context)

    storage = StorageConnector(_storage_settings(settings), open_sealed)
    door = Door(channel, storage, software=f"limen {__version__}", limits=settings.limits)
    acceptor = await _listen(door, keys, settings)
    for line in (f"sftp listens on {settings.host}:{acceptor.get_port()}", *fingerprints(keys)):
        print(line, flush=True)
    await _until_stopped(channel, door, acceptor)


async def _until_stopped(channel: Channel, door: Door, acceptor: asyncssh.SSHAcceptor) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    working = asyncio.create_task(door.run())
    talking = asyncio.create_task(channel.run(door))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([working, talking, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        acceptor.close()
        # The door first: its last receipts and events leave over the channel.
        await _ended(working)
        channel.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await asyncio.wait([talking])
        await _ended(talking)


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; what it failed of is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _listen(door: Door, keys: list[asyncssh.SSHKey], settings: SftpSettings) -> asyncssh.SSHAcceptor:
    try:
        return await listen(door, keys, settings.host, settings.port)
    except OSError as exc:
        raise Unavailable(
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror or exc}",
            fix="choose another port (--listen) or stop what uses it",
        ) from exc


def _storage_settings(settings: SftpSettings) -> StorageSettings:
    ca_pem = b""
    if settings.ca_file is not None:
        try:
            ca_pem = settings.ca_file.read_bytes()
        except OSError as exc:
            raise Malformed(f"cannot read {settings.ca_file}: {exc.strerror}", fix="check --storage-ca") from exc
    if settings.local_root is not None:
        settings.local_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return StorageSettings(settings.local_root, settings.private_endpoints, ca_pem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="limen sftp", description="The file door of Limen: SFTP to buckets.")
    parser.add_argument("--state", type=Path, required=True, help="directory of this agent's identity and host keys")
    parser.add_argument("--token", default="", help="one-time enrolment token (first start only)")
    parser.add_argument("--server", default="", help="URL of the control plane, when the token's does not fit here")
    parser.add_argument("--listen", default="0.0.0.0:2022", help="address:port for SFTP clients")
    parser.add_argument("--local-root", type=Path, default=None, help="allow local folders, below this directory")
    parser.add_argument(
        "--private-endpoints", action="store_true", help="allow storage in private networks and over plain http"
    )
    parser.add_argument("--storage-ca", type=Path, default=None, help="PEM file of further authorities for storage")
    options = parser.parse_args(arguments)
    try:
        host, port = _address(options.listen)
    except Malformed as exc:
        return _fail(exc)
    return run(
        SftpSettings(
            state=options.state,
            token=options.token,
            server=options.server,
            host=host,
            port=port,
            local_root=options.local_root,
            private_endpoints=options.private_endpoints,
            ca_file=options.storage_ca,
        )
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Malformed(f"'{text}' is not address:port", fix="for example --listen 0.0.0.0:2022")
    return host.strip("[]"), int(port)


def _fail(exc: LimenError) -> int:
    print(f"limen sftp: {exc.message}" + (f" ({exc.fix})" if exc.fix else ""), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
