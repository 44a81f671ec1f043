"""The client as a state machine without I/O: trapped packets, messages and time in, commands out.

Rules:

1. A resource is *granted* (a live grant), *pending* (asked), *denied* (answered no, or not answered) or *open*. A
   denial answers packets for ``DENIAL_SECONDS`` and keeps routes as they are for ``SETTLED_SECONDS``; both end when
   the list of reachable resources changes.
2. For each prefix of a reachable resource there is one route. It leads into the tunnel while at least one of the
   resources that cover the whole prefix is granted and none of them is open or pending; otherwise into the trap.
   So a packet for a second resource on the same address is never swallowed by the tunnel of the first.
3. A trapped packet that no resource matches is refused. Otherwise every open resource that covers its destination
   is asked for, the matching ones first, the most specific first among them, and the packet is held.
4. A held packet goes on once its route leads into the tunnel and a resource that matches it is granted; it is
   refused when all that match it are denied, or ``HOLD_SECONDS`` have passed. When the store of held packets is full
   the newest is dropped; the program's own retransmission comes back later.
5. A gateway is a peer exactly while a route leads to it. Removing it makes the next set-up a new handshake.
6. When a grant ends here, expires, or the lease lapses, its resource is open again; rule 2 moves the route.
7. After each ``Welcome`` every granted resource is asked for again: the answer is the same grant with the gateway's
   present key and endpoint, or a denial. An answer that is not the policy's word (no gateway is back yet, after the
   control plane restarted) leaves a live grant alone: the gateway still holds it or will say so.

8. A network that contains its gateway's own endpoint is refused: the tunnel would lead into itself.

Times are Unix seconds on the control plane's clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import UUID

from limen.edge.client.packets import HOST_UNREACHABLE, ICMP, PROHIBITED, TCP, UDP, Packet
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
from limen.kernel.errors import Malformed
from limen.wire.agent import (
    AccessAnswer,
    Applied,
    AppliedVersion,
    GrantEnded,
    NetworkResource,
    Reachable,
    RequestAccess,
    Sync,
    TunnelPeer,
)

DENIAL_SECONDS = 5.0
SETTLED_SECONDS = 60.0
ANSWER_SECONDS = 8.0
HOLD_SECONDS = 10.0
MAX_HELD_PACKETS = 256
MAX_HELD_BYTES = 256 * 1024

_POLICY_CODES = frozenset({"denied", "not-found"})
_NUMBERS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}


@dataclass(frozen=True, slots=True)
class Known:
    """A reachable resource."""

    wire: NetworkResource
    network: IPv4Network

    def covers(self, destination: int) -> bool:
        """Whether its prefix holds an address."""
        return int(self.network.network_address) <= destination <= int(self.network.broadcast_address)

    def matches(self, packet: Packet) -> bool:
        """Whether this packet is for it."""
        if not self.covers(packet.destination):
            return False
        ports = self.wire.ports
        return not ports or any(
            _NUMBERS.get(entry.protocol) == packet.protocol
            and (packet.protocol == ICMP or entry.first <= packet.destination_port <= entry.last)
            for entry in ports
        )

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts the more specific first, as the gateway does."""
        width = sum(entry.last - entry.first + 1 for entry in self.wire.ports) or 3 << 16
        return (-self.network.prefixlen, width, str(self.wire.id))


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """A live grant of this client."""

    id: UUID
    resource_id: UUID
    expires_at: float
    peer: TunnelPeer


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal and its reason, for the status."""

    at: float
    reason: str
    fix: str
    code: int


@dataclass(slots=True)
class _Waiting:
    packet: Packet
    until: float


@dataclass(slots=True)
class _Routes:
    tunnel: dict[str, TunnelPeer] = field(default_factory=dict)
    all: set[str] = field(default_factory=set)


class ClientMachine:
    """See the module's rules."""

    def __init__(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id
        self._known: dict[UUID, Known] = {}
        self._grants: dict[UUID, HeldGrant] = {}
        self._pending: dict[UUID, tuple[int, float]] = {}
        self._denied: dict[UUID, Denial] = {}
        self._held: list[_Waiting] = []
        self._routes = _Routes()
        self._peers: dict[str, SetTunnelPeer] = {}
        self._request_id = 0
        self._version: int | None = None
        self._online = False

    def applied(self) -> tuple[AppliedVersion, ...]:
        """The version of the last list of reachable resources that is in force."""
        if self._version is None:
            return ()
        return (AppliedVersion(tenant_id=self._tenant_id, version=self._version),)

    def next_wake(self) -> float | None:
        """When to call :meth:`tick` at the latest."""
        due = [grant.expires_at for grant in self._grants.values()]
        due += [asked_at + ANSWER_SECONDS for _, asked_at in self._pending.values()]
        due += [denial.at + SETTLED_SECONDS for denial in self._denied.values()]
        due += [waiting.until for waiting in self._held]
        return min(due, default=None)

    def status(self) -> dict[str, Any]:
        """Reachable resources, live grants and recent denials, as plain values for the status file."""
        names = {known.wire.id: known.wire.name for known in self._known.values()}
        return {
            "reachable": [
                {"id": str(known.wire.id), "name": known.wire.name, "cidr": known.wire.cidr}
                for known in sorted(self._known.values(), key=lambda known: known.wire.name)
            ],
            "grants": [
                {
                    "id": str(grant.id),
                    "resource_id": str(grant.resource_id),
                    "resource": names.get(grant.resource_id, ""),
                    "expires_at": grant.expires_at,
                    "gateway": str(grant.peer.agent_id),
                }
                for grant in self._grants.values()
            ],
            "denials": [
                {
                    "resource_id": str(resource_id),
                    "resource": names.get(resource_id, ""),
                    "at": denial.at,
                    "reason": denial.reason,
                    "fix": denial.fix,
                }
                for resource_id, denial in self._denied.items()
            ],
        }

    # --- events -------------------------------------------------------------------------------------------

    def welcomed(self, now: float) -> list[Command]:
        """A connection is there (rule 7)."""
        self._online = True
        asked = [*self._grants, *self._pending]
        self._pending.clear()
        return [*self._ask(asked, now), *self._settle(now)]

    def lost(self, now: float) -> list[Command]:
        """The connection is gone; questions are asked again with the next one."""
        self._online = False
        return self._settle(now)

    def lapsed(self, now: float) -> list[Command]:
        """The lease is over: no grant is certain any more."""
        self._grants.clear()
        return self._settle(now)

    def received(self, message: Reachable | AccessAnswer | GrantEnded | Sync, now: float) -> list[Command]:
        """Take one message of the control plane.

        Raises:
            Malformed: when it is for another tenant.
        """
        if not isinstance(message, AccessAnswer) and message.tenant_id != self._tenant_id:
            raise Malformed("the message is for another tenant than this client's")
        match message:
            case Sync(version=version):
                self._version = max(version, self._version or 0)
                return [Reply(Applied(tenant_id=self._tenant_id, version=self._version))]
            case Reachable():
                return self._reachable(message, now)
            case AccessAnswer():
                self._answered(message, now)
            case GrantEnded(grant_id=grant_id):
                for resource_id in [held.resource_id for held in self._grants.values() if held.id == grant_id]:
                    del self._grants[resource_id]
        return self._settle(now)

    def trapped(self, packet: Packet, now: float) -> list[Command]:
        """A packet came out of the trap (rules 3 and 4)."""
        matching = self._matching(packet)
        if not matching:
            return [Refuse((packet,), PROHIBITED)]
        covering = sorted(
            (known for known in self._known.values() if known.covers(packet.destination)), key=lambda k: k.rank
        )
        self._forget_stale_denials(now)
        first = {known.wire.id: None for known in (*matching, *covering)}
        asking = self._ask([resource_id for resource_id in first if self._is_open(resource_id)], now)
        if self._has_room(packet):
            self._held.append(_Waiting(packet, now + HOLD_SECONDS))
        return [*asking, *self._settle(now)]

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        return self._settle(now)

    # --- parts --------------------------------------------------------------------------------------------

    def _reachable(self, message: Reachable, now: float) -> list[Command]:
        known: dict[UUID, Known] = {}
        for resource in message.resources:
            try:
                known[resource.id] = Known(resource, IPv4Network(resource.cidr, strict=False))
            except ValueError:
                continue  # no IPv4 prefix: tunnel addresses are IPv4 today
        changed = [key for key in self._grants if key not in known or known[key] != self._known.get(key)]
        for resource_id in changed:
            del self._grants[resource_id]
        self._known = known
        self._denied.clear()
        self._pending = {key: value for key, value in self._pending.items() if key in known}
        self._version = max(message.version, self._version or 0)
        return [*self._settle(now), Reply(Applied(tenant_id=self._tenant_id, version=self._version))]

    def _answered(self, answer: AccessAnswer, now: float) -> None:
        asked = self._pending.get(answer.resource_id)
        if asked is None or asked[0] != answer.request_id:
            return
        del self._pending[answer.resource_id]
        if answer.peer is not None and self._would_loop(answer.resource_id, answer.peer):
            reason = "this network contains the address of its own gateway, so that the tunnel would lead into itself"
            fix = "ask an administrator to define the resource without that address"
            self._deny(answer.resource_id, Denial(now, reason, fix, PROHIBITED))
        elif answer.allowed and answer.grant_id is not None and answer.peer is not None and answer.expires_at > now:
            self._grants[answer.resource_id] = HeldGrant(
                answer.grant_id, answer.resource_id, answer.expires_at, answer.peer
            )
            self._denied.pop(answer.resource_id, None)
        elif answer.resource_id not in self._grants or answer.code in _POLICY_CODES:
            self._deny(answer.resource_id, Denial(now, answer.reason, answer.fix, PROHIBITED))

    def _would_loop(self, resource_id: UUID, peer: TunnelPeer) -> bool:
        known = self._known.get(resource_id)
        host = peer.endpoint.rpartition(":")[0]
        try:
            return known is not None and IPv4Address(host) in known.network
        except ValueError:
            return False  # an IPv6 endpoint lies in no IPv4 prefix

    def _deny(self, resource_id: UUID, denial: Denial) -> None:
        self._grants.pop(resource_id, None)
        self._denied[resource_id] = denial

    def _ask(self, resource_ids: Iterable[UUID], now: float) -> list[Command]:
        commands: list[Command] = []
        for resource_id in resource_ids:
            self._request_id += 1
            self._pending[resource_id] = (self._request_id, now)
            if self._online:
                commands.append(Ask(RequestAccess(request_id=self._request_id, resource_id=resource_id)))
        return commands

    def _is_open(self, resource_id: UUID) -> bool:
        return resource_id not in self._grants and resource_id not in self._pending and resource_id not in self._denied

    def _is_settled(self, resource_id: UUID) -> bool:
        # A granted resource may be pending too (rule 7); its route stays meanwhile.
        return resource_id in self._grants or (resource_id in self._denied and resource_id not in self._pending)

    def _matching(self, packet: Packet) -> list[Known]:
        return sorted((known for known in self._known.values() if known.matches(packet)), key=lambda k: k.rank)

    def _has_room(self, packet: Packet) -> bool:
        size = sum(len(waiting.packet.data) for waiting in self._held)
        return len(self._held) < MAX_HELD_PACKETS and size + len(packet.data) <= MAX_HELD_BYTES

    def _forget_stale_denials(self, now: float) -> None:
        for resource_id in [key for key, denial in self._denied.items() if denial.at + DENIAL_SECONDS <= now]:
            del self._denied[resource_id]

    def _settle(self, now: float) -> list[Command]:
        """Bring expiry, routes, peers and held packets up to date."""
        for grant in [grant for grant in self._grants.values() if grant.expires_at <= now]:
            del self._grants[grant.resource_id]
        for resource_id, (_, asked_at) in list(self._pending.items()):
            if asked_at + ANSWER_SECONDS <= now:
                del self._pending[resource_id]
                reason, fix = "the control plane does not answer", "check the network and try again"
                if resource_id not in self._grants:
                    self._deny(resource_id, Denial(now, reason, fix, HOST_UNREACHABLE))
        for resource_id in [key for key, denial in self._denied.items() if denial.at + SETTLED_SECONDS <= now]:
            del self._denied[resource_id]
        moves = self._move_routes()
        held = self._release(now)
        return [*moves, *held, Report()]

    def _move_routes(self) -> list[Command]:
        wanted = _Routes()
        for known in self._known.values():
            cidr = str(known.network)
            if cidr in wanted.all:
                continue
            wanted.all.add(cidr)
            peer = self._peer_for(known.network)
            if peer is not None:
                wanted.tunnel[cidr] = peer
        former, self._routes = self._routes, wanted
        to_trap: list[Command] = [
            RouteToTrap(cidr)
            for cidr in sorted(wanted.all - wanted.tunnel.keys())
            if cidr in former.tunnel or cidr not in former.all
        ]
        gone: list[Command] = [RemoveRoute(cidr) for cidr in sorted(former.all - wanted.all)]
        into: list[Command] = [RouteToTunnel(cidr) for cidr in sorted(wanted.tunnel) if cidr not in former.tunnel]
        set_peers, removed_peers = self._move_peers(wanted.tunnel)
        return [*to_trap, *gone, *removed_peers, *set_peers, *into]

    def _peer_for(self, network: IPv4Network) -> TunnelPeer | None:
        """The gateway for a prefix, None while it belongs into the trap (rule 2)."""
        over = sorted((k for k in self._known.values() if network.subnet_of(k.network)), key=lambda k: k.rank)
        if not all(self._is_settled(known.wire.id) for known in over):
            return None
        granted = [self._grants[known.wire.id] for known in over if known.wire.id in self._grants]
        return granted[0].peer if granted else None

    def _move_peers(self, tunnel: dict[str, TunnelPeer]) -> tuple[list[Command], list[Command]]:
        prefixes: dict[str, tuple[TunnelPeer, list[str]]] = {}
        for cidr in sorted(tunnel):
            peer = tunnel[cidr]
            prefixes.setdefault(peer.public_key, (peer, []))[1].append(cidr)
        wanted = {
            key: SetTunnelPeer(key, peer.endpoint, (*cidrs, *([f"{peer.address}/32"] if peer.address else [])))
            for key, (peer, cidrs) in prefixes.items()
        }
        former, self._peers = self._peers, wanted
        changed: list[Command] = [peer for key, peer in wanted.items() if former.get(key) != peer]
        return changed, [RemoveTunnelPeer(key) for key in former if key not in wanted]

    def _release(self, now: float) -> list[Command]:
        going: list[Packet] = []
        refused: dict[int, list[Packet]] = {}
        waiting: list[_Waiting] = []
        for entry in self._held:
            matching = self._matching(entry.packet)
            granted = any(known.wire.id in self._grants for known in matching)
            denials = [self._denied[known.wire.id] for known in matching if known.wire.id in self._denied]
            if granted and self._leads_into_tunnel(entry.packet):
                going.append(entry.packet)
            elif not granted and len(denials) == len(matching):
                code = denials[0].code if denials else PROHIBITED
                refused.setdefault(code, []).append(entry.packet)
            elif entry.until <= now:
                refused.setdefault(HOST_UNREACHABLE, []).append(entry.packet)
            else:
                waiting.append(entry)
        self._held = waiting
        on: list[Command] = [Reinject(tuple(going))] if going else []
        return [*on, *(Refuse(tuple(packets), code) for code, packets in refused.items())]

    def _leads_into_tunnel(self, packet: Packet) -> bool:
        over = [known.network for known in self._known.values() if known.covers(packet.destination)]
        longest = max(over, key=lambda network: network.prefixlen)
        return str(longest) in self._routes.tunnel
