"""The agent channel: one mutual-TLS WebSocket from each enforcement point to the control plane.

Rules of the channel:

1. The agent speaks first (``Hello``); the control plane answers ``Welcome`` or ``Refuse`` and closes.
2. After ``Welcome`` comes one ``Sync`` per tenant: the whole set of live grants of this enforcement point at
   a version. What the agent holds beyond it, it cuts.
3. ``OpenGrant`` and ``CloseGrants`` follow in order. The agent answers ``Opened`` / ``Applied`` only when the
   data plane really has changed.
4. The agent sends ``Heartbeat`` every ``Welcome.heartbeat_seconds`` with the version it has applied per
   tenant: the highest of ``Sync``, ``CloseGrants`` and ``Reachable`` that is in force. Only
   ``HeartbeatAck.lease_seconds > 0`` renews its lease; an agent that is behind gets 0 and its grants lapse.
5. When a grant ends, however it ends, the agent sends one ``Receipt``; it keeps the receipt, over
   reconnections too, until the ``ReceiptAck``. ``Events`` are kept likewise until their ``EventsAck``. Both
   may arrive twice.
6. A certificate that has passed two thirds of its life is renewed with ``Renew`` / ``Renewed`` (same key).
   The control plane ends a channel whose certificate has run out.
7. After ``Refuse`` nothing follows. The codes in ``PERMANENT_REFUSALS`` mean: do not come back by yourself;
   all grants are void at once. After any other code the agent reconnects with backoff and its lease runs on.
8. Times are Unix seconds (float, UTC). Ids are UUIDs. Bytes are base64 in JSON.
"""

from enum import StrEnum
from uuid import UUID

from limen.wire.codec import Message, Part

PROTOCOL = 1
"""Version of this protocol; a peer one lower or equal is accepted."""

MAX_MESSAGE_BYTES = 1 << 20
"""Largest message of an agent."""
MAX_MESSAGE_TO_AGENT_BYTES = 32 << 20
"""Largest message to an agent; a ``Sync`` of a busy gateway is long."""
MAX_CLOCK_SKEW_SECONDS = 30.0
DEFAULT_OFFLINE_TOLERANCE_SECONDS = 60.0


class AgentKind(StrEnum):
    """What an agent is; fixed at enrolment."""

    GATEWAY = "gateway"
    CLIENT = "client"
    SFTP = "sftp"


class RefuseCode(StrEnum):
    """Why a channel was refused or ended; the value of ``Refuse.code``."""

    VERSION = "version"
    CLOCK = "clock"
    IDENTITY = "identity"  # the certificate and what the agent says do not belong together
    REMOVED = "removed"
    REPLACED = "replaced"  # a second connection with the same identity took over
    MALFORMED = "malformed"
    DENIED = "denied"  # a message that this kind of agent, or an agent of this tenant, may not send
    CERTIFICATE = "certificate"  # ran out while connected
    SLOW = "slow"  # does not read, or does not answer
    SHUTDOWN = "shutdown"
    UNAVAILABLE = "unavailable"


PERMANENT_REFUSALS = frozenset(
    {
        RefuseCode.VERSION,
        RefuseCode.CLOCK,
        RefuseCode.IDENTITY,
        RefuseCode.REMOVED,
        RefuseCode.REPLACED,
    }
)
"""Trying again unchanged cannot work; a person has to act."""


# --- parts ------------------------------------------------------------------------------------------------


class PortRange(Part, frozen=True):
    """One protocol and an inclusive port range. ``protocol`` is ``tcp``, ``udp`` or ``icmp`` (ports 0..0)."""

    protocol: str
    first: int
    last: int


class NetworkResource(Part, frozen=True):
    """A network resource as the data plane sees it. ``ports`` empty means every protocol and port."""

    id: UUID
    name: str
    cidr: str
    ports: tuple[PortRange, ...] = ()


class TunnelGrant(Part, frozen=True):
    """A grant for a gateway: this peer, from this tunnel address, to this resource, until ``expires_at``.

    In a ``Sync`` the key may be empty: the device is away, so that its present key is not known. A gateway that holds
    the grant then keeps it as it is; one that does not, leaves it alone.
    """

    id: UUID
    number: int
    expires_at: float
    peer_public_key: str
    peer_address: str
    resource: NetworkResource


