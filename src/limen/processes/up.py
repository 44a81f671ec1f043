"""``limen up``: what fits on one machine, supervised, on an embedded PostgreSQL.

As root, each part runs as its own system user: ``limen-db`` (PostgreSQL), ``limen-keyd`` (key custody), ``limen``
(control plane). As an ordinary user all run as that user; a note says what that costs.
"""

import argparse
import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from limen.control.custody.service import CustodyFieldCipher, KeydClient
from limen.control.identity.adapters.session_keys import CustodySessionKeys
from limen.control.identity.service import IdentityService
from limen.control.tenancy.service import TenancyService
from limen.db.database import Database
from limen.db.embedded import EmbeddedPostgres
from limen.db.source import DsnSource
from limen.kernel.clock import SystemClock
from limen.kernel.errors import LimenError, Unavailable
from limen.processes.identity import KEYD_USER, SERVE_USER, service_user
from limen.processes.serve.main import prepare_database
from limen.processes.serve.settings import DatabaseSettings, ServeSettings, bracketed
from limen.processes.supervisor import Child, until_ready
from limen.runtime.logs import configure_logs
from limen.runtime.users import SystemUser
from limen.wire.keyd import SigningPurpose

_log = structlog.get_logger("limen.up")
ROOT_DATA = Path("/var/lib/limen")
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line said. ``tenant`` is the slug of the tenant made at the first start."""

    data: Path
    host: str
    port: int
    agent_port: int
    base_domain: str
    names: tuple[str, ...]
    tenant: str
    database_dsn: str = ""


class Platform:
    """The parts of one machine: PostgreSQL, keyd, serve. ``await start()``, later ``await stop()``."""

    def __init__(self, options: UpOptions) -> None:
        self.options = options
        data = options.data
        self.keyd_socket = data / "keyd-run" / "keyd.sock"
        self.state = data / "serve"
        self.logs = data / "logs"
        self.ca_file = data / "ca.pem"
        self.audit_key_file = data / "audit.pub"
        self.operator_file = data / "operator.token"
        self._serve_user = service_user(SERVE_USER)
        self._keyd_user = service_user(KEYD_USER)
        self.postgres = (
            None
            if options.database_dsn
            else EmbeddedPostgres(
                data / "postgres",
                clients=[self._serve_user.name] if self._serve_user else [],
                socket_gid=self._serve_user.gid if self._serve_user else None,
            )
        )
        self.keyd = self._keyd_child()
        self.serve = self._serve_child()

    @property
    def url(self) -> str:
        """Where people find the console and the API of the first tenant's platform."""
        return f"https://{bracketed(self.options.names[0])}:{self.options.port}"

    async def start(self) -> None:
        """Start everything in order and wait until it answers.

        Raises:
            LimenError: when a part does not start; the message says what to do. What was started is stopped.
        """
        _make_directories(self.options.data, self.logs)
        try:
            if self.postgres is not None:
                await self.postgres.start()
            await prepare_database(self._settings())
            await self.keyd.start()
            await until_ready(self.keyd, asyncio.ensure_future(self._keyd_answers()), START_SECONDS)
            await self._publish_authority()
            await self.serve.start()
            await until_ready(self.serve, asyncio.ensure_future(self._serve_answers()), START_SECONDS)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything, last started first."""
        await self.serve.stop()
        await self.keyd.stop()
        if self.postgres is not None:
            await self.postgres.stop()

    async def until_something_ends(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set.

        Raises:
            Unavailable: when a part ended by itself.
        """
        watched: dict[asyncio.Future[Any], str] = {
            asyncio.ensure_future(stop.wait()): "",
            asyncio.ensure_future(self.keyd.wait()): "keyd",
            asyncio.ensure_future(self.serve.wait()): "serve",
        }
        if self.postgres is not None:
            watched[asyncio.ensure_future(self._postgres_ends(self.postgres))] = "the database"
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in watched:
                task.cancel()
        ended = [watched[task] for task in done if watched[task]]
        if ended:
            raise Unavailable(f"{ended[0]} ended by itself", fix=f"look at the logs in {self.logs} and start again")

    async def mint_operator(self) -> str:
        """The local operator's token: from its file, or a fresh one.

        Raises:
            LimenError: when the database does not answer.
        """
        if self.operator_file.exists():
            return self.operator_file.read_text(encoding="ascii").strip()
        keyd = KeydClient(self.keyd_socket)
        clock = SystemClock()
        async with Database(self._settings().database.source(), CustodyFieldCipher(keyd), pool_size=2) as database:
            identity = IdentityService(database, clock, CustodySessionKeys(keyd))
            token = await TenancyService(database, clock, keyd, identity).mint_operator("local")
        await keyd.close()
        _write_private(self.operator_file, token)
        return token

    def client(self) -> httpx.AsyncClient:
        """An HTTP client that trusts this platform and nothing else."""
        return httpx.AsyncClient(base_url=self.url, verify=ssl.create_default_context(cafile=str(self.ca_file)))

    def _settings(self) -> ServeSettings:
        options = self.options
        socket = self.postgres.socket_directory if self.postgres is not None else None
        return ServeSettings(
            state=self.state,
            keyd_socket=self.keyd_socket,
            database=DatabaseSettings(dsn=options.database_dsn, socket=socket),
            host=options.host,
            port=options.port,
            agent_port=options.agent_port,
            base_domain=options.base_domain,
            names=options.names,
            user=self._serve_user.name if self._serve_user else "",
            migrate=False,
        )

    def _keyd_child(self) -> Child:
        uids = sorted({os.geteuid(), _user(self._serve_user)[0]})
        arguments = ["--directory", str(self.options.data / "keyd"), "--socket", str(self.keyd_socket)]
        for uid in uids:
            arguments += ["--allow-uid", str(uid)]
        arguments += ["--socket-gid", str(_user(self._serve_user)[1])]
        if self._keyd_user is not None:
            arguments += ["--user", self._keyd_user.name]
        return Child("keyd", "limen.processes.keyd", arguments, log=self.logs / "keyd.log", environ=_environment({}))

    def _serve_child(self) -> Child:
        settings = self._settings()
        variables = {
            "LIMEN_STATE": str(settings.state),
            "LIMEN_KEYD_SOCKET": str(settings.keyd_socket),
            "LIMEN_HOST": settings.host,
            "LIMEN_PORT": str(settings.port),
            "LIMEN_AGENT_PORT": str(settings.agent_port),
            "LIMEN_BASE_DOMAIN": settings.base_domain,
            "LIMEN_NAMES": ",".join(settings.names),
            "LIMEN_USER": settings.user,
            "LIMEN_MIGRATE": "false",
        }
        if settings.database.socket is not None:
            variables["LIMEN_DATABASE_SOCKET"] = str(settings.database.socket)
        else:
            variables["LIMEN_DATABASE_DSN"] = settings.database.dsn
        environ = _environment(variables)
        return Child("serve", "limen.processes.serve.main", [], log=self.logs / "serve.log", environ=environ)

    async def _keyd_answers(self) -> None:
        keyd = KeydClient(self.keyd_socket, connections=1)
        try:
            while True:
                try:
                    await keyd.health()
                    return
                except LimenError:
                    await asyncio.sleep(0.05)
        finally:
            await keyd.close()

    async def _publish_authority(self) -> None:
        """Write what others trust, straight from keyd: the authority's certificate and the audit key."""
        keyd = KeydClient(self.keyd_socket, connections=1)
        try:
            self.ca_file.write_bytes((await keyd.authorities()).server_ca_pem)
            audit_key = await keyd.signing_key(SigningPurpose.AUDIT_CHECKPOINT)
            self.audit_key_file.write_text(audit_key.hex() + "\n", encoding="ascii")
        finally:
            await keyd.close()
        for path in (self.ca_file, self.audit_key_file):
            path.chmod(0o644)

    async def _serve_answers(self) -> None:
        async with self.client() as client:
            while True:
                try:
                    if (await client.get("/api/v1/health")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)

    async def _postgres_ends(self, postgres: EmbeddedPostgres) -> None:
        while postgres.pid is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def up(options: UpOptions) -> None:
    """Run the platform in the foreground until SIGINT or SIGTERM.

    Raises:
        LimenError: when a part does not start or ends by itself.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    platform = Platform(options)
    async with AsyncExitStack() as stack:
        await platform.start()
        stack.push_async_callback(platform.stop)
        print(await _greeting(platform), flush=True)
        await platform.until_something_ends(stop)
        print("limen: stopping", flush=True)


async def _greeting(platform: Platform) -> str:
    """What to do next, in words and commands."""
    options = platform.options
    operator = await platform.mint_operator()
    link_file = options.data / "owner-link"
    async with platform.client() as client:
        headers = {"Authorization": f"Bearer {operator}"}
        answer = await client.get("/api/v1/tenants", headers=headers)
        if answer.status_code == 200 and not answer.json()["tenants"]:
            made = await client.post(
                "/api/v1/tenants", headers=headers, json={"slug": options.tenant, "name": options.tenant.title()}
            )
            if made.status_code != 201:
                raise Unavailable(f"the first tenant was not made: {made.json().get('detail', made.status_code)}")
            _write_private(link_file, f"https://{host_of(options)}/setup/{made.json()['setup_token']}")
        link = link_file.read_text(encoding="ascii").strip() if link_file.exists() else ""
        if link:
            # Shown until it is used or void; the page behind it says so without using it up.
            seen = await client.get(link.partition(f":{options.port}")[2], headers={"Host": host_of(options)})
            if seen.status_code != 200:
                link_file.unlink()
                link = ""
    lines = [f"Limen answers at https://{host_of(options)}"]
    lines.append(f"Its authority's certificate, for your browser and tools: {platform.ca_file}")
    if link:
        lines += ["Set up the owner (once, within 24 hours of the first start):", f"  {link}"]
    lines += [
        "Then, in another terminal:",
        f"  limen login --server {platform.url} --ca {platform.ca_file} --tenant {options.tenant}",
        "  limen resource create network wiki --cidr 10.0.0.5/32 --port tcp/443",
        "  limen policy create staff --group everyone --resource wiki --action connect",
    ]
    if os.geteuid() != 0:
        lines.append(
            "Note: not started by root, so database, key custody and control plane share one user, and who takes over"
            " one of them has the others. Start as root to keep them apart."
        )
    lines.append(f"Ctrl-C stops it; the data stays in {options.data}")
    return "\n".join(lines)


def host_of(options: UpOptions) -> str:
    """The first tenant's host label and port."""
    return f"{options.tenant}.{options.base_domain}:{options.port}"


