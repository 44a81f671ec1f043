"""Asking keyd: one method per request (:class:`KeydClient`), and the leases held on its answers.

:class:`CustodyFieldCipher` is the ``FieldCipher`` that the process's main injects into the database: it
leases a tenant's ``fields`` and ``lookup`` keys, renews them in good time, and fails closed.
:class:`SessionKeys` does the same for the key of session tokens.
"""

import asyncio
import time
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from limen.control.custody.channel import KeydChannel
from limen.control.custody.model import Lease, LeasedCipher, Monotonic, all_keys
from limen.crypto.errors import BadKey, Unreadable
from limen.kernel.errors import Conflict, Denied, LimenError, Malformed, NotFound, Unavailable
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose, SigningPurpose

RENEW_BEFORE_SECONDS = 90.0
"""A lease with less than this left is renewed when next asked for; so long may keyd be down unnoticed."""

CONNECTIONS = 4
TIMEOUT_SECONDS = 5.0

_ERRORS: dict[str, type[LimenError]] = {
    kind.code: kind for kind in (NotFound, Denied, Conflict, Malformed, Unavailable, BadKey)
}

R = TypeVar("R")


def boot_time() -> float:
    """Seconds since boot, sleep included: a lease must not last longer because the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KeydClient:
    """Calls to keyd. Every method may raise ``Unavailable``, and the kernel error that keyd answered with."""

    def __init__(
        self,
        socket_path: str | Path,
        *,
        connections: int = CONNECTIONS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._channel = KeydChannel(Path(socket_path), connections=connections, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._channel.close()

    async def health(self) -> None:
        """Return when keyd and its key backend are usable; raise ``Unavailable`` otherwise."""
        await self._ask(wire.Health(), wire.Done)

    async def create_tenant(self, tenant_id: UUID) -> None:
        """Make the tenant's keys; does nothing when they exist."""
        await self._ask(wire.CreateTenant(tenant_id=tenant_id), wire.Done)

    async def lease_data_key(self, tenant_id: UUID, purpose: Purpose) -> wire.DataKey:
        """The data keys of a leasable purpose. ``Denied`` for ``vault`` and ``storage``."""
        return await self._ask(wire.LeaseDataKey(tenant_id=tenant_id, purpose=purpose), wire.DataKey)

    async def rotate_data_key(self, tenant_id: UUID, purpose: Purpose) -> None:
        """A new current key for ``fields``, ``vault`` or ``storage``; the former ones still open."""
        await self._ask(wire.RotateDataKey(tenant_id=tenant_id, purpose=purpose), wire.Done)

    async def seal_value(
        self,
        tenant_id: UUID,
        purpose: Purpose,
        *,
        table: str,
        column: str,
        row_id: UUID,
        revision: int,
        plaintext: bytes,
    ) -> bytes:
        """Seal inside keyd, under a data key of this value's own (``crypto.envelope``)."""
        request = wire.SealValue(
            tenant_id=tenant_id,
            purpose=purpose,
            table=table,
            column=column,
            row_id=row_id,
            revision=revision,
            plaintext=plaintext,
        )
        return (await self._ask(request, wire.Blob)).blob

    async def open_value(
        self,
        tenant_id: UUID,
        purpose: Purpose,
        *,
        table: str,
        column: str,
        row_id: UUID,
        revision: int,
        blob: bytes,
    ) -> bytes:
        """Open what :meth:`seal_value` sealed for the same place; ``Unreadable`` otherwise."""
        request = wire.OpenValue(
            tenant_id=tenant_id,
            purpose=purpose,
            table=table,
            column=column,
            row_id=row_id,
            revision=revision,
            blob=blob,
        )
        return (await self._ask(request, wire.Plaintext)).plaintext

    async def intake_key(self, tenant_id: UUID) -> bytes:
        """The raw X25519 public key to which a tool seals ``context("intake", tenant, connection)``."""
        return (await self._ask(wire.IntakeKey(tenant_id=tenant_id), wire.PublicKey)).key

    async def accept_storage_credential(self, tenant_id: UUID, connection_id: UUID, sealed: bytes) -> bytes:
        """Turn a credential sealed to the intake key into the blob to store with the connection."""
        request = wire.AcceptStorageCredential(tenant_id=tenant_id, connection_id=connection_id, sealed=sealed)
        return (await self._ask(request, wire.Blob)).blob

    async def reseal_storage_credential(
        self, tenant_id: UUID, connection_id: UUID, grant_id: UUID, agent_id: UUID, blob: bytes
    ) -> bytes:
        """Re-seal a stored credential to an enrolled file agent under ``context("storage", tenant,
        connection, grant)``. ``Denied`` for an agent that keyd does not know as a file agent of this tenant
        or the platform."""
        request = wire.ResealStorageCredential(
            tenant_id=tenant_id, connection_id=connection_id, grant_id=grant_id, agent_id=agent_id, blob=blob
        )
        return (await self._ask(request, wire.Blob)).blob

    async def enrol_agent(
        self, agent_id: UUID, tenant_id: UUID | None, kind: str, identity_key: bytes, sealing_key: bytes
    ) -> wire.Certificate:
        """Record an agent and issue its certificate. ``Conflict`` when the id has another key on record."""
        request = wire.EnrolAgent(
            agent_id=agent_id,
            tenant_id=tenant_id,
            kind=kind,
            identity_key=identity_key,
            sealing_key=sealing_key,
        )
        return await self._ask(request, wire.Certificate)

    async def renew_agent(self, agent_id: UUID) -> wire.Certificate:
        """A new certificate for the key on record. ``NotFound`` for an unknown or removed agent."""
        return await self._ask(wire.RenewAgent(agent_id=agent_id), wire.Certificate)

    async def remove_agent(self, agent_id: UUID) -> None:
        """No more certificates and no more re-sealing for this agent; its id is not used again."""
        await self._ask(wire.RemoveAgent(agent_id=agent_id), wire.Done)

    async def issue_server_certificate(self, names: tuple[str, ...], identity_key: bytes) -> wire.Certificate:
        """A certificate for the control plane's own key (DER SubjectPublicKeyInfo); names are DNS names,
        ``*.`` wildcards or IP addresses."""
        request = wire.IssueServerCertificate(names=tuple(names), identity_key=identity_key)
        return await self._ask(request, wire.Certificate)

    async def authorities(self) -> wire.Authorities:
        """The public roots of servers and agents."""
        return await self._ask(wire.AuthorityCertificates(), wire.Authorities)

    async def sign(self, purpose: SigningPurpose, data: bytes) -> bytes:
        """An Ed25519 signature over ``crypto.signatures.signed_bytes(purpose, data)``."""
        return (await self._ask(wire.Sign(purpose=purpose, data=data), wire.Signature)).signature

    async def signing_key(self, purpose: SigningPurpose) -> bytes:
        """The raw Ed25519 public key of a purpose."""
        return (await self._ask(wire.SigningKey(purpose=purpose), wire.PublicKey)).key

    async def _ask(self, request: wire.Request, expected: type[R]) -> R:
        reply = await self._channel.ask(request)
        if isinstance(reply, expected):
            return reply
        if isinstance(reply, wire.Failure):
            if reply.code == Unreadable.code:
                raise Unreadable
            raise _ERRORS.get(reply.code, Unavailable)(reply.message, fix=reply.fix)
        raise Unavailable(
            "the key custody process gave an answer to another question",
            fix="run the same release of `limen keyd` and `limen serve`",
        )


