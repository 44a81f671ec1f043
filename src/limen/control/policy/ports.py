"""What the policy room asks of rooms that it may not import; joined in the process's main."""

from typing import Protocol
from uuid import UUID

from limen.control.policy.model import SubjectState
from limen.db.database import Tx
from limen.kernel.access import Subject
from limen.kernel.principal import Actor


class SubjectSource(Protocol):
    """Knows people, workloads, groups and devices."""

    async def state(self, tx: Tx, subject: Subject) -> SubjectState:
        """The facts about a subject now; an unknown subject is not active."""
        ...

    async def principal_kind(self, tx: Tx, principal_id: UUID) -> str | None:
        """``group``, ``person`` or ``workload``; None when this tenant has no such principal."""
        ...

    async def shielded(self, tx: Tx, subject_id: UUID, actor: Actor) -> str:
        """Why ``actor`` may not suspend this subject; empty when there is no reason."""
        ...

    async def names(self, tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
        """Display names of the people, workloads and groups among ``ids``."""
        ...


class CredentialEnder(Protocol):
    """Ends what a subject signs in with: sessions, tokens."""

    async def end_credentials(self, tx: Tx, subject_id: UUID, reason: str) -> int:
        """End every live credential of the subject; how many."""
        ...
