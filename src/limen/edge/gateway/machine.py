"""The gateway as a state machine without I/O: messages, lease and time in, commands out.

Rules:

1. Live is what ``Sync`` named or ``OpenGrant`` added, minus what was closed, minus what has expired. After every
   call the commands so far make the data plane let exactly the live grants through.
2. ``Sync`` replaces everything. What is beyond it is cut first, then what is missing is opened. An entry without
   a peer's key keeps what is held under its id, and opens nothing.
3. Only ``Sync`` and ``CloseGrants`` move the applied version. An ``OpenGrant`` of version V does not show that the cuts
   up to V were made.
4. A closed or expired grant never opens again: its id is remembered, and a late ``OpenGrant`` of it is ignored.
   Ignored or expired on arrival means no ``Opened``; the control plane then gives up waiting.
5. A peer exists exactly while one of its grants is live or shelved. It is added after the filter is open and removed
   after the filter is shut. The last grant of a peer takes it away, so that its next one starts with a new handshake.
6. When the lease lapses every grant is *shelved*: cut, but not over. The next ``Sync`` opens it again or ends it. Its
   peer stays: a client notices the loss of a session only after 15 s, and to shut is what the filter is for.
7. Every grant that was ever held here, or is closed here, is settled exactly once: with a receipt.
8. A message of another tenant is an error. A grant that cannot be enforced (IPv6 prefix, damaged key) is settled at
   once as malformed, and never opens.

Times are Unix seconds on the control plane's clock.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Interface
from uuid import UUID

from limen.edge.gateway.classify import definition
from limen.edge.gateway.ports import (
    AddPeer,
    Command,
    CutGrants,
    Lapse,
    OpenGrants,
    RefreshAlive,
    RemovePeer,
    Reply,
    Settle,
)
from limen.edge.wireguard.keys import parse_key
from limen.kernel.errors import Malformed
from limen.wire.agent import (
    Applied,
    AppliedVersion,
    ClosedGrant,
    CloseGrants,
    Opened,
    OpenGrant,
    Sync,
    TunnelGrant,
)

MAX_REMEMBERED = 65_536
EXPIRED, GONE, LAPSED, MALFORMED = "expired", "not-in-sync", "lapsed", "malformed"


class GatewayMachine:
    """See the module's rules."""

    def __init__(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id
        self._live: dict[UUID, TunnelGrant] = {}
        self._shelved: dict[UUID, TunnelGrant] = {}
        self._over: OrderedDict[UUID, None] = OrderedDict()
        self._expiries: list[tuple[float, UUID]] = []  # a heap; entries of grants that are over are skipped
        self._peers: dict[str, str] = {}
        self._grants_of_peer: dict[str, set[UUID]] = {}
        self._touched_peers: dict[str, None] = {}
        self._version: int | None = None

    @property
    def live(self) -> dict[UUID, TunnelGrant]:
        """The live grants; a copy."""
        return dict(self._live)

    @property
    def peers(self) -> dict[str, str]:
        """Public key -> tunnel address of the peers that exist; a copy."""
        return dict(self._peers)

    def applied(self) -> tuple[AppliedVersion, ...]:
        """Rule 3."""
        if self._version is None:
            return ()
        return (AppliedVersion(tenant_id=self._tenant_id, version=self._version),)

    def next_wake(self) -> float | None:
        """When to call :meth:`tick` at the latest."""
        while self._expiries and self._held(self._expiries[0][1]) is None:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    # --- events -------------------------------------------------------------------------------------------

    def received(self, message: Sync | OpenGrant | CloseGrants, now: float) -> list[Command]:
        """Take one message of the control plane.

        Raises:
            Malformed: rule 8.
        """
        if message.tenant_id != self._tenant_id:
            raise Malformed("the message is for another tenant than this gateway's")
        expired = self.tick(now)
        match message:
            case Sync():
                return expired + self._sync(message, now)
            case OpenGrant():
                return expired + self._open(message.tunnel, now)
            case CloseGrants():
                return expired + self._close(message)

    def lease(self, seconds: float, now: float) -> list[Command]:
        """The control plane renewed the lease."""
        return [*self.tick(now), RefreshAlive(seconds)]

    def lapsed(self, now: float) -> list[Command]:
        """The lease is over (rule 6)."""
        commands = self.tick(now)
        numbers = tuple(grant.number for grant in self._live.values())
        self._shelved |= self._live
        self._live.clear()
        return [*commands, Lapse(), *([CutGrants(numbers)] if numbers else [])]

    def tick(self, now: float) -> list[Command]:
        """Time has passed; the kernel has cut what expired already, this tidies up and reports."""
        due: dict[UUID, TunnelGrant] = {}
        while self._expiries and self._expiries[0][0] <= now:
            grant = self._held(heapq.heappop(self._expiries)[1])
            if grant is not None and grant.expires_at <= now:
                due[grant.id] = grant
        return self._end([(grant, EXPIRED) for grant in due.values()]) if due else []

    # --- parts --------------------------------------------------------------------------------------------

    def _sync(self, sync: Sync, now: float) -> list[Command]:
        wanted: dict[UUID, TunnelGrant] = {}
        for entry in sync.tunnels:
            grant = entry if entry.peer_public_key else self._held(entry.id)
            if grant is not None and grant.expires_at > now and grant.id not in self._over:
                wanted[grant.id] = grant
        unfit = {grant.id: wanted.pop(grant.id) for grant in list(wanted.values()) if not _enforceable(grant)}
        beyond = [(grant, MALFORMED) for grant in unfit.values()]
        beyond += [(grant, GONE) for grant in self._live.values() if grant.id not in wanted and grant.id not in unfit]
        beyond += [
            (grant, LAPSED) for grant in self._shelved.values() if grant.id not in wanted and grant.id not in unfit
        ]
        changed = [grant for grant in self._live.values() if wanted.get(grant.id, grant) != grant]
        commands = self._end(beyond)
        if changed:
            commands.append(CutGrants(tuple(grant.number for grant in changed)))
        new = [grant for grant in wanted.values() if self._live.get(grant.id) != grant]
        commands += self._start(new)
        self._version = sync.version
        return [*commands, Reply(Applied(tenant_id=self._tenant_id, version=sync.version))]

    def _open(self, grant: TunnelGrant, now: float) -> list[Command]:
        if grant.id in self._over:
            return []
        if grant.expires_at <= now:
            return self._end([(grant, EXPIRED)])
        if not _enforceable(grant):
            return self._end([(grant, MALFORMED)])
        commands: list[Command] = []
        former = self._live.get(grant.id)
        if former != grant:
            if former is not None:
                commands.append(CutGrants((former.number,)))
            commands += self._start([grant])
        return [*commands, Reply(Opened(tenant_id=self._tenant_id, grant_id=grant.id))]

    def _close(self, message: CloseGrants) -> list[Command]:
        ending: list[tuple[TunnelGrant | ClosedGrant, str]] = []
        for closed in message.grants:
            if closed.id not in self._over:
                ending.append((self._held(closed.id) or closed, closed.reason))
        cuts = self._end(ending)
        settled = [command for command in cuts if isinstance(command, Settle)]
        commands = [command for command in cuts if not isinstance(command, Settle)]
        self._version = max(message.version, self._version or 0)
        # The control plane waits for this; the receipts, which read counters, can follow.
        commands.append(Reply(Applied(tenant_id=self._tenant_id, version=self._version)))
        return [*commands, *settled]

    def _start(self, grants: list[TunnelGrant]) -> list[Command]:
        for grant in grants:
            self._take(grant.id)
            self._live[grant.id] = grant
            self._grants_of_peer.setdefault(grant.peer_public_key, set()).add(grant.id)
            self._touched_peers[grant.peer_public_key] = None
            heapq.heappush(self._expiries, (grant.expires_at, grant.id))
        opened: list[Command] = [OpenGrants(tuple(grants))] if grants else []
        return [*opened, *self._peer_changes()]

    def _end(self, grants: Iterable[tuple[TunnelGrant | ClosedGrant, str]]) -> list[Command]:
        numbers: list[int] = []
        settled: list[Command] = []
        for grant, reason in grants:
            if grant.id in self._live:
                numbers.append(grant.number)
            self._take(grant.id)
            self._remember(grant.id)
            cut_at = grant.expires_at if reason == EXPIRED and isinstance(grant, TunnelGrant) else None
            settled.append(Settle(ClosedGrant(id=grant.id, number=grant.number, reason=reason), cut_at))
        cut: list[Command] = [CutGrants(tuple(numbers))] if numbers else []
        return [*cut, *self._peer_changes(), *settled]

    def _held(self, grant_id: UUID) -> TunnelGrant | None:
        return self._live.get(grant_id) or self._shelved.get(grant_id)

    def _take(self, grant_id: UUID) -> None:
        grant = self._live.pop(grant_id, None) or self._shelved.pop(grant_id, None)
        if grant is not None:
            self._grants_of_peer[grant.peer_public_key].discard(grant_id)
            self._touched_peers[grant.peer_public_key] = None

    def _peer_changes(self) -> list[Command]:
        removed: list[Command] = []
        added: list[Command] = []
        for key in self._touched_peers:
            grants = self._grants_of_peer.get(key)
            if not grants:
                self._grants_of_peer.pop(key, None)
                if self._peers.pop(key, None) is not None:
                    removed.append(RemovePeer(key))
                continue
            newest = self._held(max(grants))  # UUIDv7 are ordered by time
            where = newest.peer_address if newest is not None else ""
            if where and self._peers.get(key) != where:
                self._peers[key] = where
                added.append(AddPeer(key, where))
        self._touched_peers.clear()
        return [*removed, *added]

    def _remember(self, grant_id: UUID) -> None:
        self._over[grant_id] = None
        while len(self._over) > MAX_REMEMBERED:
            self._over.popitem(last=False)


def _enforceable(grant: TunnelGrant) -> bool:
    try:
        definition(grant.resource)
        parse_key(grant.peer_public_key)
        IPv4Interface(grant.peer_address)
    except (Malformed, ValueError):
        return False
    return 0 < grant.number < 1 << 32