class ClosedGrant(Part, frozen=True):
    """A grant that must be cut at once, and why (a short tag such as ``suspended``)."""

    id: UUID
    number: int
    reason: str


class AppliedVersion(Part, frozen=True):
    """The tenant version up to which this agent has applied every change."""

    tenant_id: UUID
    version: int


class TunnelPeer(Part, frozen=True):
    """The gateway that a client shall talk to. ``endpoint`` is ``address:port`` (IPv6 in brackets).

    ``address`` is the gateway's own tunnel address, from which its refusals come; empty when unknown.
    """

    agent_id: UUID
    public_key: str
    endpoint: str
    address: str = ""


class SealedCredential(Part, frozen=True):
    """Storage credentials, readable only by the enforcement point they were sealed to.

    ``blob`` is HPKE output (see ``limen.crypto.sealing``) bound to (tenant, connection, grant).
    """

    blob: bytes


class BucketTarget(Part, frozen=True):
    """Where a file grant leads. ``provider`` is ``s3`` or ``local``; ``root`` is the local folder."""

    connection_id: UUID
    provider: str
    bucket: str = ""
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    root: str = ""
    credential: SealedCredential | None = None


class FileGrant(Part, frozen=True):
    """A grant for the file door. ``jail`` is the key prefix of this user under the connection's prefix."""

    id: UUID
    number: int
    expires_at: float
    actions: tuple[str, ...]
    jail: str
    target: BucketTarget


class DoorEvent(Part, frozen=True):
    """Something that happened at a door and must be audited.

    ``action`` is an audit tag such as ``files.object.put``; ``outcome`` is ``ok``, ``denied`` or ``failed``;
    ``path`` is marked personal and stored sealed. ``at`` is the door's own clock.
    """

    grant_id: UUID
    action: str
    outcome: str
    at: float
    path: str = ""
    bytes: int = 0
    detail: str = ""


# --- agent -> control plane -------------------------------------------------------------------------------


class Hello(Message, tag="hello", frozen=True):
    """First message. ``now`` lets the control plane name a wrong clock."""

    protocol: int
    kind: AgentKind
    agent_id: UUID
    software: str
    now: float
    wireguard_public_key: str = ""
    listen_port: int = 0
    addresses: tuple[str, ...] = ()


class Heartbeat(Message, tag="heartbeat", frozen=True):
    """Proof of life with what has been applied."""

    now: float
    applied: tuple[AppliedVersion, ...] = ()


class Opened(Message, tag="opened", frozen=True):
    """The data plane now lets this grant through."""

    tenant_id: UUID
    grant_id: UUID


class Applied(Message, tag="applied", frozen=True):
    """Everything up to ``version`` is in force, all cuts made."""

    tenant_id: UUID
    version: int


class Receipt(Message, tag="receipt", frozen=True):
    """A grant ended here. ``last_byte_at`` is 0 when nothing ever flowed; byte counts are payload."""

    tenant_id: UUID
    grant_id: UUID
    reason: str
    cut_at: float
    last_byte_at: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class Events(Message, tag="events", frozen=True):
    """A batch of door events of one tenant; acknowledged with ``EventsAck`` once they are durable."""

    tenant_id: UUID
    batch: int
    events: tuple[DoorEvent, ...]


class RequestAccess(Message, tag="request-access", frozen=True):
    """A client met a packet for a resource (client agents only)."""

    request_id: int
    resource_id: UUID


class Authenticate(Message, tag="authenticate", frozen=True):
    """An SSH sign-in (file agents only). Exactly one of ``password`` and ``public_key`` is set.

    ``public_key`` is the OpenSSH one-line form; with ``probe`` true the SSH client only asks whether the key
    would do and has proved nothing yet: the answer carries no grant.
    """

    request_id: int
    connection: str
    user: str
    source: str
    password: str = ""
    public_key: str = ""
    probe: bool = False


class Release(Message, tag="release", frozen=True):
    """The subject has closed its session by itself; the grant is over (followed by a ``Receipt``)."""

    tenant_id: UUID
    grant_id: UUID


class Renew(Message, tag="renew", frozen=True):
    """Asks for a fresh certificate of the key that this channel was opened with."""


