"""Becoming another system user in the middle of a process's life.

A process that root started gives root up before it serves. Its code may lie where only root can read (a clone
below ``/root``), so everything it may need later is imported first; templates and other data files are read by
their owners at import or composition time for the same reason.
"""

import importlib
import os
import pkgutil
import warnings
from collections.abc import Iterable

from limen.kernel.errors import Unavailable
from limen.runtime.users import SystemUser, find_or_create_user

SERVE_USER = "limen"
KEYD_USER = "limen-keyd"

# Modules of the standard library that are first imported when something is first used.
_STANDARD = ("encodings.idna", "encodings.punycode", "stringprep", "concurrent.futures.thread", "zoneinfo", "_strptime")


def service_user(name: str) -> SystemUser | None:
    """The dedicated user to run as: made if root asks, None when we are not root and stay who we are."""
    return find_or_create_user(name) if os.geteuid() == 0 else None


def preload(packages: Iterable[str]) -> None:
    """Import whole packages, so that no import is left for later. Optional parts that are not installed are skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about modules that nobody asked for by name
        for name in (*_STANDARD, *packages):
            _import_whole(name)


def _import_whole(name: str) -> None:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}.", onerror=lambda _name: None):
        if module.name.rpartition(".")[2] in ("__main__", "testclient", "pytest_plugin", "mypy"):
            continue
        try:
            importlib.import_module(module.name)
        except Exception:  # noqa: S112
            continue  # an integration with a library that this installation does not have


def become(user: SystemUser) -> None:
    """Give up root for good and become ``user``.

    Raises:
        Unavailable: when the kernel refuses, or root could be had back.
    """
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as exc:
        raise Unavailable(f"cannot become the user {user.name}: {exc.strerror}", fix="start as root") from exc
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise Unavailable(f"could not become the user {user.name}", fix="start as root")
