"""One upload to S3: nothing is visible before it is complete, nothing is left when it is not.

Rules:

1. Up to one part's size is kept in memory; a file that fits is stored with a single put at :meth:`complete`.
2. Beyond that a multipart upload is begun. At most :data:`PARTS_UNDER_WAY` parts of it are under way, and ``slots``
   bounds them over the whole process; a client that is faster waits.
3. Beginning and completing run to their end even when the caller is cancelled, because their outcome decides what
   :meth:`abort` has to do. Parts under way get :data:`GRACE_SECONDS` to land: a part that lands after the abort
   would bring the upload back to life in some stores.
4. After any failure the upload is spoilt, and :meth:`abort` is what remains.
"""

import asyncio
from typing import Final

import structlog

from limen.edge.sftp.storage.errors import Missing, StorageError, TooLarge
from limen.edge.sftp.storage.rest import S3Calls

log = structlog.get_logger(__name__)

PART_BYTES: Final = 8 << 20
LARGE_PART_BYTES: Final = 64 << 20
SMALL_PARTS: Final = 5000
MAX_PARTS: Final = 10_000
PARTS_UNDER_WAY: Final = 2
MAX_PIECES: Final = 2048
"""Pieces of the part being filled; tiny writes are joined so that they cost no more than their bytes."""
GRACE_SECONDS: Final = 5.0
_ABORT_TRIES: Final = 3


class MultipartUpload:
    """An object in the making under ``key``."""

    def __init__(self, calls: S3Calls, key: str, slots: asyncio.Semaphore) -> None:
        self._calls = calls
        self._key = key
        self._slots = slots
        self._pieces: list[memoryview] = []
        self._buffered = 0
        self._creating: asyncio.Task[str] | None = None
        self._completing: asyncio.Task[None] | None = None
        self._parts: list[asyncio.Task[str]] = []
        self._aborted = False

    async def write(self, data: bytes | memoryview) -> None:
        """See :class:`limen.edge.sftp.ports.Upload`."""
        rest = memoryview(data)
        while rest:
            self._check_alive()
            room = self._part_size() - self._buffered
            piece, rest = rest[:room], rest[room:]
            self._pieces.append(piece)
            self._buffered += len(piece)
            if len(self._pieces) >= MAX_PIECES:
                self._pieces = [memoryview(b"".join(self._pieces))]
            if self._buffered == self._part_size():
                await self._send_part()

    async def complete(self) -> None:
        """See :class:`limen.edge.sftp.ports.Upload`."""
        self._check_alive()
        if self._completing is None:
            self._completing = asyncio.create_task(self._finish())
        await asyncio.shield(self._completing)

    async def abort(self) -> bool:
        """See :class:`limen.edge.sftp.ports.Upload`."""
        if self._completing is not None:
            await asyncio.wait([self._completing])
            if not self._completing.cancelled() and self._completing.exception() is None:
                return False
        if not self._aborted:
            self._aborted = True
            self._pieces.clear()
            await asyncio.shield(asyncio.create_task(self._clean_up()))
        return True

    def _part_size(self) -> int:
        return PART_BYTES if len(self._parts) < SMALL_PARTS else LARGE_PART_BYTES

    def _take(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        return body

    async def _send_part(self) -> None:
        if len(self._parts) >= MAX_PARTS:
            raise TooLarge("the file is larger than this storage takes")
        if self._creating is None:
            self._creating = asyncio.create_task(self._calls.create_upload(self._key))
        upload_id = await asyncio.shield(self._creating)
        self._check_alive()
        while len(under_way := [part for part in self._parts if not part.done()]) >= PARTS_UNDER_WAY:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for part in self._parts[-PARTS_UNDER_WAY - 1 :]:
            if part.done():
                part.result()
        self._check_alive()
        number, body = len(self._parts) + 1, self._take()
        self._parts.append(asyncio.create_task(self._put_part(upload_id, number, body)))

    def _check_alive(self) -> None:
        """An upload may be aborted while a write of it waits; that write must not begin it anew."""
        if self._aborted:
            raise StorageError("the upload was dropped")

    async def _put_part(self, upload_id: str, number: int, body: bytes) -> str:
        async with self._slots:
            return await self._calls.put_part(self._key, upload_id, number, body)

    async def _finish(self) -> None:
        if self._creating is None:
            await self._calls.put(self._key, self._take())
            return
        upload_id = await self._creating
        if self._pieces:
            number, body = len(self._parts) + 1, self._take()
            self._parts.append(asyncio.create_task(self._put_part(upload_id, number, body)))
        etags = [await part for part in self._parts]
        await self._calls.complete_upload(self._key, upload_id, etags)

    async def _clean_up(self) -> None:
        if self._creating is None:
            return
        await asyncio.wait([self._creating])
        if self._creating.cancelled() or self._creating.exception() is not None:
            return
        if under_way := [part for part in self._parts if not part.done()]:
            _, late = await asyncio.wait(under_way, timeout=GRACE_SECONDS)
            for part in late:
                part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        failure = ""
        for attempt in range(_ABORT_TRIES):
            await asyncio.sleep(0.5 * attempt)
            try:
                await self._calls.abort_upload(self._key, self._creating.result())
            except Missing:
                return
            except StorageError as exc:
                failure = exc.diagnosis
            else:
                return
        log.error("an unfinished upload could not be aborted; a later sweep will", diagnosis=failure)
