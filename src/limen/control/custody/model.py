"""What a lease can do: seal and open cells, make tags. Pure but for the monotonic clock handed in.

A lease ends at a fixed monotonic moment; from then on every use raises, also in code that still holds it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from limen.control.custody.errors import LeaseOver
from limen.crypto import commitments
from limen.crypto.aead import AeadKey, Cell, key_id_of
from limen.crypto.errors import Unreadable

Monotonic = Callable[[], float]
"""Seconds that only grow, and grow while the machine sleeps."""


@dataclass(frozen=True, slots=True, repr=False)
class Lease:
    """Data keys of one purpose of one tenant, usable until ``ends_at`` (monotonic seconds)."""

    current: bytes
    keys: dict[bytes, bytes]
    ends_at: float


class LeasedCipher:
    """The synchronous cipher of one tenant (``db.ports.TenantCipher``) while its two leases last."""

    __slots__ = ("_clock", "_current", "_keys", "_lookup", "_tenant", "ends_at", "outdated")

    def __init__(self, tenant_id: UUID, fields: Lease, lookup: Lease, clock: Monotonic) -> None:
        self._tenant = tenant_id
        self._keys = {key_id: AeadKey(key_id, key) for key_id, key in fields.keys.items()}
        self._current = self._keys[fields.current]
        self._lookup = lookup.keys[lookup.current]
        self._clock = clock
        self.ends_at = min(fields.ends_at, lookup.ends_at)
        self.outdated = False
        """Set when a blob names an unknown key, which may be newer than this lease: the next asks anew."""

    def seal(self, table: str, column: str, row_id: UUID, plaintext: bytes) -> bytes:
        """Seal one column value of one row.

        Raises:
            LeaseOver: when the lease has run out.
        """
        self._check()
        return self._current.seal(Cell(self._tenant, table, column, row_id), plaintext)

    def open(self, table: str, column: str, row_id: UUID, blob: bytes) -> bytes:
        """Open what was sealed for exactly this cell.

        Raises:
            LeaseOver: when the lease has run out.
            Unreadable: when the blob is damaged, was moved, or its key is not one of the lease.
        """
        self._check()
        blob = bytes(blob)
        key = self._keys.get(key_id_of(blob))
        if key is None:
            self.outdated = True
            raise Unreadable
        return key.open(Cell(self._tenant, table, column, row_id), blob)

    def tag(self, kind: str, value: str) -> bytes:
        """The 32-byte tag by which equal values of one kind are found within this tenant.

        Raises:
            LeaseOver: when the lease has run out.
        """
        self._check()
        return commitments.tag(self._lookup, kind, value)

    def _check(self) -> None:
        if self._clock() >= self.ends_at:
            raise LeaseOver("the lease of this tenant's keys has run out")


def all_keys(current: tuple[bytes, bytes], former: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Key material by key id."""
    return {current[0]: current[1], **dict(former)}
