"""The gateway's rim: feeds the machine with messages and time, carries out its commands in order.

- One lock serializes everything, so the order of the commands is the order of their effects.
- A command that the kernel or WireGuard refuses leads to *rebuilding*: table and peers are made anew from what the
  machine says is live. If that fails too, the gateway ends and takes its interface with it.
- ``Opened``, ``Applied`` and receipts are sent only after the commands before them took effect.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from uuid import UUID

import structlog

from limen.edge.channel.ports import HelloFields
from limen.edge.gateway.forwarding import Forwarding
from limen.edge.gateway.machine import GatewayMachine
from limen.edge.gateway.nft import FilterFailed
from limen.edge.gateway.ports import (
    AddPeer,
    Command,
    CutGrants,
    Filter,
    Lapse,
    OpenGrants,
    RefreshAlive,
    RemovePeer,
    Reply,
    Settle,
)
from limen.edge.wireguard.keys import generate_private_key, key_text, parse_key, public_key
from limen.edge.wireguard.link import Links
from limen.edge.wireguard.ports import Peer, TunnelFailed, WireGuard
from limen.kernel.clock import Clock
from limen.kernel.errors import Unavailable
from limen.wire.agent import AppliedVersion, CloseGrants, OpenGrant, Receipt, Sync, Welcome

REPORT_SECONDS = 60.0

_log = structlog.get_logger("limen.gateway")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How this gateway is reached: addresses (without port) that clients may use, most preferred first."""

    tenant_id: UUID
    interface: str
    listen_port: int = 51820
    advertise: tuple[str, ...] = ()
    software: str = ""


