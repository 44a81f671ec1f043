"""What the database needs from others: field encryption, injected by the process's main.

``seal`` and ``open`` bind a value to its table, column and row, so that a ciphertext copied to another place
does not open there. Both are synchronous: the tenant's data key is already leased when a ``TenantCipher``
exists.
"""

from typing import Protocol
from uuid import UUID


class TenantCipher(Protocol):
    """Field encryption under the data key of one tenant."""

    def seal(self, table: str, column: str, row_id: UUID, plaintext: bytes) -> bytes:
        """Encrypt ``plaintext`` for exactly this table, column and row."""
        ...

    def open(self, table: str, column: str, row_id: UUID, blob: bytes) -> bytes:
        """Decrypt what :meth:`seal` made for the same table, column and row.

        Raises:
            limen.kernel.errors.LimenError: when the blob was altered, moved, or sealed under another key.
        """
        ...

    def tag(self, kind: str, value: str) -> bytes:
        """A 32-byte HMAC-SHA256 of ``value`` for equality look-up (``kind``: "email", "address", …)."""
        ...


class FieldCipher(Protocol):
    """Hands out the cipher of a tenant."""

    async def for_tenant(self, tenant_id: UUID) -> TenantCipher:
        """The cipher of one tenant.

        Raises:
            limen.kernel.errors.Unavailable: when key custody does not answer and no lease is left.
        """
        ...
