"""Requests for access, stored policies, and what a decision needs to know of a subject."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.engine.model import Policy
from limen.kernel.access import Action, Subject


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One subject asking for actions on a resource.

    ``partial`` grants the allowed part of ``actions`` when not all are allowed. ``not_after`` bounds the grant by the
    life of the credential it came with. ``source`` is the IP address in text, empty when unknown.
    """

    subject: Subject
    resource_id: UUID
    actions: frozenset[Action]
    source: str = ""
    agent_id: UUID | None = None
    not_after: datetime | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SubjectState:
    """What the rooms of people, workloads and devices know about a subject."""

    groups: frozenset[UUID]
    active: bool
    device_verified: bool


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy with what only the console and the API need."""

    policy: Policy
    builtin: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a suspension did. ``fresh`` is False when it was in force already; ``committed_at`` is the moment from
    which every door counts how fast it was."""

    fresh: bool
    committed_at: datetime
