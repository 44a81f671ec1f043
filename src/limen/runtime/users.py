"""Dedicated system users, so that the processes of Limen run apart from each other.

A user made here is a system account without a home, a password or a shell. Making one needs root; finding one
does not. Nothing here changes the identity of the calling process.
"""

import os
import pwd
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from limen.kernel.errors import Malformed, NotFound, Unavailable

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PASSWD_LOCKED = 10  # useradd(8): "can't update password file"; another process holds its lock
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class SystemUser:
    """One entry of the user database; ``gid`` is the primary group."""

    name: str
    uid: int
    gid: int


def current_user() -> SystemUser:
    """The user that this process runs as.

    Raises:
        NotFound: the uid has no entry in the user database (a bare container uid, for instance).
    """
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise NotFound(
            f"user id {os.geteuid()} has no name on this system",
            fix="add it to /etc/passwd or run Limen as a named user",
        ) from None
    return SystemUser(entry.pw_name, entry.pw_uid, os.getegid())


def find_user(name: str) -> SystemUser | None:
    """The system user of that name, if there is one."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def find_or_create_user(name: str) -> SystemUser:
    """The dedicated system user ``name`` with a group of the same name, made if it does not exist.

    Raises:
        Malformed: not a portable user name.
        Unavailable: it does not exist and cannot be made (not root, or no ``useradd``).
    """
    if _NAME.fullmatch(name) is None:
        raise Malformed(f"{name!r} is not a user name", fix="use lower-case letters, digits and hyphens")
    found = find_user(name)
    if found is not None:
        return found
    program = _useradd()
    command = [program, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", _no_login(), "--comment", "Limen service", name]
    for attempt in range(_ATTEMPTS):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        # Somebody else may have made it meanwhile, so the user database has the last word.
        found = find_user(name)
        if found is not None:
            return found
        if done.returncode not in (1, _PASSWD_LOCKED):
            break
        time.sleep(0.1 * (attempt + 1))
    raise Unavailable(
        f"the system user {name} cannot be made: {done.stderr.strip() or done.returncode}",
        fix=f"make it yourself: useradd --system --user-group --shell /usr/sbin/nologin {name}",
    )


def _useradd() -> str:
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if os.geteuid() != 0 or program is None:
        raise Unavailable(
            "a dedicated system user has to be made, which needs root and the program useradd",
            fix="run as root on a system with useradd (Debian package passwd), or run as an ordinary user",
        )
    return program


def _no_login() -> str:
    paths = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
    return next((path for path in paths if Path(path).exists()), "/bin/false")
