"""Opens the storage that a file grant leads to.

Rules:

1. Storage keys arrive sealed to this agent and bound to (tenant, connection, grant); they are opened here, used for
   the session, and never logged.
2. A local folder lies below this agent's own ``local_root``, in a directory of its tenant: what a tenant may write
   into a connection can never name another tenant's folder or a place of the host.
3. An endpoint is a customer's choice. Plain ``http`` and addresses of this host or of private networks are reached
   only when the agent's settings say so (``private_endpoints``), so that a connection cannot be used to talk to the
   agent's own surroundings.
"""

import asyncio
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from limen.edge.sftp.jail import Jail, check_segment
from limen.edge.sftp.ports import Storage
from limen.edge.sftp.storage.errors import Refused, StorageError, Unreachable
from limen.edge.sftp.storage.local import LocalFolder
from limen.edge.sftp.storage.rest import Bucket, Limits, S3Calls, http_client
from limen.edge.sftp.storage.s3 import S3Bucket, object_store
from limen.edge.sftp.storage.sigv4 import Keys
from limen.kernel.errors import LimenError
from limen.wire.agent import BucketTarget, FileGrant

log = structlog.get_logger(__name__)

PARTS_IN_PROCESS: Final = 32
"""Parts under way over all sessions: 8 MiB each, so 256 MiB."""

ORPHAN_AGE: Final = timedelta(days=1)
SWEEP_EVERY: Final = timedelta(hours=1)
MAX_SWEPT: Final = 10_000

OpenSealed = Callable[[UUID, UUID, UUID, bytes], bytes]
"""(tenant, connection, grant, blob) -> plaintext; raises a ``LimenError`` when the blob is not for this agent."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What this agent allows connections to lead to."""

    local_root: Path | None = None
    private_endpoints: bool = False
    ca_pem: bytes = b""
    limits: Limits = field(default_factory=Limits)


class StorageConnector:
    """Opens storages; one for the process."""

    def __init__(self, settings: StorageSettings, open_sealed: OpenSealed) -> None:
        self._settings = settings
        self._open_sealed = open_sealed
        self._slots = asyncio.Semaphore(PARTS_IN_PROCESS)
        self._tls: ssl.SSLContext | None = None
        self._swept: dict[tuple[UUID, str], datetime] = {}
        self._sweeping: set[asyncio.Task[None]] = set()

    async def open(self, tenant_id: UUID, grant: FileGrant) -> tuple[Jail, Storage]:
        """The jail and the storage of ``grant``.

        Raises:
            StorageError: the target is not allowed here, its credential cannot be read, or it does not resolve.
            Malformed: prefix or jail break the rules of names.
        """
        target = grant.target
        jail = Jail(target.prefix, grant.jail)
        if target.provider == "local":
            return jail, await self._local(tenant_id, target, jail)
        if target.provider == "s3":
            return jail, await self._s3(tenant_id, grant, jail)
        raise Refused("this agent does not know the connection's provider")

    async def _local(self, tenant_id: UUID, target: BucketTarget, jail: Jail) -> Storage:
        if self._settings.local_root is None:
            raise Refused("local folders are switched off on this agent")
        names = [check_segment(part) for part in target.root.split("/") if part]
        base = Jail("", "/".join([str(tenant_id), *names])).root
        outer = LocalFolder(self._settings.local_root)
        try:
            await outer.prepare(base)
        finally:
            await outer.close()
        folder = LocalFolder(self._settings.local_root.joinpath(*base.all_segments))
        await folder.prepare(jail.root)
        return folder

    async def _s3(self, tenant_id: UUID, grant: FileGrant, jail: Jail) -> Storage:
        target, limits = grant.target, self._settings.limits
        keys = self._keys(tenant_id, grant)
        bucket = Bucket(target.endpoint, target.bucket, target.region or "us-east-1")
        await self._check_endpoint(bucket.url)
        client = http_client(limits, verify=self._tls_context())
        calls = S3Calls(bucket, keys, client, lambda: datetime.now(UTC), limits)
        store = object_store(bucket, keys, limits, self._settings.ca_pem)
        storage = S3Bucket(calls, store, client, self._slots)
        self._sweep_sometimes(target.connection_id, storage, jail)
        return storage

    def _sweep_sometimes(self, connection_id: UUID, storage: S3Bucket, jail: Jail) -> None:
        """Orphans of an agent that was killed are found by the next session in the same jail, at most hourly."""
        now = datetime.now(UTC)
        place = (connection_id, jail.root.key)
        if place in self._swept and now - self._swept[place] < SWEEP_EVERY:
            return
        if len(self._swept) >= MAX_SWEPT:
            self._swept.clear()
        self._swept[place] = now
        task = asyncio.create_task(_sweep(storage, jail, now - ORPHAN_AGE))
        self._sweeping.add(task)
        task.add_done_callback(self._sweeping.discard)

    def _keys(self, tenant_id: UUID, grant: FileGrant) -> Keys:
        credential = grant.target.credential
        if credential is None:
            raise Refused("the connection has no credential")
        try:
            plain = self._open_sealed(tenant_id, grant.target.connection_id, grant.id, credential.blob)
            document = json.loads(plain)
            return Keys(document["access_key_id"], document["secret_access_key"])
        except LimenError:
            raise Refused("the storage credential is not sealed to this agent") from None
        except (ValueError, KeyError, TypeError):
            raise Refused("the storage credential does not hold an access key") from None

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._settings.ca_pem:
                self._tls.load_verify_locations(cadata=self._settings.ca_pem.decode("ascii"))
        return self._tls

    async def _check_endpoint(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
            raise Refused("the endpoint is not an http(s) URL without a path")
        if self._settings.private_endpoints:
            return
        if parts.scheme == "http":
            raise Refused("the endpoint is not https; this agent allows that with --private-endpoints only")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port or 443, type=socket.SOCK_STREAM
            )
        except OSError:
            raise Unreachable("the endpoint's name does not resolve") from None
        if not all(ipaddress.ip_address(address[4][0]).is_global for address in found):
            raise Refused("the endpoint is in a private network; this agent allows that with --private-endpoints")


async def _sweep(storage: S3Bucket, jail: Jail, before: datetime) -> None:
    try:
        aborted = await storage.sweep(jail.root, before)
    except StorageError as exc:
        log.info("unfinished uploads could not be looked for", diagnosis=exc.diagnosis)
    except RuntimeError:
        pass  # the session ended first and took its HTTP client with it; the next one looks again
    else:
        if aborted:
            log.warning("unfinished uploads of more than a day ago were aborted", count=aborted)
