"""What the gateway and the client ask of WireGuard, whichever back end provides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from limen.kernel.errors import Unavailable


class TunnelFailed(Unavailable):
    """The back end did not do what it was told, or has ended."""

    code = "tunnel-failed"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer as it shall be. Keys are 32 raw bytes; ``endpoint`` is ``address:port``, IPv6 in brackets.

    ``keepalive`` is in seconds, 0 for none. ``allowed_ips`` replaces whatever the peer had before.
    """

    public_key: bytes
    allowed_ips: tuple[str, ...]
    endpoint: str = ""
    keepalive: int = 0
    preshared_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What the back end knows of a peer. ``last_handshake`` is in Unix seconds, 0 when there was none."""

    public_key: bytes
    endpoint: str
    allowed_ips: tuple[str, ...]
    last_handshake: float
    received_bytes: int
    sent_bytes: int


class WireGuard(Protocol):
    """One WireGuard interface. Every method raises :class:`TunnelFailed` when the back end refuses."""

    async def create(self, name: str, private_key: bytes, listen_port: int) -> None:
        """Make the interface ``name``; port 0 lets the system choose. The link is still down."""
        ...

    async def set_peer(self, peer: Peer) -> None:
        """Add the peer, or make an existing one equal to ``peer``."""
        ...

    async def remove_peer(self, public_key: bytes) -> None:
        """Forget a peer and its session; unknown ones are fine."""
        ...

    async def peers(self) -> Sequence[PeerStatus]:
        """All peers."""
        ...

    async def listen_port(self) -> int:
        """The UDP port in use."""
        ...

    async def ended(self) -> None:
        """Return only when the interface is gone although nobody called :meth:`delete`."""
        ...

    async def delete(self) -> None:
        """Remove the interface. Idempotent."""
        ...
