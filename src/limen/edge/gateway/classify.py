"""Which grant a new flow belongs to, as tables that a kernel can look up. Pure.

Rules:

1. A flow of client address A to (destination, protocol, port) belongs to A's live grant whose resource covers
   that and is the most specific: the longest prefix, then the fewest ports, then the smaller resource id. Grants
   of other clients have no say in it. Of two grants on the same resource the later-expiring one counts.
2. Address space is cut into disjoint *boxes* (address range, protocol, port range), each labelled with its
   *cover*: the number of the set of resources that cover it. Covers are numbered from 1.
3. *Holders* map (client address, cover) to the grant number, one entry per pair.

The kernel then needs two look-ups: destination -> cover, and (source, cover) -> grant. Boxes change only when
resource definitions come or go; opening and closing a grant changes a few holders.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from limen.kernel.errors import Malformed
from limen.wire.agent import NetworkResource

TCP, UDP, ICMP = 6, 17, 1
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Box:
    """A disjoint piece of destination space. ``protocol`` None: every protocol but TCP, UDP and ICMP.

    Bounds are inclusive; ports are 0..0 when the protocol has none.
    """

    first_address: int
    last_address: int
    protocol: int | None
    first_port: int = 0
    last_port: int = 0


@dataclass(frozen=True, slots=True)
class Definition:
    """What a resource covers: one prefix, and per protocol disjoint sorted port ranges (``None``: everything)."""

    resource: str
    first: int
    last: int
    ports: tuple[tuple[int, int, int], ...] | None

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts the more specific first (rule 1)."""
        width = 3 << 16 if self.ports is None else sum(last - first + 1 for _, first, last in self.ports)
        return (self.last - self.first, width, self.resource)


def definition(resource: NetworkResource) -> Definition:
    """Read a resource.

    Raises:
        Malformed: when the prefix is not IPv4 (tunnel addresses are IPv4 today), or a protocol or port is wrong.
    """
    try:
        network = IPv4Network(resource.cidr, strict=False)
    except ValueError:
        raise Malformed(f"resource {resource.id} has no IPv4 prefix", fix="correct the resource") from None
    first = int(network.network_address)
    ports: list[tuple[int, int, int]] = []
    for entry in resource.ports:
        protocol = PROTOCOLS.get(entry.protocol)
        if protocol is None or not 0 <= entry.first <= entry.last <= MAX_PORT:
            raise Malformed(f"resource {resource.id} has a wrong protocol or port", fix="correct the resource")
        ports.append((protocol, *((0, 0) if protocol == ICMP else (entry.first, entry.last))))
    return Definition(
        resource=str(resource.id),
        first=first,
        last=int(network.broadcast_address),
        ports=_merged(ports) if resource.ports else None,
    )


