"""S3-compatible buckets as storage.

Directories are common prefixes; ``mkdir`` puts a zero-byte marker ``name/``. Reads are ranged and conditional on the
ETag seen at open, so that a download is one version or an error. Renaming is copy and delete; a directory is renamed
object by object up to :data:`MAX_RENAME_OBJECTS`, all copies first, then all deletions, and the copies are taken back
when one fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import httpx
import obstore
import structlog
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from limen.edge.sftp.jail import JailedPath, is_valid_name
from limen.edge.sftp.ports import Entry, Reader, Upload
from limen.edge.sftp.storage.errors import (
    Changed,
    Exists,
    IsDirectory,
    Missing,
    NotEmpty,
    Refused,
    StorageError,
    TooLarge,
    Unreachable,
)
from limen.edge.sftp.storage.multipart import MultipartUpload
from limen.edge.sftp.storage.readahead import ReadAhead
from limen.edge.sftp.storage.rest import Bucket, Limits, S3Calls, Stored
from limen.edge.sftp.storage.sigv4 import Keys

if TYPE_CHECKING:  # type stubs only, not importable at run time
    from obstore import GetOptions
    from obstore.store import ClientConfig

log = structlog.get_logger(__name__)

MAX_RENAME_OBJECTS: Final = 1000
MAX_COPY_BYTES: Final = 5 << 30
"""CopyObject's own limit."""
_CAPACITY: Final = 1 << 50
"""What ``df`` shows: buckets have no size of their own."""


def object_store(bucket: Bucket, keys: Keys, limits: Limits, ca_pem: bytes = b"") -> S3Store:
    """The obstore client for reading."""
    options: ClientConfig = {
        "allow_http": bucket.url.startswith("http://"),
        "connect_timeout": f"{int(limits.connect * 1000)}ms",
        "read_timeout": f"{int(limits.idle * 1000)}ms",
        "timeout": f"{int(limits.idle * 4000)}ms",
        "user_agent": "limen",
    }
    if ca_pem:
        options["root_certificate"] = ca_pem
    return S3Store(
        bucket.name,
        endpoint=bucket.url,
        region=bucket.region,
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
        virtual_hosted_style_request=False,
        client_options=options,
        retry_config={"max_retries": limits.tries - 1},
    )