class GatewayDriver:
    """Implements :class:`limen.edge.channel.ports.ChannelHandler` for a gateway.

    The private key is made at each start and lives in memory only: a restarted gateway is a new peer, which tells
    the control plane that the clients' sessions with the former one are void.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        wireguard: WireGuard,
        packet_filter: Filter,
        links: Links,
        clock: Clock,
        send: Callable[[object], Awaitable[None]],
        forwarding: Forwarding | None = None,
    ) -> None:
        self._settings = settings
        self._wireguard = wireguard
        self._filter = packet_filter
        self._links = links
        self._clock = clock
        self._send = send
        self._forwarding = forwarding or Forwarding()
        self._machine = GatewayMachine(settings.tenant_id)
        self._private_key = generate_private_key()
        self._listen_port = settings.listen_port
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._clock_offset = 0.0
        self._alive_until = 0.0
        self._last_cut = 0.0

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Build interface and filter; nothing passes yet. On an error nothing is left behind."""
        try:
            self._filter.install()
            await self._links.delete(self._settings.interface)
            await self._wireguard.create(self._settings.interface, self._private_key, self._settings.listen_port)
            self._listen_port = await self._wireguard.listen_port()
            self._forwarding.switch_on()
        except BaseException:
            await self.stop()
            raise

    async def run(self) -> None:
        """Watch the clock and the tunnel until cancelled.

        Raises:
            TunnelFailed: when WireGuard has ended.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_tunnel())
            group.create_task(self._watch_time())
            group.create_task(self._watch_denied())

    async def stop(self) -> None:
        """Take everything out of the host again. Idempotent."""
        await self._wireguard.delete()
        with contextlib.suppress(FilterFailed):
            self._filter.remove()
        self._forwarding.put_back()

    # --- ChannelHandler -----------------------------------------------------------------------------------

    def hello(self) -> HelloFields:
        """See :class:`ChannelHandler`."""
        return HelloFields(
            software=self._settings.software,
            wireguard_public_key=key_text(public_key(self._private_key)),
            listen_port=self._listen_port,
            addresses=self._settings.advertise,
        )

    def applied(self) -> tuple[AppliedVersion, ...]:
        """See :class:`ChannelHandler`."""
        return self._machine.applied()

    async def welcomed(self, welcome: Welcome) -> None:
        """See :class:`ChannelHandler`. Gives the interface its address and the route to the tunnel network."""
        self._clock_offset = welcome.now - self._clock.now().timestamp()
        own = IPv4Interface(welcome.tunnel_address)
        name = self._settings.interface
        await self._links.bring_up(name, address=str(own.ip))
        await self._links.claim(welcome.tunnel_network or str(own.network), name)

    async def received(self, message: object) -> None:
        """See :class:`ChannelHandler`."""
        if isinstance(message, Sync | OpenGrant | CloseGrants):
            async with self._lock:
                await self._execute(self._machine.received(message, self._now()))

    async def lease(self, seconds: float) -> None:
        """See :class:`ChannelHandler`."""
        async with self._lock:
            await self._execute(self._machine.lease(seconds, self._now()))

    async def lapsed(self) -> None:
        """See :class:`ChannelHandler`."""
        _log.warning("the control plane has been away for longer than grants may live without it; all are cut")
        async with self._lock:
            await self._execute(self._machine.lapsed(self._now()))

    async def lost(self) -> None:
        """See :class:`ChannelHandler`. The lease runs on; nothing to do."""

    # --- commands -----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now().timestamp() + self._clock_offset

    async def _execute(self, commands: Sequence[Command]) -> None:
        for index, command in enumerate(commands):
            try:
                await self._change(command)
            except (FilterFailed, TunnelFailed) as exc:
                _log.error("the data plane refused a change; rebuilding it", error=exc.message)
                await self._rebuild()
                await self._report(commands[index:])
                break
            await self._report([command])
        self._changed.set()

    async def _change(self, command: Command) -> None:
        match command:
            case OpenGrants(grants):
                self._filter.open(grants, self._now())
            case CutGrants(numbers):
                self._filter.cut(numbers)
                self._last_cut = self._now()
            case AddPeer(key, address):
                await self._add_peer(key, address)
            case RemovePeer(key):
                await self._wireguard.remove_peer(parse_key(key))
            case RefreshAlive(seconds):
                self._filter.refresh(seconds)
                self._alive_until = self._now() + seconds
            case Lapse():
                self._filter.refresh(0)
                self._alive_until = 0.0
            case _:
                pass

    async def _report(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Reply(message):
                    with contextlib.suppress(Unavailable):  # the next connection begins with a Sync
                        await self._send(message)
                case Settle():
                    await self._settle(command)
                case _:
                    pass

    async def _settle(self, settle: Settle) -> None:
        usage = self._filter.settle(settle.grant.number)
        now = self._now()
        await self._send(
            Receipt(
                tenant_id=self._settings.tenant_id,
                grant_id=settle.grant.id,
                reason=settle.grant.reason,
                cut_at=settle.cut_at if settle.cut_at is not None else (self._last_cut or now),
                last_byte_at=0.0 if usage.idle_seconds is None else now - usage.idle_seconds,
                bytes_in=usage.bytes_sent,
                bytes_out=usage.bytes_returned,
            )
        )

    async def _rebuild(self) -> None:
        """Make the data plane anew from what is live. Counters start again from zero."""
        self._filter.install()
        self._last_cut = self._now()
        for status in await self._wireguard.peers():
            if key_text(status.public_key) not in self._machine.peers:
                await self._wireguard.remove_peer(status.public_key)
        for key, address in self._machine.peers.items():
            await self._add_peer(key, address)
        self._filter.open(list(self._machine.live.values()), self._now())
        self._filter.refresh(max(0.0, self._alive_until - self._now()))

    async def _add_peer(self, key: str, address: str) -> None:
        host = IPv4Interface(address).ip
        await self._wireguard.set_peer(Peer(public_key=parse_key(key), allowed_ips=(f"{host}/32",)))

    # --- tasks --------------------------------------------------------------------------------------------

    async def _watch_tunnel(self) -> None:
        await self._wireguard.ended()
        raise TunnelFailed("wireguard-go has ended", fix="see its last words in the log; the gateway must restart")

    async def _watch_time(self) -> None:
        """Tick when the next grant expires. The kernel has cut it by then; this reports it."""
        while True:
            wake = self._machine.next_wake()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wake is None else max(0.0, wake - self._now())):
                    await self._changed.wait()
                    continue
            async with self._lock:
                await self._execute(self._machine.tick(self._now()))

    async def _watch_denied(self) -> None:
        """One line a minute about packets that no grant covers, instead of one per packet."""
        before = self._filter.denied_packets()
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            denied = self._filter.denied_packets()
            if denied > before:
                _log.info("refused packets that no live grant covers", packets=denied - before)
            before = denied
