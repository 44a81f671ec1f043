"""Writes in any order become the one stream, or are refused and stay refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.edge.sftp.reassembly import MAX_WAITING, NotSequential, Reassembly


def test_in_order_passes_straight_through() -> None:
    order = Reassembly()
    assert order.write(0, b"ab") == [b"ab"]
    assert order.write(2, b"c") == [b"c"]
    assert order.finish() == 3


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=40), st.randoms(use_true_random=False))
def test_any_order_within_the_window_gives_the_same_bytes(data: bytes, sizes: list[int], random: object) -> None:
    pieces, position = [], 0
    for size in sizes:
        if position < len(data):
            pieces.append((position, data[position : position + size]))
            position += size
    whole = data[:position]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    order, out = Reassembly(window=1000), b""
    for offset, piece in pieces:
        out += b"".join(bytes(part) for part in order.write(offset, piece))
        assert order.end == len(out)
    assert out == whole
    assert order.finish() == len(whole)


@given(st.lists(st.tuples(st.integers(0, 30), st.binary(min_size=1, max_size=8)), max_size=20))
def test_whatever_comes_no_byte_leaves_twice_or_changes(writes: list[tuple[int, bytes]]) -> None:
    order, out, said = Reassembly(window=40), b"", dict[int, int]()
    try:
        for offset, data in writes:
            out += b"".join(bytes(part) for part in order.write(offset, data))
            for index, byte in enumerate(data):
                assert offset + index not in said
                said[offset + index] = byte
    except NotSequential:
        with pytest.raises(NotSequential):
            order.finish()
        with pytest.raises(NotSequential):
            order.write(order.end, b"x")
        return
    assert out == bytes(said[index] for index in range(len(out)))


def test_a_hole_a_far_write_and_a_change_are_refused() -> None:
    hole = Reassembly()
    hole.write(1, b"x")
    with pytest.raises(NotSequential):
        hole.finish()
    with pytest.raises(NotSequential):
        Reassembly(window=10).write(5, b"x" * 11)
    changed = Reassembly()
    changed.write(0, b"abc")
    with pytest.raises(NotSequential):
        changed.write(1, b"B")


def test_many_tiny_pieces_are_bounded() -> None:
    order = Reassembly()
    for index in range(MAX_WAITING):
        order.write(2 * index + 1, b"x")
    with pytest.raises(NotSequential):
        order.write(2 * MAX_WAITING + 1, b"x")


def test_append_takes_any_offset_for_the_end() -> None:
    order = Reassembly(append=True)
    assert order.write(77, b"a") == [b"a"]
    assert order.write(0, b"b") == [b"b"]
    assert order.finish() == 2
