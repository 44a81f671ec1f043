"""The main of ``limen keyd``.

``run(settings)`` is what the command line and the supervisor of ``limen up`` call; ``main`` parses
arguments for a process of its own (``python -m limen.processes.keyd``), which becomes another user and so
must be its own process.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from limen.kernel.errors import LimenError
from limen.keyd import hardening
from limen.keyd.daemon import KeydSettings, prepare_directories, serve
from limen.keyd.local_backend import rotate_key_file
from limen.processes.identity import become, preload, service_user
from limen.runtime.logs import configure_logs

_log = structlog.get_logger("limen.keyd")


def run(settings: KeydSettings) -> int:
    """Serve until told to stop; returns the exit status (0, or 1 with one line on standard error)."""
    configure_logs("keyd")
    try:
        _take_identity(settings)
        asyncio.run(serve(settings))
    except LimenError as exc:
        return _fail(exc)
    return 0


def _take_identity(settings: KeydSettings) -> None:
    """Make the directories, become ``settings.user``, protect memory. Changes this process for good."""
    user = service_user(settings.user) if settings.user else None
    if user is None:
        prepare_directories(settings, os.geteuid(), os.getegid())
    else:
        preload(("limen.keyd", "structlog"))
        prepare_directories(settings, user.uid, user.gid)
    if not hardening.lock_memory():
        _log.info("memory is not locked: keys could be swapped out", fix="raise the memlock limit of keyd")
    if user is not None:
        become(user)
    hardening.forbid_inspection()


def rotate(settings: KeydSettings) -> int:
    """Put a new current key into the key file; everything is rewrapped when keyd starts next."""
    try:
        rotate_key_file(settings.key_path)
    except LimenError as exc:
        return _fail(exc)
    print(f"New key in {settings.key_path}. Back it up, then restart `limen keyd`.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="limen keyd", description="Key custody of Limen.")
    parser.add_argument("--directory", type=Path, required=True, help="where keystore, key file and call log are")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--key-file", type=Path, default=None, help="key-encryption keys (default: in the directory)")
    parser.add_argument("--allow-uid", type=int, action="append", default=[], help="user id that may connect")
    parser.add_argument("--socket-gid", type=int, default=-1, help="group that may reach the socket")
    parser.add_argument("--user", default="", help="system user to become (when started as root)")
    parser.add_argument("--rotate-key", action="store_true", help="put a new key into the key file and exit")
    options = parser.parse_args(arguments)
    settings = KeydSettings(
        directory=options.directory,
        socket=options.socket,
        key_file=options.key_file,
        allowed_uids=tuple(options.allow_uid),
        socket_gid=options.socket_gid,
        user=options.user,
    )
    return rotate(settings) if options.rotate_key else run(settings)


def _fail(exc: LimenError) -> int:
    print(f"limen keyd: {exc.message}" + (f" ({exc.fix})" if exc.fix else ""), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
