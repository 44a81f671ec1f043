"""The gateway's table in nftables, and every change to it.

One ``inet`` table per agent. How a packet goes:

- *From the tunnel*, right after connection tracking found its flow: when the flow's mark is not a live grant, look up
  destination -> cover -> grant and mark the flow (:mod:`limen.edge.gateway.classify`). A flow whose grant ended
  thereby moves to another live grant of the same client, if one covers it.
- *Forwarded*, in either direction: the flow's mark must be in ``grants`` and the interface in ``alive``. What is
  refused from the tunnel is answered (reset, or administratively prohibited), so that programs fail at once.
- *To or from the gateway itself*: refused.

``grants`` elements expire with the grant, the ``alive`` element with the lease; neither is ever prolonged in
place (kernels before 6.12 cannot): ``alive`` is flushed and added in one transaction. ``sent`` and ``returned``
count per grant and outlive it, so that a receipt read after the cut is exact; their element's timeout starts anew
with each packet, which tells when the last one passed.

Deleting an element that has expired by itself is an error that would undo the whole transaction, hence the
pair ``add`` + ``delete`` below. It is atomic: no packet ever sees the element added.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from itertools import pairwise

from limen.edge.gateway.classify import ICMP, TCP, UDP, Box, Classification, Delta, Holding, address, definition
from limen.edge.gateway.meters import Meters
from limen.edge.gateway.nft import Nft
from limen.edge.gateway.ports import Usage
from limen.wire.agent import TunnelGrant

METER_SECONDS = 30 * 86_400
MAX_METERS = 1 << 20
REFUSALS_PER_SECOND = 200

_BATCH = 2_000
_NAMED = {ICMP, TCP, UDP}


def table_text(table: str, interface: str) -> str:
    """The whole table, empty of grants. Replaces a table of the same name."""
    return f"""
