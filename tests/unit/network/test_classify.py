"""The tables that the kernel looks flows up in, against a plain reading of the rules."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.edge.gateway.classify import ICMP, TCP, UDP, Box, Classification, Holding, definition, split
from limen.kernel.errors import Malformed
from limen.wire.agent import NetworkResource
from tests.unit.network.worlds import ports, resource

BASE = int(IPv4Address("10.0.0.0"))


def look_up(tables: Classification, client: int, destination: int, protocol: int, port: int) -> int | None:
    """What the kernel does with the two tables."""
    hits = [cover for box, cover in tables.boxes.items() if box_holds(box, destination, protocol, port)]
    assert len(hits) <= 1, "boxes overlap"
    return tables.holders.get(client, {}).get(hits[0]) if hits else None


def box_holds(box: Box, destination: int, protocol: int, port: int) -> bool:
    if not box.first_address <= destination <= box.last_address:
        return False
    if protocol in (TCP, UDP):
        return box.protocol == protocol and box.first_port <= port <= box.last_port
    return box.protocol == ICMP if protocol == ICMP else box.protocol is None


def covers(found: NetworkResource, destination: int, protocol: int, port: int) -> bool:
    """The meaning of a resource, read from its wire form."""
    if IPv4Address(destination) not in IPv4Network(found.cidr):
        return False
    if not found.ports:
        return True
    number = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
    return any(
        number[entry.protocol] == protocol and (protocol == ICMP or entry.first <= port <= entry.last)
        for entry in found.ports
    )


def holding(number: int, found: NetworkResource, *, client: int = 1, until: float = 100.0) -> Holding:
    return Holding(number, client, definition(found), until)


def test_most_specific_resource_wins() -> None:
    wide, narrow = resource("10.0.0.0/24"), resource("10.0.0.8/32", ports("tcp", 443))
    tables = Classification()
    tables.update(opened=[holding(7, wide), holding(8, narrow)])
    at = BASE + 8
    assert look_up(tables, 1, at, TCP, 443) == 8
    assert look_up(tables, 1, at, TCP, 22) == 7
    assert look_up(tables, 1, at, ICMP, 0) == 7
    assert look_up(tables, 1, at + 1, TCP, 443) == 7
    assert look_up(tables, 2, at, TCP, 443) is None


def test_same_address_with_different_ports_is_two_resources() -> None:
    web, shell = resource("10.0.0.1/32", ports("tcp", 80)), resource("10.0.0.1/32", ports("tcp", 22))
    tables = Classification()
    tables.update(opened=[holding(1, web), holding(2, shell)])
    assert look_up(tables, 1, BASE + 1, TCP, 80) == 1
    assert look_up(tables, 1, BASE + 1, TCP, 22) == 2
    assert look_up(tables, 1, BASE + 1, UDP, 80) is None
    tables.update(closed=[1])
    assert look_up(tables, 1, BASE + 1, TCP, 80) is None
    assert look_up(tables, 1, BASE + 1, TCP, 22) == 2


def test_another_clients_grant_on_a_narrower_resource_takes_nothing_away() -> None:
    wide, narrow = resource("10.0.0.0/24"), resource("10.0.0.8/32")
    tables = Classification()
    tables.update(opened=[holding(7, wide, client=1)])
    tables.update(opened=[holding(8, narrow, client=2)])
    assert look_up(tables, 1, BASE + 8, TCP, 443) == 7
    assert look_up(tables, 2, BASE + 8, TCP, 443) == 8
    assert look_up(tables, 2, BASE + 9, TCP, 443) is None


def test_of_two_grants_on_one_resource_the_later_counts_and_the_other_takes_over() -> None:
    one = resource("10.0.0.1/32")
    tables = Classification()
    tables.update(opened=[holding(1, one, until=100), holding(2, one, until=200)])
    assert look_up(tables, 1, BASE + 1, TCP, 1) == 2
    tables.update(closed=[2])
    assert look_up(tables, 1, BASE + 1, TCP, 1) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        resource("fd00::1/128"),
        resource("somewhere"),
        resource("10.0.0.1/32", ports("sctp", 1)),
        resource("10.0.0.1/32", ports("tcp", 9, 8)),
        resource("10.0.0.1/32", ports("tcp", 1, 65536)),
    ],
)
def test_definitions_that_cannot_be_enforced_are_refused(wrong: NetworkResource) -> None:
    with pytest.raises(Malformed):
        definition(wrong)


_ranges = st.builds(
    lambda protocol, first, width: ports(protocol, first, first + width),
    st.sampled_from(["tcp", "udp", "icmp"]),
    st.integers(0, 12),
    st.integers(0, 4),
)
_resources = st.builds(
    lambda length, host, ranges: resource(str(IPv4Network((BASE + host, 24 + length), strict=False)), *ranges),
    st.integers(4, 8),
    st.integers(0, 15),
    st.lists(_ranges, max_size=3),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 3), st.integers(1, 2), st.floats(1, 9)),
        st.tuples(st.just("close"), st.integers(1, 12)),
    ),
    max_size=12,
)
_probes = st.tuples(st.integers(1, 2), st.integers(0, 16), st.sampled_from([TCP, UDP, ICMP, 132]), st.integers(0, 17))


@settings(max_examples=200, deadline=None)
@given(st.lists(_resources, min_size=4, max_size=4), _steps, st.lists(_probes, min_size=20, max_size=20))
def test_tables_say_what_the_rules_say(
    found: list[NetworkResource], steps: list[tuple[object, ...]], probes: list[tuple[int, int, int, int]]
) -> None:
    tables = Classification()
    live: dict[int, tuple[Holding, NetworkResource]] = {}
    boxes: dict[Box, int] = {}
    holders: dict[tuple[int, int], int] = {}
    for number, step in enumerate(steps, start=1):
        if step[0] == "open":
            where = found[int(str(step[1]))]
            entry = holding(number, where, client=int(str(step[2])), until=float(str(step[3])))
            live[number] = (entry, where)
            delta = tables.update(opened=[entry])
        else:
            live.pop(int(str(step[1])), None)
            delta = tables.update(closed=[int(str(step[1]))])
        # The deltas, applied as a kernel would, lead to the same tables; none is removed that is not there.
        for key in delta.holders_gone:
            del holders[key]
        for box in delta.boxes_gone:
            del boxes[box]
        for box, cover in delta.boxes_new:
            assert box not in boxes
            boxes[box] = cover
        for client, cover, grant_number in delta.holders_new:
            assert (client, cover) not in holders
            holders[client, cover] = grant_number
    assert boxes == tables.boxes
    assert holders == {(c, cover): n for c, held in tables.holders.items() for cover, n in held.items()}
    for client, host, protocol, port in probes:
        fitting = [
            (entry.definition.rank, -entry.expires_at, number)
            for number, (entry, where) in live.items()
            if entry.client == client and covers(where, BASE + host, protocol, port)
        ]
        hit = look_up(tables, client, BASE + host, protocol, port)
        assert (hit is None) == (not fitting)
        if fitting:
            best = min(fitting)
            assert hit in [number for rank, until, number in fitting if (rank, until) == best[:2]]


def test_disjoint_resources_make_one_box_each() -> None:
    found = [definition(resource(f"10.{i >> 8}.{i & 255}.0/24", ports("tcp", 443))) for i in range(2_000)]
    assert len(list(split(found))) == 2_000
