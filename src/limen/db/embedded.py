"""The embedded PostgreSQL: the system's own binaries under our launcher, reachable over a private Unix socket
only.

Rules:

* Never as root: the server runs as a dedicated system user when root starts it, otherwise as the caller.
* The data directory pins its major version; the binaries of exactly that version are used, or the start
  fails.
* No TCP. Peer authentication: ``pg_ident.conf`` says which system user may be which PostgreSQL role, and is
  written anew at each start.
* The server ends with its parent, however that ends (``PR_SET_PDEATHSIG`` is SIGINT: a fast, clean shutdown),
  and is out of reach of the terminal's Ctrl-C, so that the parent decides when it stops.
* What a crash left behind (``postmaster.pid``, a server that is still going down) is waited for or cleared,
  never a reason to fail; a server that is alive and well in the same directory is.

The launcher belongs to the thread that calls :meth:`EmbeddedPostgres.start`: the kernel sends the death
signal when that *thread* ends. Call it from the main thread.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from limen.db.errors import ProviderFailed, translated
from limen.db.installation import Installation, find_installation, pinned_version
from limen.db.postmaster import clear_lock, is_ready, processes_in
from limen.db.roles import ALL_ROLES, RUNTIME_ROLES, create_database, create_roles
from limen.db.source import SocketSource
from limen.runtime.users import SystemUser, current_user, find_or_create_user

SUPERUSER = "limen_super"
SYSTEM_USER = "limen-db"

_SOCKET_NAME = ".s.PGSQL.5432"
_SUN_PATH_MAX = 107  # bytes in sockaddr_un.sun_path, without the final NUL
_PR_SET_PDEATHSIG = 1
_PREDECESSOR_WAIT = 15.0  # seconds for a server that lost its parent to finish its shutdown
_libc = ctypes.CDLL(None, use_errno=True)
_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """One server in one directory. ``start`` it, use ``conninfo``, ``stop`` it.

    ``directory`` must be reachable (search permission on every parent) by the system user; ``data/``,
    ``run/`` and ``server.log`` are made inside. ``clients`` are the system users that may connect as the
    runtime roles, and ``socket_gid`` a group they share; without it only the server's user and root reach the
    socket. The caller of ``start`` may connect as every role. ``durable=False`` trades crash safety for
    speed: tests only.
    """

    def __init__(
        self,
        directory: Path,
        *,
        system_user: str = SYSTEM_USER,
        clients: Sequence[str] = (),
        socket_gid: int | None = None,
        durable: bool = True,
        database: str = "limen",
        start_timeout: float = 60.0,
    ) -> None:
        self.directory = directory.resolve()
        self.socket_directory = self.directory / "run"
        self.data_directory = self.directory / "data"
        self.log_file = self.directory / "server.log"
        self.source = SocketSource(self.socket_directory, database)
        self._system_user = system_user
        self._clients = tuple(clients)
        self._socket_gid = socket_gid
        self._durable = durable
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def conninfo(self, role: str) -> str:
        """The libpq connection string for sessions of ``role``."""
        return self.source.conninfo(role)

    def superuser_conninfo(self, database: str = "postgres") -> str:
        """The connection string of the cluster's superuser, for the user that started the server."""
        return make_conninfo(host=str(self.socket_directory), dbname=database, user=SUPERUSER)

    async def start(self) -> None:
        """Install if needed, start, wait until ready, and make roles and database.

        Raises:
            ProviderFailed: no binaries of the right version, a directory that cannot be used, another server
            in it,
                or a server that does not come up; the message says what to do.
        """
        if self._process is not None and not await self._is_dying(self._process):
            return
        self._check_socket_path()
        owner = self._owner()
        installation = find_installation(pinned_version(self.data_directory))
        self._make_directories(owner)
        if not (self.data_directory / "PG_VERSION").exists():
            await asyncio.to_thread(self._initialise, installation, owner)
        self._write_access_rules(owner)
        await self._await_predecessor()
        self._process = self._spawn(installation, owner)
        try:
            await self._await_ready()
            await self._bootstrap()
        except BaseException:
            await self.stop()
            raise
        _log.info("database started", version=installation.major, pid=self._process.pid)

    async def stop(self, timeout: float = 30.0) -> None:
        """Shut down cleanly; after ``timeout`` seconds immediately (the next start then recovers)."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        for number, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            process.send_signal(number)
            if await _ended(process, seconds):
                return

    async def _is_dying(self, process: "subprocess.Popen[bytes]") -> bool:
        """Whether our server is dead, or was killed so lately that only its connections have broken as yet."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_directory / _SOCKET_NAME))
            except OSError:
                return await _ended(process, 5.0)
        return process.poll() is not None

    def _owner(self) -> SystemUser:
        """Who the server runs as: a dedicated user when we are root, else the caller."""
        if os.geteuid() != 0:
            return current_user()
        return find_or_create_user(self._system_user)

    def _check_socket_path(self) -> None:
        length = len(os.fsencode(self.socket_directory / _SOCKET_NAME))
        if length > _SUN_PATH_MAX:
            raise ProviderFailed(
                f"the data directory's path is {length - _SUN_PATH_MAX} bytes too long for a Unix socket",
                fix="choose a shorter data directory (--data)",
            )

    def _make_directories(self, owner: SystemUser) -> None:
        try:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            for path in (self.data_directory, self.socket_directory):
                path.mkdir(mode=0o700, exist_ok=True)
            os.chown(self.data_directory, owner.uid, owner.gid)
            group = owner.gid if self._socket_gid is None else self._socket_gid
            os.chown(self.socket_directory, owner.uid, group)
            self.socket_directory.chmod(0o700 if self._socket_gid is None else 0o750)
        except OSError as exc:
            raise ProviderFailed(
                f"the database directory {self.directory} cannot be used: {exc.strerror}",
                fix="choose another data directory (--data) or correct its permissions",
            ) from exc
        self._check_reachable(owner)

    def _check_reachable(self, owner: SystemUser) -> None:
        """A directory that the server's user cannot enter would only show as an obscure initdb failure."""
        if os.geteuid() != 0:
            return
        probe = subprocess.run(
            ["/usr/bin/test", "-x", str(self.data_directory)],
            user=owner.uid,
            group=owner.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        if probe.returncode != 0:
            raise ProviderFailed(
                f"the user {owner.name} cannot enter {self.data_directory}",
                fix="choose a data directory outside of home directories, for instance /var/lib/limen",
            )

    def _initialise(self, installation: Installation, owner: SystemUser) -> None:
        """Run initdb beside the data directory and put the result in place, so that half a result never counts."""
        if any(self.data_directory.iterdir()):
            raise ProviderFailed(
                f"{self.data_directory} holds files that are not a database",
                fix="empty the directory or choose another one (--data)",
            )
        fresh = self.data_directory.with_name("data.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        os.chown(fresh, owner.uid, owner.gid)
        command = [str(installation.program("initdb")), "--pgdata", str(fresh), "--username", SUPERUSER]
        command += ["--auth", "peer", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"]
        if not self._durable:
            command.append("--no-sync")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **_identity(owner))
        if done.returncode != 0:
            raise ProviderFailed(
                f"the database cannot be created in {self.data_directory}: {_last_line(done.stderr)}",
                fix="see that the disk has space and that the directory can be written to",
            )
        fresh.replace(self.data_directory)

    def _write_access_rules(self, owner: SystemUser) -> None:
        caller = current_user()
        lines = [f'limen "{caller.name}" "{role}"' for role in (SUPERUSER, *ALL_ROLES)]
        for client in self._clients:
            if client != caller.name:
                lines += [f'limen "{client}" "{role}"' for role in RUNTIME_ROLES]
        for name, text in (
            ("pg_hba.conf", "local all all peer map=limen\n"),
            ("pg_ident.conf", "\n".join(lines) + "\n"),
        ):
            path = self.data_directory / name
            # Written beside and renamed, so that no start ever reads half a file.
            fresh = path.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o600)
            os.chown(fresh, owner.uid, owner.gid)
            fresh.replace(path)

    async def _await_predecessor(self) -> None:
        """Wait for the processes of an earlier server that are going down; clear what it left behind."""
        deadline = monotonic() + _PREDECESSOR_WAIT
        while running := processes_in(self.data_directory):
            if monotonic() > deadline:
                raise ProviderFailed(
                    f"another database server (process {running[0]}) already uses {self.data_directory}",
                    fix="stop the other Limen first, or choose another data directory (--data)",
                )
            await asyncio.sleep(0.05)
        clear_lock(self.data_directory)

    def _spawn(self, installation: Installation, owner: SystemUser) -> "subprocess.Popen[bytes]":
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0777",  # the directory is the fence
            "log_timezone": "UTC",
            "timezone": "UTC",
            "wal_level": "replica",
            "max_connections": "100",
            "jit": "off",
            "password_encryption": "scram-sha-256",
            "log_statement": "none",
            "log_checkpoints": "off",
            "log_error_verbosity": "terse",  # DETAIL repeats the values of the failing row
            "log_parameter_max_length_on_error": "0",  # parameters may be personal data
            "log_min_error_statement": "panic",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            settings |= {"autovacuum": "off", "shared_buffers": "32MB"}
        command = [str(installation.program("postgres")), "-D", str(self.data_directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        descriptor = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(  # a new session: Ctrl-C at the terminal is the parent's to handle
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no locks taken
                **_identity(owner),
            )
        finally:
            os.close(descriptor)

    async def _await_ready(self) -> None:
        process = self._process
        deadline = monotonic() + self._start_timeout
        while process is not None:
            if process.poll() is not None:
                raise ProviderFailed(
                    f"the database server does not start: {self._log_tail()}",
                    fix=f"see {self.log_file}",
                )
            if is_ready(self.data_directory, process.pid):
                return
            if monotonic() > deadline:
                raise ProviderFailed(
                    f"the database server is not ready after {self._start_timeout:.0f} seconds",
                    fix=f"see {self.log_file}",
                )
            await asyncio.sleep(0.01)

    def _log_tail(self) -> str:
        try:
            return _last_line(self.log_file.read_text(errors="replace"))
        except OSError:
            return "it left no message"

    async def _bootstrap(self) -> None:
        with translated():
            async with await psycopg.AsyncConnection.connect(
                self.superuser_conninfo(), autocommit=True, connect_timeout=10
            ) as connection:
                await create_roles(connection, login=True)
                await create_database(connection, self.source.database)


def _identity(owner: SystemUser) -> dict[str, Any]:
    """Arguments for subprocess that drop root; the working directory must be one that the user can enter."""
    common: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}}
    if os.geteuid() == 0:
        common |= {"user": owner.uid, "group": owner.gid, "extra_groups": []}
    return common


async def _ended(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    deadline = monotonic() + seconds
    while process.poll() is None:
        if monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it left no message"
