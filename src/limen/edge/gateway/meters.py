"""Read one counting element, or one counter, of an nftables table straight over netlink.

libnftables fetches the whole table before it answers ``get element``: 2 s with 60,000 grants (measured). The
kernel's own message answers in 0.03 ms, and there is little to it (include/uapi/linux/netfilter/nf_tables.h):
header, ``nfgenmsg``, then attributes of type and length; numbers in counters are big-endian.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from limen.edge.gateway.nft import FilterFailed

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8
_GET_ELEMENT, _NEW_ELEMENT = _SUBSYSTEM | 13, _SUBSYSTEM | 12
_GET_OBJECT, _NEW_OBJECT = _SUBSYSTEM | 19, _SUBSYSTEM | 18
_ERROR = 2
_REQUEST = 1
_FAMILY_INET = 1
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_OBJECT_COUNTER = 1
_ENOENT = 2
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter, and the milliseconds after which the element expires (0 when it does not)."""

    packets: int
    bytes: int
    expires_ms: int = 0


class Meters:
    """A netlink socket in the present network namespace, for readings of one table."""

    def __init__(self, table: str) -> None:
        self._table = table.encode() + b"\0"
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def element(self, name: str, mark: int) -> Reading | None:
        """The counting element of ``mark`` in set ``name``; None when there is none.

        Raises:
            FilterFailed: when the kernel answers anything else.
        """
        key = _attribute(1 | _NESTED, _attribute(1, struct.pack("=I", mark)))
        elements = _attribute(3 | _NESTED, _attribute(1 | _NESTED, key))
        answer = self._ask(_GET_ELEMENT, _NEW_ELEMENT, _attribute(2, name.encode() + b"\0") + elements)
        if answer is None:
            return None
        listed = dict(_attributes(dict(_attributes(answer)).get(3, b"")))
        fields = dict(_attributes(listed.get(1, b"")))
        expression = dict(_attributes(fields.get(7, b"")))
        return _reading(expression.get(2, b""), fields.get(5, b""))

    def counter(self, name: str) -> Reading | None:
        """The named counter ``name``; None when there is none.

        Raises:
            FilterFailed: when the kernel answers anything else.
        """
        asked = _attribute(2, name.encode() + b"\0") + _attribute(3, struct.pack(">I", _OBJECT_COUNTER))
        answer = self._ask(_GET_OBJECT, _NEW_OBJECT, asked)
        return None if answer is None else _reading(dict(_attributes(answer)).get(4, b""), b"")

    def _ask(self, kind: int, expected: int, attributes: bytes) -> bytes | None:
        self._sequence += 1
        body = struct.pack(">BBH", _FAMILY_INET, 0, 0) + _attribute(1, self._table) + attributes
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST, self._sequence, 0)
        try:
            self._socket.send(header + body)
            while True:
                data = self._socket.recv(65_536)
                _, found, _, sequence, _ = _HEADER.unpack_from(data)
                if sequence == self._sequence:
                    break
        except OSError as exc:
            raise FilterFailed(f"the kernel does not answer about counters: {exc.strerror or exc}") from exc
        if found == expected:
            return data[_HEADER.size + 4 :]
        if found == _ERROR and -struct.unpack_from("=i", data, _HEADER.size)[0] == _ENOENT:
            return None
        raise FilterFailed("the kernel refused to read a counter")


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _reading(counter: bytes, expires: bytes) -> Reading:
    fields = dict(_attributes(counter))
    counted, packets = (int.from_bytes(fields.get(kind, b""), "big") for kind in (1, 2))
    return Reading(packets, counted, int.from_bytes(expires, "big"))
