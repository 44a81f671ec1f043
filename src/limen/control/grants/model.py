"""Grants, blocks and receipts as values."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.kernel.access import Grant, GrantState


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant with its place in the ledger."""

    grant: Grant
    state: GrantState
    ended_at: datetime | None = None
    ended_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A denial in force. ``resource_id`` None means suspended from everything."""

    id: UUID
    subject_id: UUID
    resource_id: UUID | None
    reason: str
    set_at: datetime


@dataclass(frozen=True, slots=True)
class CutReceipt:
    """What an enforcement point says about a grant that it cut. Byte counts are payload seen from the subject:
    ``bytes_in`` towards the resource, ``bytes_out`` from it."""

    grant_id: UUID
    agent_id: UUID
    reason: str
    cut_at: datetime
    last_byte_at: datetime | None
    bytes_in: int
    bytes_out: int
