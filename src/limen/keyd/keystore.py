"""The keystore: a directory of small JSON files, one record each, written atomically.

Layout::

    keystore/                       0700
        .lock                       held (flock) by the one keyd that uses it
        platform/<name>.json        authorities, signing keys, the check record
        tenants/<tenant id>.json    a tenant's wrapped keys
        agents/<agent id>.json      enrolment records

Everything secret in a record is wrapped; the files are 0600 all the same. keyd uses no SQL: the keystore
must outlive and be backed up apart from the application database, or a restored database would undo a
destruction of keys.
"""

import fcntl
import os
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from limen.kernel.errors import Unavailable
from limen.keyd.durable import DIRECTORY_MODE, sweep, write_atomically
from limen.keyd.errors import CannotStart, KeystoreDamaged

FORMAT = 1


class Shelf(StrEnum):
    """The sub-directories."""

    PLATFORM = "platform"
    TENANTS = "tenants"
    AGENTS = "agents"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record; ``format`` is checked when read."""

    format: int = FORMAT


T = TypeVar("T", bound=Record)


class Keystore:
    """One opened keystore directory; nobody else can open it meanwhile."""

    def __init__(self, directory: Path) -> None:
        """Make or open the directory and lock it.

        Raises:
            CannotStart: when it cannot be used safely.
        """
        self._directory = directory
        try:
            for path in (directory, *(directory / shelf for shelf in Shelf)):
                path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            if directory.stat().st_mode & 0o077:
                raise CannotStart(f"keystore {directory} is open to other users", fix=f"run `chmod 700 {directory}`")
            self._lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise CannotStart(
                f"cannot use keystore {directory}: {exc.strerror}",
                fix="give a directory that belongs to the user of keyd",
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise CannotStart(
                f"keystore {directory} is in use", fix="another keyd runs on it; stop that one first"
            ) from None
        for shelf in Shelf:
            sweep(directory / shelf)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def is_empty(self) -> bool:
        """Whether there is no record at all."""
        return not any(self.names(shelf) for shelf in Shelf)

    def names(self, shelf: Shelf) -> list[str]:
        """The names on a shelf, sorted."""
        return sorted(path.stem for path in (self._directory / shelf).glob("*.json"))

    def read(self, shelf: Shelf, name: str, kind: type[T]) -> T | None:
        """One record, or None when there is none.

        Raises:
            KeystoreDamaged: when it is there and cannot be read.
        """
        try:
            content = self._path(shelf, name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise KeystoreDamaged(f"{shelf}/{name}") from None
        try:
            record = msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError:
            raise KeystoreDamaged(f"{shelf}/{name}") from None
        if record.format != FORMAT:
            raise KeystoreDamaged(f"{shelf}/{name}")
        return record

    def write(self, shelf: Shelf, name: str, record: Record) -> None:
        """Write one record; when this returns it survives a power failure.

        Raises:
            Unavailable: when it cannot be written; the record is then as it was.
        """
        try:
            write_atomically(self._path(shelf, name), msgspec.json.encode(record))
        except OSError as exc:
            raise Unavailable(
                f"the keystore cannot be written: {exc.strerror}", fix="free space on the disk of the keystore"
            ) from exc

    def _path(self, shelf: Shelf, name: str) -> Path:
        return self._directory / shelf / f"{name}.json"
