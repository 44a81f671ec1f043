"""SFTP packets: cut anywhere, malformed anyhow; never more than a clean refusal."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.edge.sftp import protocol as sftp
from limen.kernel.errors import Malformed


def packet(kind: int, *fields: bytes) -> bytes:
    body = bytes([kind]) + b"".join(fields)
    return len(body).to_bytes(4, "big") + body


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


OPEN = packet(3, u32(7), string(b"/a"), u32(26), u32(0))
WRITE = packet(6, u32(8), string(b"h"), (5).to_bytes(8, "big"), string(b"data"))
RENAME = packet(200, u32(9), string(b"posix-rename@openssh.com"), string(b"a"), string(b"b"))


@given(st.lists(st.integers(1, 40), max_size=60))
def test_packets_survive_any_cutting(cuts: list[int]) -> None:
    stream, reader, found, position = OPEN + WRITE + RENAME, sftp.PacketReader(), [], 0
    for cut in [*cuts, len(stream)]:
        found += reader.feed(stream[position : position + cut])
        position += cut
    requests = [sftp.parse(one) for one in found]
    assert requests[0] == sftp.Open(7, b"/a", 26)
    assert isinstance(requests[1], sftp.Write)
    assert (requests[1].offset, bytes(requests[1].data)) == (5, b"data")
    assert requests[2] == sftp.Rename(9, b"a", b"b", overwrite=True)


@pytest.mark.parametrize("length", [0, sftp.MAX_PACKET_BYTES + 1, 0xFFFFFFFF])
def test_impossible_lengths_are_refused_before_anything_is_kept(length: int) -> None:
    with pytest.raises(Malformed):
        sftp.PacketReader().feed(u32(length) + b"x")


@pytest.mark.parametrize("whole", [OPEN, WRITE, RENAME])
def test_every_shortened_packet_is_malformed(whole: bytes) -> None:
    # The attributes at the end of OPEN are not looked at: an object has none that a client could set.
    body = whole[4:-4] if whole is OPEN else whole[4:]
    for size in range(1, len(body)):
        with pytest.raises(Malformed):
            sftp.parse(body[:size])


@given(st.binary(min_size=1, max_size=80))
def test_any_bytes_are_a_request_or_malformed(body: bytes) -> None:
    try:
        request = sftp.parse(body)
    except Malformed:
        return
    assert isinstance(request, sftp.Request)


@pytest.mark.parametrize("kind", [19, 20, 21, 22, 199, 255])
def test_links_and_unknown_requests_are_unknown(kind: int) -> None:
    assert sftp.parse(bytes([kind]) + u32(3) + string(b"x")) == sftp.Unknown(3)


def test_unknown_extensions_are_unknown() -> None:
    assert sftp.parse(bytes([200]) + u32(4) + string(b"hardlink@openssh.com")) == sftp.Unknown(4)


def test_replies_have_their_length_in_front() -> None:
    for reply in (
        sftp.version_reply(),
        sftp.status_reply(1, sftp.Status.OK),
        sftp.handle_reply(1, b"h"),
        sftp.data_reply(1, b"data"),
        sftp.name_reply(1, [sftp.Name(b"n", b"l", sftp.Attributes(1, 2, 3))]),
        sftp.attributes_reply(1, sftp.Attributes(size=1 << 40)),
        sftp.limits_reply(1),
        sftp.statvfs_reply(1, 1 << 50, 1 << 49),
    ):
        assert struct.unpack_from(">I", reply)[0] == len(reply) - 4


def test_a_full_read_fits_into_a_packet() -> None:
    assert len(sftp.data_reply(1, bytes(sftp.MAX_DATA_BYTES))) <= sftp.MAX_PACKET_BYTES