class S3Bucket:
    """Storage in one bucket. ``slots`` bounds the parts under way in the whole process."""

    def __init__(
        self,
        calls: S3Calls,
        store: S3Store,
        client: httpx.AsyncClient,
        slots: asyncio.Semaphore,
    ) -> None:
        self._calls = calls
        self._store = store
        self._client = client
        self._slots = slots

    async def stat(self, path: JailedPath) -> Entry:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if path.is_root:
            return Entry("", True)
        with contextlib.suppress(Missing):
            found = await self._calls.head(path.key)
            return Entry(path.name, False, found.size, found.modified)
        below = await self._calls.page(path.listing_prefix, limit=1)
        if not below.objects and not below.prefixes:
            raise Missing
        return Entry(path.name, True, 0, below.objects[0].modified if below.objects else 0)

    async def scan(self, path: JailedPath) -> AsyncIterator[list[Entry]]:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        prefix, token, first = path.listing_prefix, "", True
        while first or token:
            page = await self._calls.page(prefix, token=token)
            if first and not path.is_root and not page.objects and not page.prefixes:
                raise Missing
            first, token = False, page.next_token
            names = [(p[len(prefix) :].rstrip("/"), None) for p in page.prefixes]
            files = [(o.key[len(prefix) :], o) for o in page.objects]
            yield [
                Entry(name, False, o.size, o.modified) if o is not None else Entry(name, True)
                for name, o in [*names, *files]
                if is_valid_name(name)
            ]

    async def open_reader(self, path: JailedPath) -> Reader:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if path.is_root:
            raise IsDirectory("this is a directory")
        try:
            found = await self._calls.head(path.key)
        except Missing:
            await self.stat(path)
            raise IsDirectory("this is a directory") from None
        return _S3Reader(self._store, found)

    async def open_upload(self, path: JailedPath) -> Upload:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        return MultipartUpload(self._calls, path.key, self._slots)

    async def remove(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if (await self.stat(path)).is_directory:
            raise IsDirectory("this is a directory")
        await self._calls.delete(path.key)

    async def make_directory(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        try:
            await self.stat(path)
        except Missing:
            await self._calls.put(path.listing_prefix, b"")
            return
        raise Exists

    async def remove_directory(self, path: JailedPath) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if path.is_root:
            raise IsDirectory("this is your root directory")
        marker = path.listing_prefix
        page = await self._calls.page(marker, limit=2)
        if not page.objects and not page.prefixes:
            await self._calls.head(path.key)
            raise IsDirectory("this is not a directory")
        if page.prefixes or any(o.key != marker for o in page.objects):
            raise NotEmpty
        await self._calls.delete(marker)

    async def rename(self, old: JailedPath, new: JailedPath, *, overwrite: bool) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        if old.is_root or new.is_root:
            raise IsDirectory("your root directory cannot be renamed")
        source = await self.stat(old)
        if old == new:
            return
        try:
            target = await self.stat(new)
        except Missing:
            target = None
        if target is not None and (not overwrite or target.is_directory or source.is_directory):
            raise Exists
        if source.is_directory:
            await self._rename_directory(old, new)
            return
        if source.size > MAX_COPY_BYTES:
            raise TooLarge("renaming a file of more than 5 GiB is not possible in this storage")
        await self._calls.copy(old.key, new.key)
        await self._calls.delete(old.key)

    async def capacity(self) -> tuple[int, int]:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        return _CAPACITY, _CAPACITY

    async def close(self) -> None:
        """See :class:`limen.edge.sftp.ports.Storage`."""
        await self._client.aclose()

    async def sweep(self, path: JailedPath, before: datetime) -> int:
        """Abort unfinished uploads below ``path`` that began before ``before``; return how many."""
        aborted = 0
        for pending in await self._calls.pending_uploads(path.listing_prefix):
            if pending.initiated < before:
                with contextlib.suppress(Missing):
                    await self._calls.abort_upload(pending.key, pending.upload_id)
                aborted += 1
        return aborted

    async def _rename_directory(self, old: JailedPath, new: JailedPath) -> None:
        if old.contains(new):
            raise IsDirectory("a directory cannot be moved into itself")
        objects = await self._everything_below(old)
        copied: list[str] = []
        try:
            for one in objects:
                target = new.listing_prefix + one.key[len(old.listing_prefix) :]
                if target.endswith("/"):
                    await self._calls.put(target, b"")  # a marker; not every store can copy one
                else:
                    await self._calls.copy(one.key, target)
                copied.append(target)
        except BaseException:
            # Also when the session is cut: half a directory under a new name must not stay.
            await asyncio.shield(self._take_back(copied))
            raise
        for one in objects:
            await self._calls.delete(one.key)

    async def _everything_below(self, path: JailedPath) -> list[Stored]:
        objects: list[Stored] = []
        token, first = "", True
        while first or token:
            page = await self._calls.page(path.listing_prefix, token=token, delimiter="")
            first, token = False, page.next_token
            objects += page.objects
            if len(objects) > MAX_RENAME_OBJECTS:
                raise TooLarge(f"a directory of more than {MAX_RENAME_OBJECTS} files cannot be renamed here")
        if any(one.size > MAX_COPY_BYTES for one in objects):
            raise TooLarge("the directory holds a file of more than 5 GiB, which cannot be renamed here")
        return objects

    async def _take_back(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self._calls.delete(key)
            except StorageError as exc:
                log.error("a copy of an abandoned directory rename could not be removed", diagnosis=exc.diagnosis)


class _S3Reader:
    def __init__(self, store: S3Store, found: Stored) -> None:
        self._store = store
        self._found = found
        self.size = found.size
        self.mtime = found.modified
        self._ahead = ReadAhead(found.size, self._fetch)

    async def read(self, offset: int, length: int) -> bytes:
        return await self._ahead.read(offset, length)

    async def close(self) -> None:
        await self._ahead.close()

    async def _fetch(self, offset: int, length: int) -> memoryview:
        options: GetOptions = {"range": (offset, offset + length)}
        if self._found.etag:
            options["if_match"] = self._found.etag
        try:
            result = await obstore.get_async(self._store, self._found.key, options=options)
            data = memoryview(await result.bytes_async())
        except (FileNotFoundError, PreconditionError):
            raise Changed from None
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise Refused(f"get: {type(exc).__name__}") from None
        except (BaseError, OSError, ValueError) as exc:
            raise Unreachable(f"get: {type(exc).__name__}") from None
        if len(data) != length:
            raise Changed
        return data
