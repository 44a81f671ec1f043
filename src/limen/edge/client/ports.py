"""What the client's machine tells the rim to do."""

from dataclasses import dataclass

from limen.edge.client.packets import Packet
from limen.wire.agent import Applied, RequestAccess


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this question to the control plane."""

    request: RequestAccess


@dataclass(frozen=True, slots=True)
class SetTunnelPeer:
    """Make the gateway's peer so: exactly these prefixes go to it."""

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveTunnelPeer:
    """Forget the gateway."""

    public_key: str


@dataclass(frozen=True, slots=True)
class RouteToTrap:
    """Send packets for this prefix to the trap."""

    cidr: str


@dataclass(frozen=True, slots=True)
class RouteToTunnel:
    """Send packets for this prefix into the tunnel."""

    cidr: str


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """No route of ours to this prefix any more."""

    cidr: str


@dataclass(frozen=True, slots=True)
class Reinject:
    """Send these held packets again, now that the route leads into the tunnel."""

    packets: tuple[Packet, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the senders of these packets that they go nowhere; ``code`` is that of ICMP unreachable."""

    packets: tuple[Packet, ...]
    code: int


@dataclass(frozen=True, slots=True)
class Report:
    """The status has changed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this; routes and peers are as the machine wants them by now."""

    message: Applied


Command = (
    Ask
    | SetTunnelPeer
    | RemoveTunnelPeer
    | RouteToTrap
    | RouteToTunnel
    | RemoveRoute
    | Reinject
    | Refuse
    | Report
    | Reply
)
