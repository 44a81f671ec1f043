"""What an enforcement point gives to the channel."""

from dataclasses import dataclass
from typing import Any, Protocol

from limen.wire.agent import AppliedVersion, Welcome


@dataclass(frozen=True, slots=True)
class HelloFields:
    """What an enforcement point says of itself in ``Hello``; see there."""

    software: str = ""
    wireguard_public_key: str = ""
    listen_port: int = 0
    addresses: tuple[str, ...] = ()


class ChannelHandler(Protocol):
    """An enforcement point as the channel sees it. Methods are called one after the other, never at once."""

    def hello(self) -> HelloFields:
        """What to say at each connect."""
        ...

    def applied(self) -> tuple[AppliedVersion, ...]:
        """The version in force per tenant: the highest of ``Sync``, ``CloseGrants`` and ``Reachable`` that the
        data plane really has applied. Asked before each heartbeat and after each ``received``."""
        ...

    async def welcomed(self, welcome: Welcome) -> None:
        """A connection was accepted; the ``Sync`` follows by ``received``."""
        ...

    async def received(self, message: Any) -> None:
        """A message other than ``Welcome``, ``Refuse``, ``HeartbeatAck``, ``ReceiptAck`` and ``Renewed``. An
        exception ends the connection; the channel then reconnects and gets a new ``Sync``."""
        ...

    async def lease(self, seconds: float) -> None:
        """All grants may live on for ``seconds`` from now (and not beyond their own expiry)."""
        ...

    async def lapsed(self) -> None:
        """The lease is over: cut everything now. Grants come back only with a new ``Sync`` and lease."""
        ...

    async def lost(self) -> None:
        """The connection is gone; the lease runs on. Answers still awaited will not come."""
        ...
