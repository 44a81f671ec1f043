"""The client's rim: feeds the machine with packets, messages and time, carries out its commands in order.

Trapped packets arrive in a callback and wait in a bounded queue for the one worker that owns machine and host.
When a command fails (a route refused, WireGuard gone) the error ends the client: its devices vanish, and with them
every route of ours, so that nothing is left pointing anywhere.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from uuid import UUID

import structlog

from limen.edge.channel.ports import HelloFields
from limen.edge.client import packets
from limen.edge.client.machine import ClientMachine
from limen.edge.client.ports import (
    Ask,
    Command,
    Refuse,
    Reinject,
    RemoveRoute,
    RemoveTunnelPeer,
    Reply,
    Report,
    RouteToTrap,
    RouteToTunnel,
    SetTunnelPeer,
)
from limen.edge.client.status import StatusFile
from limen.edge.client.trap import Trap
from limen.edge.wireguard.keys import generate_private_key, key_text, parse_key, public_key
from limen.edge.wireguard.link import Links
from limen.edge.wireguard.ports import Peer, TunnelFailed, WireGuard
from limen.kernel.clock import Clock
from limen.kernel.errors import Unavailable
from limen.wire.agent import AccessAnswer, AppliedVersion, GrantEnded, Reachable, Sync, Welcome

KEEPALIVE_SECONDS = 25
TUNNEL_MTU = 1420
MAX_QUEUED_PACKETS = 512

_log = structlog.get_logger("limen.client")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Names of this client's two devices, and who it is."""

    tenant_id: UUID
    interface: str
    trap: str
    software: str = ""


class ClientDriver:
    """Implements :class:`limen.edge.channel.ports.ChannelHandler` for a client."""

    def __init__(
        self,
        settings: ClientSettings,
        wireguard: WireGuard,
        links: Links,
        clock: Clock,
        status: StatusFile,
        send: Callable[[object], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._wireguard = wireguard
        self._links = links
        self._clock = clock
        self._status = status
        self._send = send
        self._machine = ClientMachine(settings.tenant_id)
        self._private_key = generate_private_key()
        self._trap: Trap | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._trapped: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED_PACKETS)
        self._clock_offset = 0.0
        self._address = ""
        self._connected = False

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the tunnel interface and the trap. On an error nothing is left behind."""
        try:
            await self._links.delete(self._settings.interface)
            await self._wireguard.create(self._settings.interface, self._private_key, 0)
            self._trap = Trap(self._settings.trap)
            await self._links.bring_up(self._settings.trap, mtu=TUNNEL_MTU)
            self._trap.listen(self._take)
            self._report()
        except BaseException:
            await self.stop()
            raise

    async def run(self) -> None:
        """Serve packets and time until cancelled.

        Raises:
            TunnelFailed: when WireGuard has ended or the kernel refuses a route.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_tunnel())
            group.create_task(self._serve_trap())
            group.create_task(self._watch_time())

    async def stop(self) -> None:
        """Remove both devices; their routes go with them. Idempotent."""
        if self._trap is not None:
            self._trap.close()
        await self._wireguard.delete()
        self._status.remove()

    # --- ChannelHandler -----------------------------------------------------------------------------------

    def hello(self) -> HelloFields:
        """See :class:`ChannelHandler`."""
        return HelloFields(
            software=self._settings.software, wireguard_public_key=key_text(public_key(self._private_key))
        )

    def applied(self) -> tuple[AppliedVersion, ...]:
        """See :class:`ChannelHandler`."""
        return self._machine.applied()

    async def welcomed(self, welcome: Welcome) -> None:
        """See :class:`ChannelHandler`. Gives the tunnel interface its address."""
        async with self._lock:
            self._clock_offset = welcome.now - self._clock.now().timestamp()
            self._address = str(IPv4Interface(welcome.tunnel_address).ip)
            await self._links.bring_up(self._settings.interface, address=self._address)
            self._connected = True
            await self._execute(self._machine.welcomed(self._now()))

    async def received(self, message: object) -> None:
        """See :class:`ChannelHandler`."""
        if isinstance(message, Reachable | AccessAnswer | GrantEnded | Sync):
            async with self._lock:
                await self._execute(self._machine.received(message, self._now()))

    async def lease(self, seconds: float) -> None:
        """See :class:`ChannelHandler`. The gateway's lease is what counts; nothing to do."""

    async def lapsed(self) -> None:
        """See :class:`ChannelHandler`."""
        async with self._lock:
            await self._execute(self._machine.lapsed(self._now()))

    async def lost(self) -> None:
        """See :class:`ChannelHandler`."""
        async with self._lock:
            self._connected = False
            await self._execute(self._machine.lost(self._now()))

    # --- commands -----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now().timestamp() + self._clock_offset

    async def _execute(self, commands: Sequence[Command]) -> None:
        for command in commands:
            await self._one(command)
        self._changed.set()

    async def _one(self, command: Command) -> None:
        match command:
            case Ask(request=message) | Reply(message=message):
                with contextlib.suppress(Unavailable):  # asked again after the next Welcome
                    await self._send(message)
            case SetTunnelPeer(key, endpoint, allowed_ips):
                peer = Peer(parse_key(key), allowed_ips, endpoint=endpoint, keepalive=KEEPALIVE_SECONDS)
                await self._wireguard.set_peer(peer)
            case RemoveTunnelPeer(key):
                await self._wireguard.remove_peer(parse_key(key))
            case RouteToTrap(cidr):
                await self._links.route(cidr, self._settings.trap, source=self._address)
            case RouteToTunnel(cidr):
                await self._links.route(cidr, self._settings.interface, source=self._address)
            case RemoveRoute(cidr):
                await self._links.unroute(cidr, self._settings.trap)
                await self._links.unroute(cidr, self._settings.interface)
            case Reinject(held):
                for packet in held:
                    self._open_trap.send_on(packet)
            case Refuse(refused, code):
                for packet in refused:
                    answer = packets.refusal(packet, code)
                    if answer is not None:
                        self._open_trap.answer(answer)
            case Report():
                self._report()

    @property
    def _open_trap(self) -> Trap:
        assert self._trap is not None
        return self._trap

    def _report(self) -> None:
        self._status.write(
            {
                "connected": self._connected,
                "tunnel_address": self._address,
                "interface": self._settings.interface,
                **self._machine.status(),
            }
        )

    # --- tasks --------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # lost like on any busy link; the program sends it again
            self._trapped.put_nowait(data)

    async def _serve_trap(self) -> None:
        while True:
            packet = packets.parse(await self._trapped.get())
            if packet is not None:
                async with self._lock:
                    await self._execute(self._machine.trapped(packet, self._now()))

    async def _watch_tunnel(self) -> None:
        await self._wireguard.ended()
        raise TunnelFailed("wireguard-go has ended", fix="see its last words in the log; the client must restart")

    async def _watch_time(self) -> None:
        while True:
            wake = self._machine.next_wake()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wake is None else max(0.0, wake - self._now())):
                    await self._changed.wait()
                    continue
            async with self._lock:
                await self._execute(self._machine.tick(self._now()))
