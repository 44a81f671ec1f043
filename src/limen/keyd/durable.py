"""Writing files so that a crash leaves either the old content or the new, never a mixture.

The sequence is: temporary file in the same directory, ``fsync``, ``rename``, ``fsync`` of the directory. A
crash may leave a temporary file behind; its name starts with a dot and ends in ``.tmp``, and :func:`sweep`
removes it.
"""

import contextlib
import os
import secrets
from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_SUFFIX = ".tmp"


def write_atomically(path: Path, content: bytes, *, replace: bool = True, owner: tuple[int, int] | None = None) -> None:
    """Write ``content`` to ``path`` with mode 0600; ``owner`` is (uid, gid) when root writes for another
    user.

    Raises:
        FileExistsError: when ``replace`` is False and there is already a file.
        OSError: when it cannot be written; ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            os.rename(temporary, path)
        else:
            os.link(temporary, path)  # unlike rename, fails when the name is taken
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what interrupted writes left behind. The caller holds the directory's lock."""
    for leftover in directory.glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)
