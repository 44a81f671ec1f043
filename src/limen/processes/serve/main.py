"""The main of ``limen serve``: database, keyd, rooms, two ports, jobs, and an orderly end."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import psycopg
import structlog
import uvloop

from limen.api.agents import agent_door
from limen.api.server import HttpServer
from limen.control.audit.partitions import ensure_partitions
from limen.control.audit.tasks import run as run_sealing
from limen.control.custody.service import CustodyFieldCipher, KeydClient
from limen.control.grants.tasks import run_expiry
from limen.db.catalogue import audit_catalogue
from limen.db.database import Database
from limen.db.external import ExternalPostgres
from limen.db.migrate import migrate
from limen.db.roles import OWNER
from limen.db.source import DsnSource
from limen.kernel.clock import SystemClock
from limen.kernel.errors import LimenError, Unavailable
from limen.processes.identity import become, preload
from limen.processes.serve.certificate import ServerCertificate
from limen.processes.serve.composition import application, compose
from limen.processes.serve.settings import ServeSettings
from limen.runtime.logs import configure_logs
from limen.runtime.settings import load_settings
from limen.runtime.users import find_user

_log = structlog.get_logger("limen.serve")
_PACKAGES = (
    "limen.control",
    "limen.api",
    "limen.console",
    "limen.db",
    "uvicorn",
    "starlette",
    "fastapi",
    "pydantic",
    "h11",
    "websockets",
    "anyio",
    "psycopg",
    "joserfc",
    "argon2",
    "cryptography.hazmat",
    "msgspec",
    "structlog",
    "jinja2",
    "email",
)


async def prepare_database(settings: ServeSettings) -> None:
    """Migrate, make the coming months' partitions, and refuse a schema that breaks tenant isolation.

    Raises:
        Unavailable: when the database does not answer.
        LimenError: when a migration or the catalogue audit fails; the message says what to do.
    """
    source = settings.database.source()
    if isinstance(source, DsnSource):
        await ExternalPostgres(source).start()
    await migrate(source)
    try:
        async with await psycopg.AsyncConnection.connect(source.conninfo(OWNER), autocommit=True) as connection:
            await ensure_partitions(connection, SystemClock().now())
    except psycopg.Error as exc:
        raise Unavailable("the audit tables cannot be prepared", fix="look at the database's log") from exc
    await audit_catalogue(source)


async def serve(settings: ServeSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        LimenError: when something that it needs is missing; the message says what to do.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.migrate:
        await prepare_database(settings)
    _give_up_root(settings)
    async with AsyncExitStack() as stack:
        keyd = KeydClient(settings.keyd_socket)
        stack.push_async_callback(keyd.close)
        cipher = CustodyFieldCipher(keyd)
        database = await stack.enter_async_context(
            Database(settings.database.source(), cipher, pool_size=settings.database.pool_size)
        )
        authorities = await keyd.authorities()
        trust = settings.trust.read_bytes() if settings.trust is not None else authorities.server_ca_pem

        async def tenants() -> dict[UUID, str]:
            return {tenant.id: tenant.slug for tenant in await plane.tenancy.list_tenants()}

        plane = compose(settings, database, cipher, keyd, SystemClock(), trust)
        certificate = ServerCertificate(settings, keyd, authorities.agent_ca_pem, tenants)
        plane.feed.subscribe(certificate.heard)
        public_tls, agent_tls = await certificate.contexts()
        (settings.state / "ca.pem").write_bytes(trust)

        jobs = await stack.enter_async_context(_Jobs())
        jobs.start(plane.feed.run())
        await plane.feed.ready.wait()
        jobs.start(run_sealing(plane.sealing))
        jobs.start(run_expiry(database, plane.ledger, plane.clock))
        jobs.start(certificate.keep_fresh())
        await stack.enter_async_context(agent_door(plane.channel, agent_tls, settings.host, settings.agent_port))
        server = HttpServer(application(settings, plane, authorities, trust), settings.host, settings.port, public_tls)
        await server.start()
        stack.push_async_callback(server.stop)
        stack.callback(plane.pages.shut)
        _log.info("limen serve answers", url=settings.url, uid=os.geteuid())
        await jobs.until(stop)


class _Jobs:
    """Background jobs that never end by themselves: one that does takes the process down, loudly."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, job: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(job))

    async def until(self, stop: asyncio.Event) -> None:
        stopped = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        for task in done - {stopped}:
            task.result()

    async def __aenter__(self) -> "_Jobs":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _give_up_root(settings: ServeSettings) -> None:
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() != 0 or not settings.user:
        return
    user = find_user(settings.user)
    if user is None:
        raise Unavailable(f"there is no system user {settings.user}", fix=f"useradd --system {settings.user}")
    preload(_PACKAGES)
    os.chown(settings.state, user.uid, user.gid)
    for path in settings.state.iterdir():
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    become(user)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the settings and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="limen serve", description="The control plane of Limen.")
    parser.add_argument("--config", type=Path, help="settings file (TOML); LIMEN_* variables win over it")
    options = parser.parse_args(arguments)
    configure_logs("serve")
    try:
        settings = load_settings(ServeSettings, file=options.config, environ=os.environ)
        uvloop.run(serve(settings))
    except LimenError as exc:
        print(f"limen serve: {exc.message}" + (f" ({exc.fix})" if exc.fix else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
