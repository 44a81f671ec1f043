"""What each SFTP request means for one session: rights, jail, storage, records. No SSH and no sockets here.

Rules:

1. A request is answered from inside the jail and within the grant's actions: READ to open for reading, WRITE to put,
   make directories and rename, LIST to list, DELETE to remove. ``stat`` needs no action of its own.
2. An object store cannot append, edit in place or truncate: that is "operation unsupported", and nothing changes.
3. An upload becomes an object at CLOSE only. :meth:`FileSession.abort` drops every upload that was not closed.
4. Each put, get, list, rename, mkdir, rmdir and remove is recorded once, with its outcome; a transfer when it ends,
   with its bytes. When records cannot be kept, nothing new is begun.
5. Requests are handled one after the other: the order of writes is the client's.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from limen.edge.sftp import protocol as sftp
from limen.edge.sftp.jail import BadName, Jail, JailedPath
from limen.edge.sftp.names import DIRECTORY_MODE, FILE_MODE, attributes_of, name_of
from limen.edge.sftp.ports import Entry, Reader, Storage, Upload
from limen.edge.sftp.protocol import Attributes, OpenFlag, Status
from limen.edge.sftp.reassembly import NotSequential, Reassembly
from limen.edge.sftp.storage.errors import Exists, IsDirectory, Missing, StorageError
from limen.kernel.access import Action
from limen.kernel.errors import Conflict, Denied, LimenError, Unavailable

log = structlog.get_logger(__name__)

MAX_UPLOADS: Final = 8
MAX_READERS: Final = 16
NAMES_PER_REPLY: Final = 100


class Unsupported(LimenError):
    """Not possible in an object store."""


class Journal(Protocol):
    """Where a session's deeds are counted and recorded."""

    def writable(self) -> bool:
        """Whether new operations can be recorded."""
        ...

    def record(self, action: str, outcome: str, path: str, size: int, detail: str) -> None:
        """One deed; ``detail`` is a short tag without personal data."""
        ...

    def moved(self, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Payload, just now."""
        ...


@dataclass(slots=True)
class _ReadHandle:
    path: JailedPath
    reader: Reader
    sent: int = 0


@dataclass(slots=True)
class _UploadHandle:
    path: JailedPath
    upload: Upload
    order: Reassembly
    received: int = 0
    failure: str = ""


@dataclass(slots=True)
class _ListHandle:
    path: JailedPath
    pages: AsyncIterator[list[Entry]]
    names: list[Entry] = field(default_factory=list)
    ended: bool = False


_Handle = _ReadHandle | _UploadHandle | _ListHandle


class FileSession:
    """One SFTP channel's files."""

    def __init__(self, jail: Jail, actions: frozenset[Action], storage: Storage, journal: Journal) -> None:
        self._jail = jail
        self._actions = actions
        self._storage = storage
        self._journal = journal
        self._handles: dict[bytes, _Handle] = {}
        self._numbers = itertools.count(1)
        self._shut = False
        self._tidying = asyncio.Lock()

    async def handle(self, request: sftp.Request) -> bytes:
        """Answer one request; never raises for what a client or a store can cause."""
        if isinstance(request, sftp.Init):
            return sftp.version_reply()
        if self._shut:
            return sftp.status_reply(request.id, Status.FAILURE, "the session has ended")
        try:
            return await self._dispatch(request)
        except LimenError as exc:
            return sftp.status_reply(request.id, _status_of(exc), exc.message)
        except Exception:
            log.exception("an SFTP request failed inside")
            return sftp.status_reply(request.id, Status.FAILURE, "internal error")

    def shut(self) -> None:
        """From now on nothing more is begun; :meth:`abort` follows."""
        self._shut = True

    async def abort(self, reason: str) -> None:
        """The session is over: drop unfinished uploads, stop reads, record both with ``reason``."""
        self._shut = True
        async with self._tidying:
            await self._drop_handles(reason)

    async def close(self) -> None:
        """After :meth:`abort`: let go of the storage."""
        async with self._tidying:
            await self._storage.close()

    async def _drop_handles(self, reason: str) -> None:
        handles, self._handles = list(self._handles.values()), {}
        for handle in handles:
            match handle:
                case _UploadHandle():
                    stored = not await handle.upload.abort()
                    outcome, detail = ("ok", "") if stored else ("failed", reason)
                    self._record("files.object.put", outcome, handle.path.shown, handle.received, detail)
                case _ReadHandle():
                    self._record("files.object.get", "failed", handle.path.shown, handle.sent, reason)
                    await handle.reader.close()
                case _ListHandle():
                    await _close_pages(handle.pages)

    async def _dispatch(self, request: sftp.Request) -> bytes:
        match request:
            case sftp.Read():
                return await self._read(request)
            case sftp.Write():
                return await self._write(request)
            case sftp.Open():
                return await self._open(request)
            case sftp.Close():
                return await self._close(request)
            case sftp.OpenDir():
                return await self._open_directory(request)
            case sftp.ReadDir():
                return await self._read_directory(request)
            case sftp.Stat() | sftp.FStat() | sftp.RealPath() | sftp.Limits() | sftp.StatVfs():
                return await self._look(request)
            case sftp.Unknown() | sftp.Init():
                raise Unsupported("this request is not supported here")
            case _:
                await self._change(request)
                return sftp.status_reply(request.id, Status.OK)

    async def _look(self, request: sftp.Stat | sftp.FStat | sftp.RealPath | sftp.Limits | sftp.StatVfs) -> bytes:
        match request:
            case sftp.Stat():
                entry = await self._storage.stat(self._enter(request.path, "files.path.stat"))
                return sftp.attributes_reply(request.id, attributes_of(entry))
            case sftp.FStat():
                return sftp.attributes_reply(request.id, self._handle_attributes(request.handle))
            case sftp.RealPath():
                path = self._enter(request.path, "files.path.resolve").shown.encode()
                return sftp.name_reply(request.id, [sftp.Name(path, path, Attributes())])
            case sftp.Limits():
                return sftp.limits_reply(request.id)
            case sftp.StatVfs():
                if request.path is not None:
                    self._enter(request.path, "files.path.stat")
                return sftp.statvfs_reply(request.id, *await self._storage.capacity())

    async def _change(self, request: sftp.Request) -> None:
        match request:
            case sftp.Remove():
                path = self._begin("files.object.remove", request.path, Action.DELETE)
                await self._recorded("files.object.remove", path.shown, self._storage.remove(path))
            case sftp.MkDir():
                path = self._begin("files.directory.make", request.path, Action.WRITE)
                work = self._storage.make_directory(path)
                await self._recorded("files.directory.make", path.shown, work)
            case sftp.RmDir():
                path = self._begin("files.directory.remove", request.path, Action.DELETE)
                work = self._storage.remove_directory(path)
                await self._recorded("files.directory.remove", path.shown, work)
            case sftp.Rename():
                old = self._begin("files.object.rename", request.old, Action.WRITE)
                new = self._begin("files.object.rename", request.new, Action.WRITE)
                work = self._storage.rename(old, new, overwrite=request.overwrite)
                await self._recorded("files.object.rename", f"{old.shown} -> {new.shown}", work)
            case sftp.SetStat():
                await self._set_attributes(request)
            case sftp.FSetStat():
                size = request.attributes.size
                if size is not None and size != self._handle_attributes(request.handle).size:
                    raise Unsupported("changing the size of a file is not possible here")
            case sftp.FSync():
                self._handle_attributes(request.handle)
            case _:
                raise Unsupported("this request is not supported here")

    async def _set_attributes(self, request: sftp.SetStat) -> None:
        """Times and modes mean nothing to an object: accepted and ignored, as clients expect after a put."""
        entry = await self._storage.stat(self._enter(request.path, "files.path.stat"))
        if request.attributes.size is not None and request.attributes.size != entry.size:
            raise Unsupported("changing the size of a file is not possible here")

    # --- transfers --------------------------------------------------------------------------------------------

    async def _open(self, request: sftp.Open) -> bytes:
        if request.flags & OpenFlag.WRITE or request.flags & OpenFlag.APPEND:
            return await self._open_upload(request)
        if not request.flags & OpenFlag.READ:
            raise Unsupported("open for reading or for writing")
        path = self._begin("files.object.get", request.path, Action.READ)
        self._room(_ReadHandle, MAX_READERS)
        try:
            reader = await self._storage.open_reader(path)
        except LimenError as exc:
            self._failed("files.object.get", path.shown, 0, exc)
            raise
        return self._add(request.id, _ReadHandle(path, reader))

    async def _open_upload(self, request: sftp.Open) -> bytes:
        path = self._begin("files.object.put", request.path, Action.WRITE)
        self._room(_UploadHandle, MAX_UPLOADS)
        try:
            upload = await self._start_upload(path, request.flags)
        except LimenError as exc:
            self._failed("files.object.put", path.shown, 0, exc)
            raise
        order = Reassembly(append=bool(request.flags & OpenFlag.APPEND))
        return self._add(request.id, _UploadHandle(path, upload, order))

    async def _start_upload(self, path: JailedPath, flags: int) -> Upload:
        try:
            there = await self._storage.stat(path)
        except Missing:
            if not flags & OpenFlag.CREAT:
                raise
            return await self._storage.open_upload(path)
        if there.is_directory:
            raise IsDirectory("this is a directory")
        if flags & OpenFlag.EXCL:
            raise Exists
        if not flags & OpenFlag.TRUNC and there.size:
            raise Unsupported("appending to a file or changing a part of it is not possible here")
        return await self._storage.open_upload(path)

    async def _read(self, request: sftp.Read) -> bytes:
        handle = self._handles.get(request.handle)
        if not isinstance(handle, _ReadHandle):
            raise Conflict("this handle is not open for reading")
        try:
            data = await handle.reader.read(request.offset, min(request.length, sftp.MAX_DATA_BYTES))
        except StorageError as exc:
            self._note(exc)
            raise
        if not data:
            return sftp.status_reply(request.id, Status.EOF, "end of file")
        handle.sent += len(data)
        self._journal.moved(bytes_out=len(data))
        return sftp.data_reply(request.id, data)

    async def _write(self, request: sftp.Write) -> bytes:
        handle = self._handles.get(request.handle)
        if not isinstance(handle, _UploadHandle):
            raise Conflict("this handle is not open for writing")
        if handle.failure:
            raise Conflict("the upload has failed before")
        self._journal.moved(bytes_in=len(request.data))
        handle.received += len(request.data)
        try:
            for piece in handle.order.write(request.offset, request.data):
                await handle.upload.write(piece)
        except LimenError as exc:
            handle.failure = _tag_of(exc)
            self._note(exc)
            await handle.upload.abort()
            raise
        return sftp.status_reply(request.id, Status.OK)

    async def _close(self, request: sftp.Close) -> bytes:
        handle = self._handles.get(request.handle)
        match handle:
            case None:
                raise Conflict("no such handle")
            case _UploadHandle():
                # The handle stays in the table until its fate is known: a cut in between finds it there.
                await self._finish_upload(handle)
                del self._handles[request.handle]
            case _ReadHandle():
                del self._handles[request.handle]
                self._record("files.object.get", "ok", handle.path.shown, handle.sent, "")
                await handle.reader.close()
            case _ListHandle():
                del self._handles[request.handle]
                await _close_pages(handle.pages)
        return sftp.status_reply(request.id, Status.OK)

    async def _finish_upload(self, handle: _UploadHandle) -> None:
        shown = handle.path.shown
        try:
            if handle.failure:
                raise Conflict("the upload has failed before; nothing was stored")
            handle.order.finish()
            await handle.upload.complete()
        except LimenError as exc:
            handle.failure = handle.failure or _tag_of(exc)
            await handle.upload.abort()
            self._forget(handle)
            self._note(exc)
            self._record("files.object.put", "failed", shown, handle.received, handle.failure)
            raise
        self._record("files.object.put", "ok", shown, handle.received, "")

    # --- listing ------------------------------------------------------------------------------------------------

    async def _open_directory(self, request: sftp.OpenDir) -> bytes:
        path = self._begin("files.directory.list", request.path, Action.LIST)
        self._room(_ListHandle, MAX_READERS)
        handle = _ListHandle(path, self._storage.scan(path))
        try:
            await _more_names(handle)  # so that a missing directory is an error now, not an empty list later
        except LimenError as exc:
            self._failed("files.directory.list", path.shown, 0, exc)
            raise
        self._record("files.directory.list", "ok", path.shown, 0, "")
        return self._add(request.id, handle)

    async def _read_directory(self, request: sftp.ReadDir) -> bytes:
        handle = self._handles.get(request.handle)
        if not isinstance(handle, _ListHandle):
            raise Conflict("this handle is not a directory's")
        while not handle.names and not handle.ended:
            try:
                await _more_names(handle)
            except StorageError as exc:
                self._note(exc)
                raise
        if not handle.names:
            return sftp.status_reply(request.id, Status.EOF, "end of directory")
        now = time.time()
        names, handle.names = handle.names[:NAMES_PER_REPLY], handle.names[NAMES_PER_REPLY:]
        return sftp.name_reply(request.id, [name_of(entry, now) for entry in names])

    # --- inside ---------------------------------------------------------------------------------------------------

    def _enter(self, raw: bytes, action: str) -> JailedPath:
        try:
            return self._jail.enter(raw)
        except LimenError as exc:
            shown = raw[:512].decode("utf-8", "backslashreplace")
            self._record(action, "denied", shown, 0, _tag_of(exc))
            raise

    def _begin(self, action: str, raw: bytes, needs: Action) -> JailedPath:
        if not self._journal.writable():
            raise Unavailable("this cannot be recorded at the moment; try again later")
        path = self._enter(raw, action)
        if needs not in self._actions:
            self._record(action, "denied", path.shown, 0, f"needs-{needs}")
            raise Denied(f"your access does not include '{needs}'")
        return path

    async def _recorded(self, action: str, shown: str, work: Awaitable[None]) -> None:
        try:
            await work
        except LimenError as exc:
            self._failed(action, shown, 0, exc)
            raise
        except BaseException:
            # Cut in the middle: whether the store did it is not known.
            self._record(action, "failed", shown, 0, "interrupted")
            raise
        self._record(action, "ok", shown, 0, "")

    def _record(self, action: str, outcome: str, shown: str, size: int, detail: str) -> None:
        self._journal.record(action, outcome, shown, size, detail)

    def _failed(self, action: str, shown: str, size: int, exc: LimenError) -> None:
        self._note(exc)
        self._record(action, "failed", shown, size, _tag_of(exc))

    def _note(self, exc: LimenError) -> None:
        if isinstance(exc, StorageError) and exc.diagnosis:
            log.warning("a storage request failed", diagnosis=exc.diagnosis)

    def _room(self, kind: type[_Handle], limit: int) -> None:
        if sum(isinstance(handle, kind) for handle in self._handles.values()) >= limit:
            raise Conflict("too many open handles")

    def _add(self, number: int, handle: _Handle) -> bytes:
        name = next(self._numbers).to_bytes(8, "big")
        self._handles[name] = handle
        return sftp.handle_reply(number, name)

    def _forget(self, handle: _Handle) -> None:
        self._handles = {name: other for name, other in self._handles.items() if other is not handle}

    def _handle_attributes(self, name: bytes) -> Attributes:
        match self._handles.get(name):
            case _ReadHandle() as reading:
                return Attributes(reading.reader.size, FILE_MODE, reading.reader.mtime)
            case _UploadHandle() as upload:
                return Attributes(upload.order.size, FILE_MODE, int(time.time()))
            case _ListHandle():
                return Attributes(0, DIRECTORY_MODE, 0)
        raise Conflict("no such handle")


def _status_of(exc: LimenError) -> Status:
    match exc:
        case Missing():
            return Status.NO_SUCH_FILE
        case Denied():
            return Status.PERMISSION_DENIED
        case Unsupported() | NotSequential():
            return Status.OP_UNSUPPORTED
    return Status.FAILURE


def _tag_of(exc: LimenError) -> str:
    match exc:
        case StorageError():
            return f"{exc.tag}: {exc.diagnosis}" if exc.diagnosis else exc.tag
        case Unsupported() | NotSequential():
            return "unsupported"
        case BadName():
            return "bad-name"
        case Denied():
            return "outside-jail"
    return exc.code


async def _more_names(handle: _ListHandle) -> None:
    page = await anext(handle.pages, None)
    if page is None:
        handle.ended = True
    else:
        handle.names += page


async def _close_pages(pages: AsyncIterator[list[Entry]]) -> None:
    if isinstance(pages, AsyncGenerator):
        await pages.aclose()
