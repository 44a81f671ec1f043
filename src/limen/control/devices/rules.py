"""Every rule of enrolment and of the agent channel that needs no I/O. Checks raise; none returns a bool to
forget.

The ledger of versions decides on leases:

1. ``Sync``, ``CloseGrants`` and ``Reachable`` of version V, once handed to a session, *require* V of the agent.
2. A change that ended a grant of this agent requires its version from the moment it is known here, even
   before the message about it is written.
3. An agent is *current* when, for each tenant, what it says it has applied is at least what is required, and not
   more than what it was ever told: who claims the future is not believed.
4. Required versions only grow while a session lives.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Network
from uuid import UUID

from limen.control.devices.errors import Refused, WrongClock
from limen.control.devices.model import Agent, AgentState, PeerCertificate
from limen.kernel.errors import Malformed
from limen.wire.agent import (
    MAX_CLOCK_SKEW_SECONDS,
    PROTOCOL,
    AgentKind,
    Applied,
    AppliedVersion,
    Authenticate,
    CloseGrants,
    Events,
    Goodbye,
    Heartbeat,
    Hello,
    Opened,
    OpenGrant,
    Reachable,
    Receipt,
    RefuseCode,
    Release,
    Renew,
    RequestAccess,
    Sync,
)

TUNNEL_NETWORK = IPv4Network("100.64.0.0/11")
MAX_TUNNEL_HOST = TUNNEL_NETWORK.num_addresses - 2
PLATFORM_KINDS = frozenset({AgentKind.SFTP})
TUNNEL_KINDS = frozenset({AgentKind.GATEWAY, AgentKind.CLIENT})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")

_ALWAYS = (Heartbeat, Renew, Goodbye)
_MESSAGES_OF_KIND: dict[AgentKind, tuple[type, ...]] = {
    AgentKind.GATEWAY: (*_ALWAYS, Opened, Applied, Receipt, Events),
    AgentKind.CLIENT: (*_ALWAYS, Applied, RequestAccess, Release),
    AgentKind.SFTP: (*_ALWAYS, Applied, Receipt, Events, Authenticate, Release),
}


def checked_name(name: str) -> str:
    """Return ``name`` if an agent may be called so.

    Raises:
        Malformed: otherwise.
    """
    if not _NAME.fullmatch(name):
        raise Malformed(
            "an agent's name is 1 to 63 letters, digits, spaces, '.', '_' or '-', and starts with a letter or digit",
            fix="choose another name",
        )
    return name


def check_clock(agent_now: float, now: datetime) -> None:
    """Compare the agent's clock (Unix seconds) with ours.

    Raises:
        WrongClock: when they differ by more than ``MAX_CLOCK_SKEW_SECONDS``, or it is no number.
    """
    skew = agent_now - now.timestamp()
    if not abs(skew) <= MAX_CLOCK_SKEW_SECONDS:  # written so that NaN fails
        raise WrongClock(skew)


def tunnel_address(host: int) -> str:
    """The ``host``-th address of the tenant's tunnel network, with its length: ``100.64.0.1/11`` for 1.

    Raises:
        Malformed: when it lies outside.
    """
    if not 1 <= host <= MAX_TUNNEL_HOST:
        raise Malformed("the tunnel network has no such address", fix="remove agents that are not in use")
    return f"{TUNNEL_NETWORK[host]}/{TUNNEL_NETWORK.prefixlen}"


def check_hello(hello: Hello, peer: PeerCertificate, now: datetime) -> None:
    """What can be refused without asking the database.

    Raises:
        Refused: with code version, identity or clock.
    """
    if not max(1, PROTOCOL - 1) <= hello.protocol <= PROTOCOL:
        raise Refused(
            RefuseCode.VERSION,
            f"agent speaks protocol {hello.protocol}, the control plane {PROTOCOL}",
            fix="install the release of Limen that the control plane runs",
        )
    if hello.agent_id != peer.agent_id or hello.kind is not peer.kind:
        raise _not_you()
    if peer.not_after <= now:
        raise Refused(RefuseCode.CERTIFICATE, "the agent's certificate has run out", fix="renew it")
    try:
        check_clock(hello.now, now)
    except WrongClock as exc:
        raise Refused(RefuseCode.CLOCK, exc.message, fix=exc.fix) from None


def check_agent(agent: Agent | None, peer: PeerCertificate) -> Agent:
    """Compare the certificate with the record it names.

    Raises:
        Refused: with code removed or identity.
    """
    if agent is None:
        raise _not_you()
    pinned = (agent.tenant_id, agent.id, agent.kind, agent.spki_sha256)
    if pinned != (peer.tenant_id, peer.agent_id, peer.kind, peer.spki_sha256):
        raise _not_you()
    if agent.state is not AgentState.ACTIVE:
        raise removed()
    return agent


def removed() -> Refused:
    """The refusal for an agent that was removed."""
    return Refused(
        RefuseCode.REMOVED,
        "this agent was removed",
        fix="delete its state directory and enrol it again with a new token",
    )


def _not_you() -> Refused:
    return Refused(
        RefuseCode.IDENTITY,
        "the certificate does not belong to this agent",
        fix="enrol this agent again with a new token",
    )


def check_message(agent: Agent, message: object) -> None:
    """What an agent of this kind and tenant may send.

    Raises:
        Refused: with code denied.
    """
    if not isinstance(message, _MESSAGES_OF_KIND[agent.kind]):
        raise Refused(RefuseCode.DENIED, f"a {agent.kind} agent may not send this message")
    for tenant_id in tenants_named(message):
        check_tenant(agent, tenant_id)


def check_tenant(agent: Agent, tenant_id: UUID | None) -> None:
    """An agent of a tenant and a message of another never meet, in either direction.

    Raises:
        Refused: with code denied.
    """
    if agent.tenant_id is not None and tenant_id != agent.tenant_id:
        raise Refused(RefuseCode.DENIED, "the message names something that is not this agent's")


def tenants_named(message: object) -> Iterable[UUID]:
    """Every tenant that a message names."""
    if isinstance(message, Heartbeat):
        return [entry.tenant_id for entry in message.applied]
    tenant_id = getattr(message, "tenant_id", None)
    return [] if tenant_id is None else [tenant_id]


class VersionLedger:
    """What one session's agent must have applied, and what it was told, per tenant."""

    def __init__(self) -> None:
        self._required: dict[UUID, int] = {}
        self._told: dict[UUID, int] = {}
        self._closed: dict[UUID, int] = {}
        self._synced: dict[UUID, int] = {}

    def require(self, tenant_id: UUID, version: int) -> None:
        """A change of ``version`` concerns this agent."""
        self._required[tenant_id] = max(version, self._required.get(tenant_id, 0))

    def sent(self, message: object) -> None:
        """``message`` is about to be handed to the agent's queue.

        Raises:
            ValueError: when ``Sync`` or ``CloseGrants`` go back in versions: a defect of the sender, which
                would bring dead grants back to life.
        """
        if not isinstance(message, Sync | CloseGrants | Reachable | OpenGrant):
            return
        tenant_id, version = message.tenant_id, message.version
        if isinstance(message, Sync | CloseGrants):
            if version < self._closed.get(tenant_id, 0):
                raise ValueError(f"version {version} after {self._closed[tenant_id]} of the same tenant")
            self._closed[tenant_id] = version
        if isinstance(message, Sync):
            self._synced[tenant_id] = version
        self._told[tenant_id] = max(version, self._told.get(tenant_id, 0))
        if not isinstance(message, OpenGrant):
            self.require(tenant_id, version)

    def is_news(self, tenant_id: UUID, version: int) -> bool:
        """Whether a change is not yet part of the last ``Sync``."""
        return version > self._synced.get(tenant_id, -1)

    def is_current(self, applied: Iterable[AppliedVersion]) -> bool:
        """Whether an agent that has applied this may go on."""
        claims = {entry.tenant_id: entry.version for entry in applied}
        return all(
            version <= claims.get(tenant_id, -1) <= self._told.get(tenant_id, -1)
            for tenant_id, version in self._required.items()
        )
