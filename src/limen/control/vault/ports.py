"""What the vault needs from outside: custody of values.

Implemented by custody's client of the custody daemon, and by the tests' custody inside the process.
"""

from typing import Protocol
from uuid import UUID

from limen.wire.keyd import Purpose


class ValueCustody(Protocol):
    """Seals and opens values where this process holds no key."""

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
        """Seal ``plaintext`` bound to its tenant, row and revision."""
        ...

    async def open_value(
        self, tenant_id: UUID, purpose: Purpose, *, table: str, column: str, row_id: UUID, revision: int, blob: bytes
    ) -> bytes:
        """Open what :meth:`seal_value` made for the same place."""
        ...

    async def health(self) -> None:
        """Return when values can be sealed and opened.

        Raises:
            limen.kernel.errors.Unavailable: otherwise.
        """
        ...
