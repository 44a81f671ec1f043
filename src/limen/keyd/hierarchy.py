"""Tenant keys and data keys: KEK -> tenant key -> one chain of data keys per purpose, and the intake key
pair.

All keys of a tenant stand in one record, so a tenant has either all of them or none, whatever crashes. In a
chain the last key seals and every key opens. The tenant key only wraps; it seals no values.
"""

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog

from limen.crypto import sealing
from limen.crypto.aead import AeadKey, KeySlot, new_key, new_key_id
from limen.crypto.errors import Unreadable
from limen.kernel.errors import NotFound
from limen.keyd.errors import KeystoreDamaged
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.keyd.rootkeys import RootKey, RootKeys
from limen.wire.keyd import Purpose

_TENANT_PURPOSE = "tenant"
_INTAKE_PURPOSE = "intake"
_log = structlog.get_logger("limen.keyd")


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key wrapped under the tenant key, bound to (tenant, purpose, ``key_id``, tenant key id)."""

    key_id: bytes
    wrapped: bytes
    created_at: float


class TenantRecord(Record, frozen=True, kw_only=True):
    """All keys of one tenant. Chains run from the oldest key to the current one."""

    tenant_id: UUID
    root: RootKey
    chains: dict[Purpose, tuple[StoredKey, ...]]
    intake: StoredKey
    intake_public: bytes


@dataclass(frozen=True, slots=True, repr=False)
class DataKeyPair:
    """One data key: its material, for leases, and ready for use."""

    material: bytes
    ready: AeadKey


class TenantKeys:
    """The unwrapped keys of one tenant, in memory."""

    def __init__(
        self, record: TenantRecord, root: AeadKey, chains: dict[Purpose, tuple[DataKeyPair, ...]], intake: bytes
    ) -> None:
        self.record = record
        self.root = root
        self.chains = chains
        self.intake_private = intake

    def current(self, purpose: Purpose) -> AeadKey:
        """The key that seals."""
        return self.chains[purpose][-1].ready

    def by_id(self, purpose: Purpose, key_id: bytes) -> AeadKey:
        """The key that sealed.

        Raises:
            Unreadable: when this tenant has no such key for this purpose.
        """
        for pair in self.chains[purpose]:
            if pair.ready.key_id == key_id:
                return pair.ready
        raise Unreadable


class Hierarchy:
    """Makes, reads and keeps the keys of all tenants."""

    def __init__(self, keystore: Keystore, roots: RootKeys) -> None:
        self._keystore = keystore
        self._roots = roots
        self._open: dict[UUID, TenantKeys] = {}
        self._lock = asyncio.Lock()

    async def create(self, tenant_id: UUID) -> None:
        """Make all keys of a tenant; does nothing when it has them."""
        async with self._lock:
            if self._read(tenant_id) is not None:
                return
            material = new_key()
            root = await self._roots.wrap(tenant_id, _TENANT_PURPOSE, material)
            parent = AeadKey(root.key_id, material)
            intake_private, intake_public = sealing.generate_keypair()
            record = TenantRecord(
                tenant_id=tenant_id,
                root=root,
                chains={purpose: (_wrap(parent, tenant_id, purpose, new_key()),) for purpose in Purpose},
                intake=_wrap(parent, tenant_id, _INTAKE_PURPOSE, intake_private),
                intake_public=intake_public,
            )
            self._write(record)

    async def of(self, tenant_id: UUID) -> TenantKeys:
        """The keys of a tenant.

        Raises:
            NotFound: when it has none.
            KeystoreDamaged: when its record cannot be read or opened.
        """
        keys = self._open.get(tenant_id)
        if keys is not None:
            return keys
        async with self._lock:
            return await self._load(tenant_id)

    async def rotate(self, tenant_id: UUID, purpose: Purpose) -> None:
        """Append a fresh key to a chain; it seals from now on."""
        async with self._lock:
            keys = await self._load(tenant_id)
            chain = (*keys.record.chains[purpose], _wrap(keys.root, tenant_id, purpose, new_key()))
            self._write(msgspec.structs.replace(keys.record, chains={**keys.record.chains, purpose: chain}))
            del self._open[tenant_id]

    async def refresh(self) -> None:
        """Bring every tenant key under the backend's current key; what is there already is left alone.

        A damaged record is that tenant's trouble and must not stop the others: it is logged, and refused
        when used.
        """
        async with self._lock:
            for name in self._keystore.names(Shelf.TENANTS):
                try:
                    await self._refresh(name)
                except (KeystoreDamaged, Unreadable) as exc:
                    _log.error("the keys of a tenant cannot be read", record=f"tenants/{name}", fix=exc.fix)

    async def _refresh(self, name: str) -> None:
        record = self._keystore.read(Shelf.TENANTS, name, TenantRecord)
        if record is None:
            return
        root = await self._roots.refresh(record.tenant_id, _TENANT_PURPOSE, record.root)
        if root is not record.root:
            self._write(msgspec.structs.replace(record, root=root))

    async def _load(self, tenant_id: UUID) -> TenantKeys:
        keys = self._open.get(tenant_id)
        if keys is not None:
            return keys
        record = self._read(tenant_id)
        if record is None:
            raise NotFound("this tenant has no keys", fix="create the tenant first")
        try:
            material = await self._roots.unwrap(tenant_id, _TENANT_PURPOSE, record.root)
            root = AeadKey(record.root.key_id, material)
            chains = {
                purpose: tuple(_pair(root, tenant_id, purpose, stored) for stored in chain)
                for purpose, chain in record.chains.items()
            }
            intake = _unwrap(root, tenant_id, _INTAKE_PURPOSE, record.intake)
        except Unreadable:
            raise KeystoreDamaged(f"tenants/{tenant_id}") from None
        keys = self._open[tenant_id] = TenantKeys(record, root, chains, intake)
        return keys

    def _read(self, tenant_id: UUID) -> TenantRecord | None:
        record = self._keystore.read(Shelf.TENANTS, str(tenant_id), TenantRecord)
        if record is None:
            return None
        complete = all(record.chains.get(purpose) for purpose in Purpose)
        if record.tenant_id != tenant_id or not complete:
            raise KeystoreDamaged(f"tenants/{tenant_id}")
        return record

    def _write(self, record: TenantRecord) -> None:
        self._keystore.write(Shelf.TENANTS, str(record.tenant_id), record)


def _wrap(parent: AeadKey, tenant_id: UUID, purpose: str, material: bytes) -> StoredKey:
    key_id = new_key_id()
    return StoredKey(key_id, parent.seal(KeySlot(tenant_id, purpose, key_id), material), time.time())


def _unwrap(parent: AeadKey, tenant_id: UUID, purpose: str, stored: StoredKey) -> bytes:
    return parent.open(KeySlot(tenant_id, purpose, stored.key_id), stored.wrapped)


def _pair(parent: AeadKey, tenant_id: UUID, purpose: Purpose, stored: StoredKey) -> DataKeyPair:
    material = _unwrap(parent, tenant_id, purpose, stored)
    return DataKeyPair(material, AeadKey(stored.key_id, material))
