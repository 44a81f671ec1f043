"""What the gateway's machine tells the rim to do, and what the rim needs from the packet filter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from limen.wire.agent import Applied, ClosedGrant, Opened, TunnelGrant

# --- commands of the machine ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddPeer:
    """Let this peer use this one tunnel address."""

    public_key: str
    address: str


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """End the peer's session."""

    public_key: str


@dataclass(frozen=True, slots=True)
class OpenGrants:
    """Let these grants through, until they expire."""

    grants: tuple[TunnelGrant, ...]


@dataclass(frozen=True, slots=True)
class CutGrants:
    """Cut every flow of these grant numbers, now."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RefreshAlive:
    """All grants may live on for ``seconds`` from now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lapse:
    """Nothing may pass until the next :class:`RefreshAlive`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this; the data plane is as the machine wants it by now."""

    message: Opened | Applied


@dataclass(frozen=True, slots=True)
class Settle:
    """The grant is over for good: read its counters, forget them, send the receipt.

    ``cut_at`` None means: when the last :class:`CutGrants` took effect.
    """

    grant: ClosedGrant
    cut_at: float | None = None


Command = AddPeer | RemovePeer | OpenGrants | CutGrants | RefreshAlive | Lapse | Reply | Settle


# --- the packet filter ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """What a grant has carried, IP headers included. ``idle_seconds`` since its last packet; None without one."""

    bytes_sent: int = 0
    bytes_returned: int = 0
    idle_seconds: float | None = None


class Filter(Protocol):
    """The enforcement of grants on packets. Every call is atomic and takes effect before it returns.

    Methods raise :class:`limen.edge.gateway.nft.FilterFailed`; what was in force before then still is.
    """

    def install(self) -> None:
        """Start empty: nothing passes. Removes what a killed predecessor left."""
        ...

    def open(self, grants: Sequence[TunnelGrant], now: float) -> None:
        """Let grants through until their expiry; ``now`` is on the clock that the expiries are on."""
        ...

    def cut(self, numbers: Sequence[int]) -> None:
        """Stop all packets of these grants, in both directions; unknown numbers are fine."""
        ...

    def refresh(self, seconds: float) -> None:
        """Let granted packets pass for ``seconds`` from now; 0 stops all at once."""
        ...

    def settle(self, number: int) -> Usage:
        """Read and forget the counters of a grant that was cut."""
        ...

    def denied_packets(self) -> int:
        """How many packets were refused since :meth:`install`."""
        ...

    def remove(self) -> None:
        """Take everything out of the kernel. Idempotent."""
        ...
