"""``ports.SessionKeys`` on leases of key custody: one call to keyd per tenant and lease, fail closed."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from limen.control.identity.ports import SessionKey
from limen.kernel.errors import NotFound
from limen.wire.keyd import DataKey, Purpose

_RENEW_BEFORE = 60.0  # seconds
_MAX_ABSENT = 4096


class KeyLender(Protocol):
    """The part of ``custody.service.KeydClient`` that is used here."""

    async def lease_data_key(self, tenant_id: UUID, purpose: Purpose) -> DataKey:
        """Lend the data keys of a purpose."""
        ...


@dataclass(frozen=True, slots=True)
class _Lease:
    current: bytes
    keys: dict[bytes, bytes] = field(repr=False)
    ends_at: float


class CustodySessionKeys:
    """Leases each tenant's session keys from keyd. ``monotonic`` is in seconds."""

    def __init__(self, keyd: KeyLender, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keyd = keyd
        self._monotonic = monotonic
        self._held: dict[UUID, _Lease] = {}
        self._absent: dict[UUID, float] = {}
        self._locks: dict[UUID, asyncio.Lock] = {}

    async def current(self, tenant_id: UUID) -> SessionKey:
        """The key that new tokens are signed with.

        Raises:
            Unavailable: when keyd does not answer and the last lease has run out.
            NotFound: when the tenant has no keys.
        """
        lease = await self._lease(tenant_id)
        return SessionKey(lease.current, lease.keys[lease.current])

    async def by_id(self, tenant_id: UUID, key_id: bytes) -> SessionKey | None:
        """The key a token was signed with; ``None`` for a tenant or key that does not exist.

        Raises:
            Unavailable: when keyd does not answer and the last lease has run out.
        """
        # Anyone can write a token that names any tenant: an unknown one is asked about once a minute at most.
        if self._absent.get(tenant_id, 0.0) > self._monotonic():
            return None
        try:
            lease = await self._lease(tenant_id)
        except NotFound:
            if len(self._absent) >= _MAX_ABSENT:
                self._absent.clear()
            self._absent[tenant_id] = self._monotonic() + 60.0
            return None
        key = lease.keys.get(key_id)
        return SessionKey(key_id, key) if key is not None else None

    def forget(self, tenant_id: UUID | None = None) -> None:
        """Drop the lease of one tenant, or all."""
        if tenant_id is None:
            self._held.clear()
        else:
            self._held.pop(tenant_id, None)

    async def _lease(self, tenant_id: UUID) -> _Lease:
        held = self._held.get(tenant_id)
        if held is not None and held.ends_at - self._monotonic() > _RENEW_BEFORE:
            return held
        lock = self._locks.setdefault(tenant_id, asyncio.Lock())
        try:
            async with lock:
                return await self._renewed(tenant_id)
        finally:
            if not lock.locked():
                self._locks.pop(tenant_id, None)

    async def _renewed(self, tenant_id: UUID) -> _Lease:
        held = self._held.get(tenant_id)
        if held is not None and held.ends_at - self._monotonic() > _RENEW_BEFORE:
            return held
        asked_at = self._monotonic()  # a slow answer shortens the lease
        try:
            answer = await self._keyd.lease_data_key(tenant_id, Purpose.SESSIONS)
        except NotFound:
            self._held.pop(tenant_id, None)
            raise
        except Exception:
            if held is not None and held.ends_at > self._monotonic():
                return held
            raise
        keys = {answer.key_id: answer.key, **{old.key_id: old.key for old in answer.former}}
        lease = self._held[tenant_id] = _Lease(answer.key_id, keys, asked_at + answer.lease_seconds)
        return lease
