"""SFTP version 3 (draft-ietf-secsh-filexfer-02) as values: bytes in, requests out; replies in, bytes out.

Sans-IO. :class:`PacketReader` cuts the byte stream of a channel into packets; :func:`parse` makes one request of one
packet; the ``*_reply`` functions make packets. Extensions are the OpenSSH ones that an object store can serve. A
request this module does not know becomes :class:`Unknown`, to be answered "operation unsupported".
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from limen.kernel.errors import Malformed

VERSION: Final = 3
MAX_PACKET_BYTES: Final = 256 * 1024 + 1024
MAX_DATA_BYTES: Final = 255 * 1024
"""What ``limits@openssh.com`` promises for one READ or WRITE."""
MAX_OPEN_HANDLES: Final = 64


class Status(IntEnum):
    """SSH_FX codes of version 3."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag(IntEnum):
    """SSH_FXF bits."""

    READ = 1
    WRITE = 2
    APPEND = 4
    CREAT = 8
    TRUNC = 16
    EXCL = 32


_SIZE, _UIDGID, _PERMISSIONS, _TIMES, _EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000


@dataclass(frozen=True, slots=True)
class Attributes:
    """File attributes; ``None`` means not given. Times are Unix seconds."""

    size: int | None = None
    mode: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """One entry of a NAME reply."""

    name: bytes
    longname: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Init:
    version: int


@dataclass(frozen=True, slots=True)
class Open:
    id: int
    path: bytes
    flags: int


@dataclass(frozen=True, slots=True)
class Close:
    id: int
    handle: bytes


