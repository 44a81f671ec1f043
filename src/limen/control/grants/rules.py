"""Pure rules of the ledger."""

import secrets
from uuid import UUID

from limen.control.grants.model import Block, GrantRecord
from limen.kernel.access import DOOR_OF_KIND
from limen.kernel.facts import RevokedGrant

MAX_NUMBER = (1 << 32) - 1


def random_number() -> int:
    """A grant number: non-zero, 32 bits, unpredictable, since it is the mark that opens a gateway."""
    return 1 + secrets.randbelow(MAX_NUMBER)


def block_reason(blocks: list[Block], resource_id: UUID) -> str:
    """Why a subject is blocked from a resource; empty when it is not. A suspension goes first."""
    for block in blocks:
        if block.resource_id is None:
            return "suspended until lifted"
    for block in blocks:
        if block.resource_id == resource_id:
            return "revoked for this resource until lifted"
    return ""


def as_revoked(record: GrantRecord, reason: str) -> RevokedGrant:
    """The outbox form of a grant that is being revoked."""
    grant = record.grant
    return RevokedGrant(
        id=grant.id,
        number=grant.number,
        door=DOOR_OF_KIND[grant.resource_kind],
        reason=reason,
        agent_id=grant.agent_id,
        subject_id=grant.subject.id,
        credential_id=grant.subject.credential_id,
    )
