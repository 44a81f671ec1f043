"""Agents and enrolment tokens as values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limen.wire.agent import AgentKind


class AgentState(StrEnum):
    """A removed agent never comes back; the host enrols anew."""

    ACTIVE = "active"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Agent:
    """One enrolled agent. ``tenant_id`` is None for a platform agent, ``person_id`` is set for clients only.

    ``tunnel_address`` is ``address/length`` inside the tenant's tunnel network, empty for kinds without tunnel.
    """

    id: UUID
    tenant_id: UUID | None
    kind: AgentKind
    name: str
    spki_sha256: bytes
    sealing_key: bytes
    state: AgentState
    enrolled_at: datetime
    person_id: UUID | None = None
    site: str = ""
    tunnel_address: str = ""
    software: str = ""
    last_seen_at: datetime | None = None
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """An enrolment token as stored: the secret only as SHA-256."""

    id: UUID
    tenant_id: UUID | None
    kind: AgentKind
    name: str
    secret_hash: bytes
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    person_id: UUID | None = None
    site: str = ""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What the TLS layer proved about the other end: a certificate of our authority and its private key."""

    tenant_id: UUID | None
    agent_id: UUID
    kind: AgentKind
    spki_sha256: bytes
    not_after: datetime