table inet {table}
delete table inet {table}
table inet {table} {{
  set grants {{ type mark; flags timeout; }}
  set alive {{ type ifname; flags timeout; }}
  set sent {{ type mark; flags dynamic,timeout; timeout {METER_SECONDS}s; size {MAX_METERS}; }}
  set returned {{ type mark; flags dynamic,timeout; timeout {METER_SECONDS}s; size {MAX_METERS}; }}
  map ports {{ type ipv4_addr . inet_proto . inet_service : mark; flags interval; }}
  map protocols {{ type ipv4_addr . inet_proto : mark; flags interval; }}
  map holders {{ type ipv4_addr . mark : mark; }}
  counter denied {{
  }}
  chain classify {{
    type filter hook prerouting priority -199; policy accept;
    iifname "{interface}" ct direction original ct mark != @grants goto assign
  }}
  chain assign {{
    meta mark set 0
    meta l4proto {{ tcp, udp }} meta mark set ip daddr . meta l4proto . th dport map @ports
    meta l4proto != {{ tcp, udp }} meta mark set ip daddr . meta l4proto map @protocols
    ct mark set ip saddr . meta mark map @holders
    meta mark set 0
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname "{interface}" goto outward
    oifname "{interface}" goto inward
  }}
  chain outward {{
    oifname != "{interface}" iifname @alive ct mark @grants update @sent {{ ct mark counter }} accept
    counter name denied
    meta l4proto tcp ct state established limit rate {REFUSALS_PER_SECOND}/second reject with tcp reset
    limit rate {REFUSALS_PER_SECOND}/second reject with icmpx admin-prohibited
    drop
  }}
  chain inward {{
    oifname @alive ct mark @grants update @returned {{ ct mark counter }} accept
    counter name denied drop
  }}
  chain to_host {{
    type filter hook input priority 0; policy accept;
    iifname "{interface}" counter name denied drop
  }}
  chain from_host {{
    type filter hook output priority 0; policy accept;
    oifname "{interface}" ip protocol icmp icmp type {{ destination-unreachable, time-exceeded }} accept
    oifname "{interface}" tcp flags & rst == rst accept
    oifname "{interface}" drop
  }}
  chain translate {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{interface}" ct mark @grants masquerade
  }}
}}
"""


class NftFilter:
    """Implements :class:`limen.edge.gateway.ports.Filter` with nftables."""

    def __init__(self, nft: Nft, table: str, interface: str) -> None:
        self._nft = nft
        self._table = table
        self._interface = interface
        self._meters = Meters(table)
        self._classification = Classification()
        self._opened: set[int] = set()

    def install(self) -> None:
        """See :class:`Filter`."""
        self._nft.run(table_text(self._table, self._interface))
        self._classification = Classification()
        self._opened = set()

    def open(self, grants: Sequence[TunnelGrant], now: float) -> None:
        """See :class:`Filter`."""
        holdings = [_holding(grant) for grant in grants]
        for start in range(0, len(grants), _BATCH):
            part = holdings[start : start + _BATCH]
            numbers = [holding.number for holding in part]
            delta = self._classification.update(opened=part)
            timed = [f"{entry.number} timeout {_timeout(entry.expires_at - now)}" for entry in part]
            self._run([*self._removal("grants", numbers), *self._apply(delta), *self._adding("grants", timed)])
            self._opened.update(numbers)

    def cut(self, numbers: Sequence[int]) -> None:
        """See :class:`Filter`. The grants go first: what follows them is tidying."""
        known = [number for number in numbers if number in self._opened]
        if not known:
            return
        self._run(self._removal("grants", known))
        self._opened.difference_update(known)
        self._run(self._apply(self._classification.update(closed=known)))

    def refresh(self, seconds: float) -> None:
        """See :class:`Filter`."""
        commands = [f"flush set inet {self._table} alive"]
        if seconds > 0:
            commands += self._adding("alive", [f'"{self._interface}" timeout {_timeout(seconds)}'])
        self._run(commands)

    def settle(self, number: int) -> Usage:
        """See :class:`Filter`."""
        sent, sent_idle = self._meter("sent", number)
        returned, returned_idle = self._meter("returned", number)
        self._run([*self._removal("sent", [number]), *self._removal("returned", [number])])
        idle = [seconds for seconds in (sent_idle, returned_idle) if seconds is not None]
        return Usage(sent, returned, min(idle, default=None))

    def denied_packets(self) -> int:
        """See :class:`Filter`."""
        reading = self._meters.counter("denied")
        return reading.packets if reading else 0

    def remove(self) -> None:
        """See :class:`Filter`."""
        self._nft.run(f"table inet {self._table}\ndelete table inet {self._table}")
        self._meters.close()

    # --- parts --------------------------------------------------------------------------------------------

    def _run(self, commands: Sequence[str]) -> None:
        if commands:
            self._nft.run("\n".join(commands))

    def _adding(self, name: str, elements: Sequence[str]) -> list[str]:
        return [f"add element inet {self._table} {name} {{ {', '.join(elements)} }}"] if elements else []

    def _deleting(self, name: str, elements: Sequence[str]) -> list[str]:
        return [f"delete element inet {self._table} {name} {{ {', '.join(elements)} }}"] if elements else []

    def _removal(self, name: str, numbers: Sequence[int]) -> list[str]:
        """Delete elements of a set with timeouts, whether or not they are still there."""
        elements = [str(number) for number in numbers]
        return [*self._adding(name, elements), *self._deleting(name, elements)]

    def _apply(self, delta: Delta) -> list[str]:
        gone_ports, gone_protocols = _elements((box, None) for box in delta.boxes_gone)
        new_ports, new_protocols = _elements(delta.boxes_new)
        holders_gone = [f"{address(client)} . {cover}" for client, cover in delta.holders_gone]
        holders_new = [f"{address(client)} . {cover} : {number}" for client, cover, number in delta.holders_new]
        return [
            *self._deleting("holders", holders_gone),
            *self._deleting("ports", gone_ports),
            *self._deleting("protocols", gone_protocols),
            *self._adding("ports", new_ports),
            *self._adding("protocols", new_protocols),
            *self._adding("holders", holders_new),
        ]

    def _meter(self, name: str, number: int) -> tuple[int, float | None]:
        """Bytes and idle seconds of one element; nothing of one that never saw a packet."""
        reading = self._meters.element(name, number)
        if reading is None:
            return 0, None
        return reading.bytes, max(0.0, METER_SECONDS - reading.expires_ms / 1000)


def _timeout(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _holding(grant: TunnelGrant) -> Holding:
    client = int(IPv4Address(grant.peer_address.split("/", 1)[0]))
    return Holding(grant.number, client, definition(grant.resource), grant.expires_at)


def _elements(boxes: Iterable[tuple[Box, int | None]]) -> tuple[list[str], list[str]]:
    """Boxes as elements of the maps ``ports`` and ``protocols``; without their value when it is None."""
    ports: list[str] = []
    protocols: list[str] = []
    for box, cover in boxes:
        value = "" if cover is None else f" : {cover}"
        where = _range(address(box.first_address), address(box.last_address))
        if box.protocol in (TCP, UDP):
            ports.append(f"{where} . {box.protocol} . {_range(str(box.first_port), str(box.last_port))}{value}")
        elif box.protocol is not None:
            protocols.append(f"{where} . {box.protocol}{value}")
        else:
            protocols += [f"{where} . {protocols_between}{value}" for protocols_between in _unnamed()]
    return ports, protocols


def _unnamed() -> list[str]:
    """The ranges of protocol numbers between the ones that have boxes of their own."""
    edges = [-1, *sorted(_NAMED), 256]
    gaps = [(low + 1, high - 1) for low, high in pairwise(edges)]
    return [_range(str(low), str(high)) for low, high in gaps if low <= high]


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"
