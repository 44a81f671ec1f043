"""Headers and answers, against an independent reading of the RFCs."""

import struct
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from limen.edge.client.packets import ICMP, PROHIBITED, TCP, UDP, checksum, parse, refusal

ME, THERE = int(IPv4Address("100.64.0.2")), int(IPv4Address("10.0.0.1"))


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    total = 20 + len(payload)
    return struct.pack(">BBHHHBBHII", 0x45, 0, total, 7, fragment, 64, protocol, 0, ME, THERE) + payload


def segment(flags: int, payload: bytes = b"", *, sequence: int = 100, acknowledged: int = 5000) -> bytes:
    return struct.pack(">HHIIBBHHH", 40_000, 443, sequence, acknowledged, 5 << 4, flags, 1000, 0, 0) + payload


def answer(data: bytes) -> bytes | None:
    packet = parse(data)
    assert packet is not None
    return refusal(packet, PROHIBITED)


def test_reads_where_a_packet_goes() -> None:
    packet = parse(ipv4(UDP, struct.pack(">HHHH", 1, 53, 8, 0)) + b"padding")
    assert packet is not None
    assert (packet.source, packet.destination, packet.protocol, packet.destination_port) == (ME, THERE, UDP, 53)
    assert len(packet.data) == 28


def test_leaves_alone_what_is_not_whole_ipv4() -> None:
    good = ipv4(TCP, segment(2))
    assert parse(b"\x60" + good[1:]) is None  # IPv6
    assert parse(good[:-1]) is None  # cut short
    assert parse(ipv4(TCP, segment(2), fragment=5)) is None  # a later fragment
    assert parse(ipv4(TCP, b"\0\0\1")) is None  # no ports
    assert parse(b"") is None


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser_or_the_answers(data: bytes) -> None:
    packet = parse(data)
    if packet is not None:
        refusal(packet, PROHIBITED)


def test_a_syn_is_answered_with_prohibited() -> None:
    asked = ipv4(TCP, segment(0x02))
    found = answer(asked)
    assert found is not None
    assert struct.unpack(">II", found[12:20]) == (THERE, ME)
    assert found[9] == ICMP
    assert checksum(found[:20]) == 0
    assert checksum(found[20:]) == 0
    assert (found[20], found[21]) == (3, 13)
    assert found[28:] == asked[:28]


def test_an_open_connection_is_reset_with_the_number_it_expects() -> None:
    found = answer(ipv4(TCP, segment(0x10, b"data", acknowledged=5000)))
    assert found is not None
    source, destination, sequence, _, _, flags = struct.unpack(">HHIIBB", found[20:34])
    assert (source, destination, sequence, flags) == (443, 40_000, 5000, 0x04)
    pseudo = struct.pack(">IIBBH", THERE, ME, 0, TCP, 20)
    assert checksum(pseudo + found[20:]) == 0


def test_a_segment_without_acknowledgement_is_reset_by_acknowledging_it() -> None:
    found = answer(ipv4(TCP, segment(0x01, b"abc", sequence=0xFFFFFFFE, acknowledged=0)))
    assert found is not None
    sequence, acknowledged = struct.unpack(">II", found[24:32])
    assert (sequence, acknowledged, found[33]) == (0, 2, 0x14)


def test_errors_and_resets_are_never_answered() -> None:
    assert answer(ipv4(TCP, segment(0x04))) is None
    for kind in (3, 5, 11, 12):
        assert answer(ipv4(ICMP, struct.pack(">BBHI", kind, 0, 0, 0))) is None
    assert answer(ipv4(ICMP, struct.pack(">BBHI", 8, 0, 0, 0))) is not None