@dataclass(frozen=True, slots=True)
class Read:
    id: int
    handle: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Write:
    id: int
    handle: bytes
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT and LSTAT: there are no links here, so they mean the same."""

    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class FStat:
    id: int
    handle: bytes


@dataclass(frozen=True, slots=True)
class SetStat:
    id: int
    path: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class FSetStat:
    id: int
    handle: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class OpenDir:
    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class ReadDir:
    id: int
    handle: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class MkDir:
    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class RmDir:
    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class RealPath:
    id: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Rename:
    """``overwrite`` is true for ``posix-rename@openssh.com``."""

    id: int
    old: bytes
    new: bytes
    overwrite: bool


@dataclass(frozen=True, slots=True)
class StatVfs:
    """Of a path (``statvfs@openssh.com``) or of an open handle (``fstatvfs@openssh.com``)."""

    id: int
    path: bytes | None
    handle: bytes | None


@dataclass(frozen=True, slots=True)
class FSync:
    id: int
    handle: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    id: int


@dataclass(frozen=True, slots=True)
class Unknown:
    id: int


Request = (
    Init
    | Open
    | Close
    | Read
    | Write
    | Stat
    | FStat
    | SetStat
    | FSetStat
    | OpenDir
    | ReadDir
    | Remove
    | MkDir
    | RmDir
    | RealPath
    | Rename
    | StatVfs
    | FSync
    | Limits
    | Unknown
)

EXTENSIONS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
)


class PacketReader:
    """Cuts a byte stream into packets; holds at most one unfinished packet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add what arrived; return the packets that are now whole (type byte first, length cut off).

        Raises:
            Malformed: when a packet announces more than :data:`MAX_PACKET_BYTES` or nothing at all.
        """
        buffer = self._buffer
        buffer += data
        packets: list[bytes] = []
        position, size = 0, len(buffer)
        while size - position >= 4:
            (length,) = struct.unpack_from(">I", buffer, position)
            if not 1 <= length <= MAX_PACKET_BYTES:
                raise Malformed("an SFTP packet has an impossible length")
            if size - position - 4 < length:
                break
            packets.append(bytes(buffer[position + 4 : position + 4 + length]))
            position += 4 + length
        if position:
            del buffer[:position]
        return packets


class _Fields:
    """Reads the fields of one packet in order."""

    __slots__ = ("_data", "_position")

    def __init__(self, packet: bytes) -> None:
        self._data = memoryview(packet)
        self._position = 1

    def _take(self, count: int) -> memoryview:
        end = self._position + count
        if end > len(self._data):
            raise Malformed("an SFTP packet is cut short")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def view(self) -> memoryview:
        return self._take(self.u32())

    def string(self) -> bytes:
        return bytes(self.view())

    def attributes(self) -> Attributes:
        flags = self.u32()
        size = self.u64() if flags & _SIZE else None
        if flags & _UIDGID:
            self._take(8)
        mode = self.u32() if flags & _PERMISSIONS else None
        mtime = None
        if flags & _TIMES:
            self._take(4)
            mtime = self.u32()
        if flags & _EXTENDED:
            for _ in range(min(self.u32(), 64)):
                self.view()
                self.view()
        return Attributes(size, mode, mtime)


def parse(packet: bytes) -> Request:
    """Make a request of one packet.

    Raises:
        Malformed: when fields are missing or cut short. The session cannot go on after that.
    """
    fields = _Fields(packet)
    kind, number = packet[0], fields.u32()
    if kind == 1:
        return Init(number)
    reader = _PLAIN.get(kind)
    if reader is not None:
        return reader(number, fields)
    if kind == 200:
        extension = _EXTENDED_REQUESTS.get(fields.string())
        if extension is not None:
            return extension(number, fields)
    return Unknown(number)


_Maker = Callable[[int, _Fields], Request]

_PLAIN: Final[dict[int, _Maker]] = {
    3: lambda i, f: Open(i, f.string(), f.u32()),
    4: lambda i, f: Close(i, f.string()),
    5: lambda i, f: Read(i, f.string(), f.u64(), f.u32()),
    6: lambda i, f: Write(i, f.string(), f.u64(), f.view()),
    7: lambda i, f: Stat(i, f.string()),
    8: lambda i, f: FStat(i, f.string()),
    9: lambda i, f: SetStat(i, f.string(), f.attributes()),
    10: lambda i, f: FSetStat(i, f.string(), f.attributes()),
    11: lambda i, f: OpenDir(i, f.string()),
    12: lambda i, f: ReadDir(i, f.string()),
    13: lambda i, f: Remove(i, f.string()),
    14: lambda i, f: MkDir(i, f.string()),
    15: lambda i, f: RmDir(i, f.string()),
    16: lambda i, f: RealPath(i, f.string()),
    17: lambda i, f: Stat(i, f.string()),
    18: lambda i, f: Rename(i, f.string(), f.string(), overwrite=False),
}
_EXTENDED_REQUESTS: Final[dict[bytes, _Maker]] = {
    b"posix-rename@openssh.com": lambda i, f: Rename(i, f.string(), f.string(), overwrite=True),
    b"statvfs@openssh.com": lambda i, f: StatVfs(i, f.string(), None),
    b"fstatvfs@openssh.com": lambda i, f: StatVfs(i, None, f.string()),
    b"fsync@openssh.com": lambda i, f: FSync(i, f.string()),
    b"lsetstat@openssh.com": lambda i, f: SetStat(i, f.string(), f.attributes()),
    b"limits@openssh.com": lambda i, _f: Limits(i),
}


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def _attributes(attributes: Attributes) -> bytes:
    flags, body = 0, b""
    if attributes.size is not None:
        flags |= _SIZE
        body += struct.pack(">Q", attributes.size)
    if attributes.mode is not None:
        flags |= _PERMISSIONS
        body += struct.pack(">I", attributes.mode)
    if attributes.mtime is not None:
        flags |= _TIMES
        moment = max(0, min(attributes.mtime, 0xFFFFFFFF))
        body += struct.pack(">II", moment, moment)
    return struct.pack(">I", flags) + body


def version_reply() -> bytes:
    """The answer to INIT: version 3 and the extensions."""
    body = struct.pack(">I", VERSION) + b"".join(_string(n) + _string(v) for n, v in EXTENSIONS)
    return _packet(2, body)


def status_reply(number: int, status: Status, message: str = "") -> bytes:
    """A STATUS packet; ``message`` is shown by most clients."""
    return _packet(101, struct.pack(">II", number, status) + _string(message.encode()) + _string(b"en"))


def handle_reply(number: int, handle: bytes) -> bytes:
    """A HANDLE packet."""
    return _packet(102, struct.pack(">I", number) + _string(handle))


def data_reply(number: int, data: bytes | memoryview) -> bytes:
    """A DATA packet, built in one go: this is the hot path of a download."""
    return b"".join((struct.pack(">IBII", len(data) + 9, 103, number, len(data)), data))


def name_reply(number: int, names: list[Name]) -> bytes:
    """A NAME packet."""
    body = [struct.pack(">II", number, len(names))]
    body += [_string(n.name) + _string(n.longname) + _attributes(n.attributes) for n in names]
    return _packet(104, b"".join(body))


def attributes_reply(number: int, attributes: Attributes) -> bytes:
    """An ATTRS packet."""
    return _packet(105, struct.pack(">I", number) + _attributes(attributes))


def limits_reply(number: int) -> bytes:
    """The answer to ``limits@openssh.com``."""
    body = struct.pack(">IQQQQ", number, MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_OPEN_HANDLES)
    return _packet(201, body)


def statvfs_reply(number: int, total_bytes: int, free_bytes: int) -> bytes:
    """The answer to ``statvfs@openssh.com`` in blocks of 4 KiB."""
    block = 4096
    total, free = total_bytes // block, free_bytes // block
    files = 1 << 32
    body = struct.pack(">I11Q", number, block, block, total, free, free, files, files, files, 0, 2, 255)
    return _packet(201, body)
