"""What this room needs of key custody; the client of ``limen keyd`` is one, the tests' own custody another."""

from typing import Protocol
from uuid import UUID


class StorageCustody(Protocol):
    """Takes storage credentials in and hands them to file agents; this process never sees them."""

    async def intake_key(self, tenant_id: UUID) -> bytes:
        """The X25519 key to seal a credential to."""
        ...

    async def accept_storage_credential(self, tenant_id: UUID, connection_id: UUID, sealed: bytes) -> bytes:
        """Sealed to the intake key in, sealed for storage out."""
        ...

    async def reseal_storage_credential(
        self, tenant_id: UUID, connection_id: UUID, grant_id: UUID, agent_id: UUID, blob: bytes
    ) -> bytes:
        """Sealed for storage in, sealed to an enrolled agent out, bound to a grant."""
        ...