class Goodbye(Message, tag="goodbye", frozen=True):
    """The agent stops on purpose."""


# --- control plane -> agent -------------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True):
    """Accepted. ``tunnel_address`` (``address/length``) is the agent's own; set for clients and gateways.

    It does not renew the lease: only a ``HeartbeatAck`` does. ``lease_seconds`` says how long one lasts.
    """

    now: float
    heartbeat_seconds: float
    lease_seconds: float
    tenant_id: UUID | None = None
    tunnel_address: str = ""
    tunnel_network: str = ""


class Refuse(Message, tag="refuse", frozen=True):
    """Not accepted, or no longer: the channel closes after this. ``fix`` says what to do."""

    code: str
    message: str
    fix: str = ""


class HeartbeatAck(Message, tag="heartbeat-ack", frozen=True):
    """``lease_seconds`` counts from now; 0 means: not renewed, you are behind."""

    now: float
    lease_seconds: float


class Sync(Message, tag="sync", frozen=True):
    """All live grants of this agent in one tenant. Gateways get ``tunnels``, file agents ``files``.

    ``files`` are ids only: sessions do not survive a restart of the agent, so what it does not know it
    releases.
    """

    tenant_id: UUID
    version: int
    tunnels: tuple[TunnelGrant, ...] = ()
    files: tuple[UUID, ...] = ()


class OpenGrant(Message, tag="open-grant", frozen=True):
    """Open this tunnel grant, then answer ``Opened``."""

    tenant_id: UUID
    version: int
    tunnel: TunnelGrant


class CloseGrants(Message, tag="close-grants", frozen=True):
    """Cut these grants now, then answer ``Applied`` and send one ``Receipt`` for each.

    May be empty: then only the version moves on.
    """

    tenant_id: UUID
    version: int
    grants: tuple[ClosedGrant, ...] = ()


class Reachable(Message, tag="reachable", frozen=True):
    """For clients: what the policy would let this subject reach now. Replaces the former list."""

    tenant_id: UUID
    version: int
    resources: tuple[NetworkResource, ...]


class AccessAnswer(Message, tag="access-answer", frozen=True):
    """The answer to ``RequestAccess``. When allowed, the gateway has already opened the grant.

    ``code`` names the kind of a refusal (``kernel.errors``): only ``denied`` and ``not-found`` are the policy's word,
    anything else (no gateway online, ...) may pass by itself.
    """

    request_id: int
    allowed: bool
    resource_id: UUID
    code: str = ""
    reason: str = ""
    fix: str = ""
    grant_id: UUID | None = None
    expires_at: float = 0.0
    peer: TunnelPeer | None = None


class GrantEnded(Message, tag="grant-ended", frozen=True):
    """For clients: this grant does not lead anywhere any more (it was revoked, or its gateway is gone or new).

    The next packet asks again.
    """

    tenant_id: UUID
    grant_id: UUID
    reason: str


class AuthenticateAnswer(Message, tag="authenticate-answer", frozen=True):
    """The answer to ``Authenticate``. A refusal has no reason: the SSH client must not learn one."""

    request_id: int
    allowed: bool
    tenant_id: UUID | None = None
    grant: FileGrant | None = None
    retry_after: float = 0.0


class EventsAck(Message, tag="events-ack", frozen=True):
    """The batch is in the audit trail."""

    batch: int


class ReceiptAck(Message, tag="receipt-ack", frozen=True):
    """The receipt of this grant is in the audit trail; the agent may forget it."""

    tenant_id: UUID
    grant_id: UUID


class Renewed(Message, tag="renewed", frozen=True):
    """The fresh certificate: PEM chain, leaf first."""

    certificate_pem: bytes
    not_after: float


FromAgent = (
    Hello | Heartbeat | Opened | Applied | Receipt | Events | RequestAccess | Authenticate | Release | Renew | Goodbye
)
ToAgent = (
    Welcome
    | Refuse
    | HeartbeatAck
    | Sync
    | OpenGrant
    | CloseGrants
    | Reachable
    | AccessAnswer
    | GrantEnded
    | AuthenticateAnswer
    | EventsAck
    | ReceiptAck
    | Renewed
)
