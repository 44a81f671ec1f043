"""Read the headers of IPv4 packets, and build the answers that tell a program that its packet goes nowhere. Pure.

References: RFC 791 (IPv4), RFC 792 and 1812 section 5.2.7.1 (ICMP destination unreachable, code 13: communication
administratively prohibited), RFC 9293 (TCP).
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ICMP, TCP, UDP = 1, 6, 17
HOST_UNREACHABLE = 1
PROHIBITED = 13

_MIN_HEADER = 20
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet that a program on this host sent. Ports are 0 for protocols that have none."""

    source: int
    destination: int
    protocol: int
    destination_port: int
    data: bytes


def parse(data: bytes) -> Packet | None:
    """Read a packet; None for what is not whole IPv4 (IPv6 chatter of the kernel, later fragments, garbage)."""
    if len(data) < _MIN_HEADER or data[0] >> 4 != 4:
        return None
    header = (data[0] & 0xF) * 4
    total, fragment = int.from_bytes(data[2:4], "big"), int.from_bytes(data[6:8], "big")
    if header < _MIN_HEADER or total < header or total > len(data) or fragment & 0x1FFF:
        return None
    protocol = data[9]
    port = 0
    if protocol in (TCP, UDP):
        if total < header + 4:
            return None
        port = int.from_bytes(data[header + 2 : header + 4], "big")
    source, destination = struct.unpack(">II", data[12:20])
    return Packet(source, destination, protocol, port, data[:total])


def refusal(packet: Packet, code: int) -> bytes | None:
    """The answer to a packet that is not let through; None when there must be none.

    A TCP segment of an open connection is answered with a reset, since programs ignore ICMP there; anything else with
    ICMP destination unreachable. ICMP errors are never answered (RFC 1122 section 3.2.2).
    """
    header = (packet.data[0] & 0xF) * 4
    payload = packet.data[header:]
    if packet.protocol == TCP and len(payload) >= 20:
        flags = payload[13]
        if flags & _RST:
            return None
        if not flags & _SYN:
            return _reset(packet, payload)
    if packet.protocol == ICMP and (not payload or payload[0] in _ICMP_ERRORS):
        return None
    return _unreachable(packet, code, header)


def _unreachable(packet: Packet, code: int, header: int) -> bytes:
    quoted = packet.data[: header + 8]
    message = struct.pack(">BBHI", 3, code, 0, 0) + quoted
    message = struct.pack(">BBHI", 3, code, checksum(message), 0) + quoted
    # It comes from the address that the program wanted: the only one from which the route back is certain.
    return _ip(packet.destination, packet.source, ICMP, message)


def _reset(packet: Packet, segment: bytes) -> bytes:
    source_port, destination_port, sequence, acknowledged = struct.unpack(">HHII", segment[:12])
    offset, flags = segment[12] >> 4, segment[13]
    if flags & _ACK:
        fields = (acknowledged, 0, _RST)
    else:
        length = len(segment) - offset * 4 + bool(flags & _FIN)
        fields = (0, (sequence + length) & 0xFFFFFFFF, _RST | _ACK)
    head = struct.pack(">HHIIBBHHH", destination_port, source_port, fields[0], fields[1], 5 << 4, fields[2], 0, 0, 0)
    pseudo = struct.pack(">IIBBH", packet.destination, packet.source, 0, TCP, len(head))
    summed = checksum(pseudo + head)
    return _ip(packet.destination, packet.source, TCP, head[:16] + struct.pack(">H", summed) + head[18:])


def _ip(source: int, destination: int, protocol: int, payload: bytes) -> bytes:
    def build(summed: int) -> bytes:
        total = _MIN_HEADER + len(payload)
        return struct.pack(">BBHHHBBHII", 0x45, 0, total, 0, 0x4000, 64, protocol, summed, source, destination)

    return build(checksum(build(0))) + payload


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of ``data``; 0 over data that holds a right one."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address_text(number: int) -> str:
    """An address as people write it."""
    return str(IPv4Address(number))