def _merged(ports: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Sorted, with overlapping and touching ranges joined."""
    joined: list[tuple[int, int, int]] = []
    for protocol, first, last in sorted(ports):
        if joined and joined[-1][0] == protocol and first <= joined[-1][2] + 1:
            joined[-1] = (protocol, joined[-1][1], max(joined[-1][2], last))
        else:
            joined.append((protocol, first, last))
    return tuple(joined)


@dataclass(frozen=True, slots=True)
class Delta:
    """What must change in the kernel's tables, removals first."""

    boxes_gone: tuple[Box, ...] = ()
    boxes_new: tuple[tuple[Box, int], ...] = ()
    holders_gone: tuple[tuple[int, int], ...] = ()
    holders_new: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """One live grant as the classification sees it."""

    number: int
    client: int
    definition: Definition
    expires_at: float


class Classification:
    """The tables for the grants held now. :meth:`update` returns what changed."""

    def __init__(self) -> None:
        self.boxes: dict[Box, int] = {}
        self.holders: dict[int, dict[int, int]] = {}  # client -> cover -> grant number
        self._holdings: dict[int, Holding] = {}
        self._by_client: dict[int, set[int]] = {}
        self._users: dict[Definition, int] = {}
        self._covers: dict[tuple[Definition, ...], int] = {}
        self._covers_of: dict[Definition, set[tuple[Definition, ...]]] = {}
        self._next_cover = 1

    def update(self, *, opened: Iterable[Holding] = (), closed: Iterable[int] = ()) -> Delta:
        """Take holdings in and out; return the difference of the tables."""
        clients: set[int] = set()
        defined = False
        for number in closed:
            holding = self._holdings.pop(number, None)
            if holding is not None:
                clients.add(holding.client)
                defined |= self._unuse(holding)
        for holding in opened:
            if holding.number in self._holdings:
                defined |= self._unuse(self._holdings[holding.number])
                clients.add(self._holdings[holding.number].client)
            self._holdings[holding.number] = holding
            clients.add(holding.client)
            self._by_client.setdefault(holding.client, set()).add(holding.number)
            defined |= holding.definition not in self._users
            self._users[holding.definition] = self._users.get(holding.definition, 0) + 1
        old_boxes = self.boxes
        if defined:
            clients |= self._redefine()
        boxes_gone, boxes_new = _boxes_difference(old_boxes, self.boxes)
        holders_gone, holders_new = self._replace_holders(clients)
        return Delta(boxes_gone, boxes_new, tuple(holders_gone), tuple(holders_new))

    def _unuse(self, holding: Holding) -> bool:
        numbers = self._by_client[holding.client]
        numbers.discard(holding.number)
        if not numbers:
            del self._by_client[holding.client]
        self._users[holding.definition] -= 1
        if self._users[holding.definition]:
            return False
        del self._users[holding.definition]
        return True

    def _redefine(self) -> set[int]:
        """Cut the boxes anew; return the clients whose holders may be concerned."""
        covered = dict(split(self._users))
        before = set(self._covers)
        wanted = set(covered.values())
        for cover in wanted - before:
            self._covers[cover] = self._next_cover
            self._next_cover += 1
        gone = before - wanted
        touched = {entry for cover in gone | (wanted - before) for entry in cover}
        self.boxes = {box: self._covers[cover] for box, cover in covered.items()}
        for cover in gone:
            del self._covers[cover]
        self._covers_of = {}
        for cover in wanted:
            for entry in cover:
                self._covers_of.setdefault(entry, set()).add(cover)
        return {holding.client for holding in self._holdings.values() if holding.definition in touched}

    def _replace_holders(self, clients: set[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
        """Compute the holders of some clients again; return the pairs gone and the entries new."""
        gone: list[tuple[int, int]] = []
        new: list[tuple[int, int, int]] = []
        for client in sorted(clients):
            former = self.holders.pop(client, {})
            present = dict(self._holders_of(client))
            if present:
                self.holders[client] = present
            gone += [(client, cover) for cover, number in former.items() if present.get(cover) != number]
            new += [(client, cover, number) for cover, number in present.items() if former.get(cover) != number]
        return gone, new

    def _holders_of(self, client: int) -> Iterator[tuple[int, int]]:
        best: dict[Definition, Holding] = {}
        for number in sorted(self._by_client.get(client, ())):
            holding = self._holdings[number]
            rival = best.get(holding.definition)
            if rival is None or holding.expires_at > rival.expires_at:
                best[holding.definition] = holding
        for cover in {cover for entry in best for cover in self._covers_of.get(entry, ())}:
            winner = next(entry for entry in cover if entry in best)
            yield self._covers[cover], best[winner].number


def _boxes_difference(old: dict[Box, int], new: dict[Box, int]) -> tuple[tuple[Box, ...], tuple[tuple[Box, int], ...]]:
    if old is new:
        return (), ()
    gone = tuple(box for box, cover in old.items() if new.get(box) != cover)
    return gone, tuple((box, cover) for box, cover in new.items() if old.get(box) != cover)


def split(definitions: Iterable[Definition]) -> Iterator[tuple[Box, tuple[Definition, ...]]]:
    """Cut what the definitions cover into disjoint boxes, each with its cover, the most specific first."""
    ordered = sorted(definitions, key=lambda entry: entry.rank)
    starts: dict[int, list[Definition]] = {}
    ends: dict[int, list[Definition]] = {}
    for entry in ordered:
        starts.setdefault(entry.first, []).append(entry)
        ends.setdefault(entry.last + 1, []).append(entry)
    active: set[Definition] = set()
    bounds = sorted(starts.keys() | ends.keys())
    for first, following in pairwise(bounds):
        active.difference_update(ends.get(first, ()))
        active.update(starts.get(first, ()))
        if active:
            over = sorted(active, key=lambda entry: entry.rank)
            yield from _split_ports(first, following - 1, over)


def _split_ports(first: int, last: int, over: list[Definition]) -> Iterator[tuple[Box, tuple[Definition, ...]]]:
    for protocol in (TCP, UDP):
        edges = {0, MAX_PORT + 1}
        for entry in over:
            for found, low, high in entry.ports or ():
                if found == protocol:
                    edges |= {low, high + 1}
        for low, following in pairwise(sorted(edges)):
            cover = tuple(entry for entry in over if _has_port(entry, protocol, low))
            if cover:
                yield Box(first, last, protocol, low, following - 1), cover
    whole = tuple(entry for entry in over if entry.ports is None)
    icmp = tuple(entry for entry in over if entry.ports is None or any(p == ICMP for p, _, _ in entry.ports))
    if whole:
        yield Box(first, last, None), whole
    if icmp:
        yield Box(first, last, ICMP), icmp


def _has_port(entry: Definition, protocol: int, port: int) -> bool:
    return entry.ports is None or any(p == protocol and low <= port <= high for p, low, high in entry.ports)


def address(number: int) -> str:
    """An address in text."""
    return str(IPv4Address(number))
