"""A folder of this host as storage, for trying out and for small installations.

Rules:

1. Every step down opens one name relative to an open directory with ``O_NOFOLLOW``: a symbolic link anywhere below
   the root is as good as missing, so nothing outside of the root can be reached, whoever swaps what meanwhile.
2. Only regular files and directories exist; devices, sockets and pipes are as good as missing.
3. An upload is an unnamed file (``O_TMPFILE``) until it is complete; it gets its name in one step. When the process
   dies, the kernel removes it.

Blocking calls run in threads.
"""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from limen.edge.sftp.jail import JailedPath, is_valid_name
from limen.edge.sftp.ports import Entry, Reader, Upload
from limen.edge.sftp.storage.errors import (
    Exists,
    IsDirectory,
    Missing,
    NotEmpty,
    Refused,
    StorageError,
    Unreachable,
)
from limen.edge.sftp.storage.readahead import ReadAhead

T = TypeVar("T")

PAGE: Final = 500
_CHUNK: Final = 1 << 20
_PIECES: Final = 1024
_TEMPORARY: Final = ".limen-replace-"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _translate(exc: OSError) -> StorageError:
    match exc.errno:
        case errno.ENOENT | errno.ELOOP | errno.ENOTDIR | errno.ENXIO:
            return Missing()
        case errno.EEXIST:
            return Exists()
        case errno.ENOTEMPTY:
            return NotEmpty()
        case errno.EISDIR:
            return IsDirectory("this is a directory")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Refused(f"local folder: {os.strerror(exc.errno)}")
        case errno.ENOSPC | errno.EDQUOT:
            return StorageError("the storage behind this folder is full", diagnosis="local folder: disk full")
        case errno.EOPNOTSUPP:
            return StorageError(diagnosis="local folder: its file system has no unnamed files (O_TMPFILE)")
    return Unreachable(f"local folder: {os.strerror(exc.errno or 0)}")


