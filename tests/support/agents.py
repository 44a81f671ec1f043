"""Values for tests of agents and their channel."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from limen.control.devices.model import Agent, AgentState, PeerCertificate
from limen.kernel.facts import Change, Fact, RevokedGrant
from limen.wire.agent import (
    PROTOCOL,
    AgentKind,
    ClosedGrant,
    CloseGrants,
    Hello,
    NetworkResource,
    OpenGrant,
    TunnelGrant,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
TENANT = UUID(int=1)
OTHER_TENANT = UUID(int=2)
AGENT = UUID(int=10)


def an_agent(kind: AgentKind = AgentKind.GATEWAY, *, tenant_id: UUID | None = TENANT, agent_id: UUID = AGENT) -> Agent:
    """An active agent; sftp agents are the platform's."""
    return Agent(
        id=agent_id,
        tenant_id=None if kind is AgentKind.SFTP else tenant_id,
        kind=kind,
        name="one",
        spki_sha256=b"s" * 32,
        sealing_key=b"k" * 32,
        state=AgentState.ACTIVE,
        enrolled_at=NOW,
        person_id=UUID(int=20) if kind is AgentKind.CLIENT else None,
        tunnel_address="" if kind is AgentKind.SFTP else "100.64.0.1/11",
    )


def certificate_of(agent: Agent) -> PeerCertificate:
    """What the TLS layer would say of ``agent``."""
    return PeerCertificate(agent.tenant_id, agent.id, agent.kind, agent.spki_sha256, datetime(2100, 1, 1, tzinfo=UTC))


def hello_of(agent: Agent, now: datetime = NOW) -> Hello:
    """What ``agent`` would say first."""
    return Hello(protocol=PROTOCOL, kind=agent.kind, agent_id=agent.id, software="limen/test", now=now.timestamp())


def a_change(
    version: int,
    *,
    tenant_id: UUID = TENANT,
    ended: Sequence[tuple[UUID, UUID]] = (),
    facts: Sequence[Fact] = (),
) -> Change:
    """A change that ended the grants in ``ended``: (grant, agent)."""
    revoked = tuple(
        RevokedGrant(
            id=grant_id,
            number=1,
            door="network",
            reason="suspended",
            agent_id=agent_id,
            subject_id=UUID(int=20),
            credential_id=None,
        )
        for grant_id, agent_id in ended
    )
    return Change(tenant_id, version, tuple(facts), revoked)


def close_of(change: Change) -> CloseGrants:
    """What a handler sends for a change."""
    return CloseGrants(
        tenant_id=change.tenant_id,
        version=change.version,
        grants=tuple(ClosedGrant(id=g.id, number=g.number, reason=g.reason) for g in change.revoked),
    )


def open_of(grant_id: UUID, version: int, tenant_id: UUID = TENANT) -> OpenGrant:
    """What a handler sends for a grant."""
    return OpenGrant(
        tenant_id=tenant_id,
        version=version,
        tunnel=TunnelGrant(
            id=grant_id,
            number=1,
            expires_at=NOW.timestamp() + 3600,
            peer_public_key="",
            peer_address="100.64.0.2",
            resource=NetworkResource(id=UUID(int=30), name="web", cidr="10.0.0.1/32"),
        ),
    )