class CustodyFieldCipher:
    """``db.ports.FieldCipher`` on leases of keyd: per tenant the last lease, and one renewal at a time."""

    def __init__(self, keyd: KeydClient, *, clock: Monotonic = boot_time) -> None:
        self._keyd = keyd
        self._clock = clock
        self._held: dict[UUID, LeasedCipher] = {}
        self._renewals: dict[UUID, asyncio.Lock] = {}

    async def for_tenant(self, tenant_id: UUID) -> LeasedCipher:
        """The tenant's cipher, good for at least ``RENEW_BEFORE_SECONDS`` while keyd answers.

        Raises:
            Unavailable: when keyd does not answer and the last lease has run out.
            NotFound: when the tenant has no keys.
        """
        held = self._fresh(tenant_id)
        if held is not None:
            return held
        renewal = self._renewals.setdefault(tenant_id, asyncio.Lock())
        try:
            async with renewal:
                return self._fresh(tenant_id) or await self._renew(tenant_id)
        finally:
            # Anyone can name a tenant that does not exist; nothing may be kept of that.
            if not renewal.locked():
                self._renewals.pop(tenant_id, None)

    def forget(self, tenant_id: UUID | None = None) -> None:
        """Drop the leases of one tenant, or of all."""
        if tenant_id is None:
            self._held.clear()
        else:
            self._held.pop(tenant_id, None)

    def _fresh(self, tenant_id: UUID) -> LeasedCipher | None:
        held = self._held.get(tenant_id)
        if held is None or held.outdated or held.ends_at - self._clock() <= RENEW_BEFORE_SECONDS:
            return None
        return held

    async def _renew(self, tenant_id: UUID) -> LeasedCipher:
        held = self._held.get(tenant_id)
        try:
            fields = await _take(self._keyd, tenant_id, Purpose.FIELDS, self._clock)
            lookup = await _take(self._keyd, tenant_id, Purpose.LOOKUP, self._clock)
        except Unavailable:
            if held is not None and self._clock() < held.ends_at:
                return held
            self._held.pop(tenant_id, None)
            raise
        except LimenError:
            self._held.pop(tenant_id, None)
            raise
        fresh = self._held[tenant_id] = LeasedCipher(tenant_id, fields, lookup, self._clock)
        return fresh


async def _take(keyd: KeydClient, tenant_id: UUID, purpose: Purpose, clock: Monotonic) -> Lease:
    asked_at = clock()  # before the question, so that a slow answer shortens the lease and never lengthens it
    answer = await keyd.lease_data_key(tenant_id, purpose)
    keys = all_keys((answer.key_id, answer.key), ((old.key_id, old.key) for old in answer.former))
    return Lease(answer.key_id, keys, asked_at + answer.lease_seconds)