async def _blocking(call: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(call)
    except OSError as exc:
        raise _translate(exc) from exc


class LocalFolder:
    """Storage in the directory ``root``, which must exist."""

    def __init__(self, root: Path) -> None:
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise Refused(f"local folder: the root cannot be opened ({exc.strerror})") from exc

    async def prepare(self, base: JailedPath) -> None:
        """Make the directories down to the jail; the jail's root exists by definition."""

        def work() -> None:
            current = os.dup(self._root)
            try:
                for name in base.all_segments:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o750, dir_fd=current)
                    below = os.open(name, _DIRECTORY, dir_fd=current)
                    os.close(current)
                    current = below
            finally:
                os.close(current)

        await _blocking(work)

    async def stat(self, path: JailedPath) -> Entry:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        return await _blocking(lambda: self._stat(path))

    async def scan(self, path: JailedPath) -> AsyncIterator[list[Entry]]:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        directory = await _blocking(lambda: self._open_directory(path.all_segments))
        try:
            listing = await _blocking(lambda: os.scandir(directory))
            with listing:
                while page := await _blocking(lambda: _page(listing)):
                    yield [entry for entry in page if entry is not None]
        finally:
            os.close(directory)

    async def open_reader(self, path: JailedPath) -> Reader:
        """See :class:`limen.edge.sftp.ports.Storage`."""

        def work() -> _LocalReader:
            if path.is_root:
                raise IsDirectory("this is a directory")
            with self._parent(path) as parent:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                file = os.open(path.name, flags, dir_fd=parent)
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                os.close(file)
                raise IsDirectory("this is a directory") if stat.S_ISDIR(info.st_mode) else Missing()
            return _LocalReader(file, info.st_size, int(info.st_mtime))

        return await _blocking(work)

    async def open_upload(self, path: JailedPath) -> Upload:
        """See :class:`limen.edge.sftp.ports.Storage`."""

        def work() -> _LocalUpload:
            with self._parent(path) as parent:
                directory = os.dup(parent)
            try:
                file = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o640, dir_fd=directory)
            except OSError:
                os.close(directory)
                raise
            return _LocalUpload(directory, file, path.name)

        return await _blocking(work)

    async def remove(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""

        def work() -> None:
            if self._stat(path).is_directory:
                raise IsDirectory("this is a directory")
            with self._parent(path) as parent:
                os.unlink(path.name, dir_fd=parent)

        await _blocking(work)

    async def make_directory(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""

        def work() -> None:
            if path.is_root:
                raise Exists
            with self._parent(path) as parent:
                os.mkdir(path.name, 0o750, dir_fd=parent)

        await _blocking(work)

    async def remove_directory(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""

        def work() -> None:
            with self._parent(path) as parent:
                os.rmdir(path.name, dir_fd=parent)

        await _blocking(work)

    async def rename(self, old: JailedPath, new: JailedPath, *, overwrite: bool) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        await _blocking(lambda: self._rename(old, new, overwrite))

    async def capacity(self) -> tuple[int, int]:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        info = await _blocking(lambda: os.fstatvfs(self._root))
        return info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize

    async def close(self) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open_directory(self, segments: tuple[str, ...]) -> int:
        current = os.dup(self._root)
        try:
            for name in segments:
                below = os.open(name, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = below
        except OSError:
            os.close(current)
            raise
        return current

    @contextmanager
    def _parent(self, path: JailedPath) -> Iterator[int]:
        if path.is_root:
            raise IsDirectory("this is your root directory")
        directory = self._open_directory(path.all_segments[:-1])
        try:
            yield directory
        finally:
            os.close(directory)

    def _stat(self, path: JailedPath) -> Entry:
        if path.is_root:
            directory = self._open_directory(path.all_segments)
            try:
                return Entry("", True, 0, int(os.fstat(directory).st_mtime))
            finally:
                os.close(directory)
        with self._parent(path) as parent:
            info = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        entry = _entry(path.name, info)
        if entry is None:
            raise Missing
        return entry

    def _rename(self, old: JailedPath, new: JailedPath, overwrite: bool) -> None:
        is_directory = self._stat(old).is_directory
        with self._parent(old) as source, self._parent(new) as target:
            if overwrite:
                os.rename(old.name, new.name, src_dir_fd=source, dst_dir_fd=target)
            elif is_directory:
                # mkdir fails when the name is taken; a directory may replace an empty one in one step.
                os.mkdir(new.name, 0o750, dir_fd=target)
                try:
                    os.rename(old.name, new.name, src_dir_fd=source, dst_dir_fd=target)
                except OSError:
                    os.rmdir(new.name, dir_fd=target)
                    raise
            else:
                os.link(old.name, new.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                os.unlink(old.name, dir_fd=source)


def _entry(name: str, info: os.stat_result) -> Entry | None:
    if stat.S_ISDIR(info.st_mode):
        return Entry(name, True, 0, int(info.st_mtime))
    if stat.S_ISREG(info.st_mode):
        return Entry(name, False, info.st_size, int(info.st_mtime))
    return None


def _page(listing: "Iterator[os.DirEntry[str]]") -> list[Entry | None]:
    page: list[Entry | None] = []
    for found in listing:
        entry = None
        if is_valid_name(found.name) and not found.name.startswith(_TEMPORARY):
            try:
                entry = _entry(found.name, found.stat(follow_symlinks=False))
            except FileNotFoundError:
                entry = None  # gone since it was listed
        page.append(entry)
        if len(page) == PAGE:
            break
    return page


class _LocalReader:
    def __init__(self, file: int, size: int, mtime: int) -> None:
        self._file = file
        self.size = size
        self.mtime = mtime
        self._ahead = ReadAhead(size, self._fetch, chunk=_CHUNK)

    async def read(self, offset: int, length: int) -> bytes:
        return await self._ahead.read(offset, length)

    async def close(self) -> None:
        await self._ahead.close()
        if self._file >= 0:
            file, self._file = self._file, -1
            # A read that was cancelled may still be running in its thread: this queues behind it.
            await asyncio.to_thread(os.close, file)

    async def _fetch(self, offset: int, length: int) -> memoryview:
        file = self._file
        return memoryview(await _blocking(lambda: os.pread(file, length, offset)))


class _LocalUpload:
    def __init__(self, directory: int, file: int, name: str) -> None:
        self._directory = directory
        self._file = file
        self._name = name
        self._buffer: list[bytes | memoryview] = []
        self._buffered = 0
        self._completed = False
        self._busy = asyncio.Lock()

    async def write(self, data: bytes | memoryview) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _CHUNK or len(self._buffer) >= _PIECES:
            await self._locked(self._flush)

    async def complete(self) -> None:
        await self._locked(self._name_it)

    async def abort(self) -> bool:
        await self._locked(self._close)
        return not self._completed

    async def _locked(self, call: Callable[[], None]) -> None:
        async with self._busy:
            # A thread cannot be cancelled; whoever is cancelled here still waits for it, so that abort() never
            # closes a file under a write.
            work = asyncio.ensure_future(_blocking(call))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                work.exception()
                raise

    def _flush(self) -> None:
        if self._file < 0:
            raise OSError(errno.EBADF, "aborted")
        for piece in self._buffer:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        self._buffer.clear()
        self._buffered = 0

    def _name_it(self) -> None:
        self._flush()
        os.fsync(self._file)
        unnamed = f"/proc/self/fd/{self._file}"
        try:
            os.link(unnamed, self._name, dst_dir_fd=self._directory, follow_symlinks=True)
        except FileExistsError:
            taken = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
            if not stat.S_ISREG(taken.st_mode):
                raise IsDirectory("the name is taken by a directory") from None
            temporary = _TEMPORARY + secrets.token_hex(8)
            os.link(unnamed, temporary, dst_dir_fd=self._directory, follow_symlinks=True)
            os.replace(temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._completed = True
        os.fsync(self._directory)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            os.close(self._directory)
            self._file = -1
        self._buffer.clear()
