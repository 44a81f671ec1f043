"""Policies and requests as the engine reads them."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from limen.engine.conditions import Condition, Environment
from limen.kernel.access import Action


class Effect(StrEnum):
    """What a policy does when it applies."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule: any of ``principals`` (ids of people, workloads or groups) on any of ``resources``."""

    id: UUID
    name: str
    effect: Effect
    principals: frozenset[UUID]
    resources: frozenset[UUID]
    actions: frozenset[Action]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What is known about the subject. ``blocked`` names why it is blocked; empty when it is not."""

    id: UUID
    groups: frozenset[UUID] = frozenset()
    active: bool = True
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One question: may this subject do all of ``actions`` on ``resource_id`` in this environment?"""

    subject: SubjectFacts
    resource_id: UUID
    actions: frozenset[Action]
    environment: Environment = field(repr=False)
