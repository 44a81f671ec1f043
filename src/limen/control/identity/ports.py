"""What identity needs from outside the room."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from limen.db.database import Tx
from limen.kernel.access import Decision, Grant, Subject


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The tenant's key for session tokens (HMAC-SHA256); ``key_id`` names it in a token's header."""

    key_id: bytes
    key: bytes = field(repr=False)


class SessionKeys(Protocol):
    """Lends session keys; fails closed (``Unavailable``) when custody does not answer and the lease is over."""

    async def current(self, tenant_id: UUID) -> SessionKey:
        """The key that new tokens are signed with."""
        ...

    async def by_id(self, tenant_id: UUID, key_id: bytes) -> SessionKey | None:
        """An older key, to read; ``None`` when the tenant has none of this id."""
        ...


class SessionGate(Protocol):
    """The policy decision point, asked before a session exists (the policy administrator)."""

    async def admit(self, tx: Tx, subject: Subject, source: str, not_after: datetime) -> Grant | Decision:
        """Issue the console grant of ``subject.credential_id`` in ``tx``, or return the decision that denies it.

        The grant ends at ``not_after`` at the latest. A denial is returned, not raised, since raising would roll
        back its audit record.
        """
        ...
