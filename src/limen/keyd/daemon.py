"""The life of the daemon: open the keystore, serve, stop.

The main makes the directories while it is still root, becomes keyd's own user and protects memory; only
then is the key file read. ``settings`` say where things are:

* ``directory`` (0700, keyd's): ``kek.json`` unless ``key_file`` says otherwise, ``keystore/``, ``calls/``;
* the socket's directory (02750, keyd's, group ``socket_gid``): whoever may enter it may try to connect.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from limen.kernel.clock import SystemClock
from limen.keyd.calllog import CallLog
from limen.keyd.durable import DIRECTORY_MODE
from limen.keyd.errors import CannotStart
from limen.keyd.keystore import Keystore
from limen.keyd.local_backend import LocalFileBackend, create_key_file
from limen.keyd.server import KeydServer
from limen.keyd.service import Custodian

_log = structlog.get_logger("limen.keyd")


@dataclass(frozen=True, slots=True)
class KeydSettings:
    """Settings of ``limen keyd``.

    ``user`` is the system user to become (made if need be, and only when started as root; empty: stay).
    ``allowed_uids`` may connect; empty means keyd's own uid. ``socket_gid`` is the group of the socket, 0
    or negative: keyd's own.
    """

    directory: Path
    socket: Path
    key_file: Path | None = None
    allowed_uids: tuple[int, ...] = ()
    socket_gid: int = -1
    user: str = ""

    @property
    def key_path(self) -> Path:
        """Where the key-encryption keys are."""
        return self.key_file if self.key_file is not None else self.directory / "kek.json"


def prepare_directories(settings: KeydSettings, uid: int, gid: int) -> None:
    """Make the two directories for the user that keyd runs as.

    Raises:
        CannotStart: when that cannot be done.
    """
    group = settings.socket_gid if settings.socket_gid > 0 else gid
    _make_directory(settings.directory, uid, gid, DIRECTORY_MODE)
    _make_directory(settings.socket.parent, uid, group, 0o2750)


async def serve(settings: KeydSettings, *, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; ``started`` is called when the socket answers.

    Raises:
        CannotStart: when keystore, key file or socket cannot be used.
        KeystoreDamaged: when a record of the platform's keys cannot be read.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keystore = Keystore(settings.directory / "keystore")
    try:
        backend = open_backend(settings.key_path, keystore)
        calls = _open_calls(settings.directory / "calls")
        try:
            custodian = await Custodian.open(keystore, backend, calls, SystemClock())
            allowed = frozenset(settings.allowed_uids or (os.geteuid(),))
            server = KeydServer(custodian, settings.socket, allowed)
            await server.start()
            _log.info("key custody answers", socket=str(settings.socket), uid=os.geteuid(), allowed=sorted(allowed))
            started()
            await stop.wait()
            await server.close()
        finally:
            calls.close()
    finally:
        keystore.close()


def open_backend(path: Path, keystore: Keystore) -> LocalFileBackend:
    """The local-file backend; its file is made here, and only for a keystore without any record.

    Raises:
        CannotStart: when the file is missing although the keystore is not empty, or cannot be used.
    """
    if keystore.is_empty() and not os.path.lexists(path):
        create_key_file(path)
        _log.info("key file made: back it up apart from the database", path=str(path))
    return LocalFileBackend.load(path)


def _open_calls(directory: Path) -> CallLog:
    try:
        return CallLog(directory)
    except OSError as exc:
        raise CannotStart(
            f"cannot open the call log in {directory}: {exc.strerror}", fix="the directory must belong to keyd's user"
        ) from exc


def _make_directory(directory: Path, uid: int, gid: int, mode: int) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=DIRECTORY_MODE)
        status = directory.stat()
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(directory, uid, gid)
        directory.chmod(mode)
    except OSError as exc:
        raise CannotStart(
            f"cannot prepare {directory}: {exc.strerror}", fix="give a directory that keyd may make and own"
        ) from exc
