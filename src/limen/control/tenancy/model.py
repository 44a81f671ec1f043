"""Tenant and Operator as data."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class TenantState(StrEnum):
    """Only an ``active`` tenant can be signed in to."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer's space."""

    id: UUID
    slug: str
    name: str
    state: TenantState
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CreatedTenant:
    """A new tenant with the token of its owner's one-time set-up link (24 hours, shown once)."""

    tenant: Tenant
    setup_token: str


@dataclass(frozen=True, slots=True)
class Operator:
    """Someone who runs the platform."""

    id: UUID
    name: str