def default_data() -> Path:
    """``/var/lib/limen`` for root, since PostgreSQL runs unprivileged and cannot cross a 0700 home."""
    if os.geteuid() == 0:
        return ROOT_DATA
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(base) / "limen"


def parser() -> argparse.ArgumentParser:
    """The command line of ``limen up``."""
    made = argparse.ArgumentParser(prog="limen up", description="Limen on one machine, to click around in.")
    made.add_argument("--data", type=Path, default=None, help=f"data directory (default: {default_data()})")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    made.add_argument("--port", type=int, default=8443, help="console, API and Vault API (default: 8443)")
    made.add_argument("--agent-port", type=int, default=8444, help="agents (default: 8444)")
    made.add_argument("--base-domain", default="localhost", help="tenants are <slug>.<base domain>")
    made.add_argument("--name", action="append", default=[], help="DNS name or address of this server; repeat")
    made.add_argument("--tenant", default="home", help="slug of the first tenant (default: home)")
    made.add_argument("--database-dsn", default="", help="an external PostgreSQL instead of the embedded one")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    given = parser().parse_args(arguments)
    options = UpOptions(
        data=(given.data or default_data()).resolve(),
        host=given.host,
        port=given.port,
        agent_port=given.agent_port,
        base_domain=given.base_domain,
        names=tuple(given.name) or ("localhost", "127.0.0.1", "::1"),
        tenant=given.tenant,
        database_dsn=given.database_dsn,
    )
    configure_logs("up", level="warning")
    try:
        if options.database_dsn:
            DsnSource(options.database_dsn)
        asyncio.run(up(options))
    except LimenError as exc:
        print(f"limen up: {exc.message}" + (f" ({exc.fix})" if exc.fix else ""), file=sys.stderr)
        return 1
    return 0


def _user(user: SystemUser | None) -> tuple[int, int]:
    return (user.uid, user.gid) if user is not None else (os.geteuid(), os.getegid())


def _environment(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "PYTHONPATH") if name in os.environ}
    return {**kept, **variables}


def _make_directories(data: Path, logs: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
        # Parts of other users are reached through it; what is in it says who may read.
        data.chmod(0o711)
        logs.mkdir(exist_ok=True)
        logs.chmod(0o700)
    except OSError as exc:
        raise Unavailable(
            f"the data directory {data} cannot be used: {exc.strerror}", fix="choose another one with --data"
        ) from exc


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
