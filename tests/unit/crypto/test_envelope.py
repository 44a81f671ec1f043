"""Values with a key of their own."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto import envelope
from limen.crypto.aead import AeadKey, Cell, new_key
from limen.crypto.errors import Unreadable

PARENT = AeadKey(bytes(16), bytes(range(32)))
CELL = Cell(UUID(int=1), "secrets", "value", UUID(int=2), 3)
GOLDEN = (
    "010101000000000000000000000000000000006497615b1f79e5f0e4cce3bcd43b5b4e99262b2772765d0e3407bade937aab0c2288f76f54"
    "8005a5d65e978fc2d7775132539cfd426f0a155163434a01011fd42856d8ed111b0f70f0fc0b8ab61bbc5bb5ecc15821f5d81b8056513133"
    "02eb23ce89dff2a6ae286d246d8532362d7863dd"
)


@pytest.mark.row("T3")
def test_golden_vector() -> None:
    assert envelope.open_envelope(PARENT, CELL, bytes.fromhex(GOLDEN)) == b"hunter2"


@given(st.binary(max_size=500))
def test_round_trip(plaintext: bytes) -> None:
    blob = envelope.seal(PARENT, CELL, plaintext)
    assert envelope.open_envelope(PARENT, CELL, blob) == plaintext
    assert len(blob) == len(plaintext) + envelope.ENVELOPE_OVERHEAD_BYTES
    assert envelope.parent_key_id(blob) == PARENT.key_id


def test_each_value_has_its_own_key() -> None:
    first, second = envelope.seal(PARENT, CELL, b"x"), envelope.seal(PARENT, CELL, b"x")
    cut = 1 + envelope.WRAPPED_BYTES
    with pytest.raises(Unreadable):
        envelope.open_envelope(PARENT, CELL, first[:cut] + second[cut:])


@pytest.mark.row("T3")
@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(CELL, tenant_id=UUID(int=9)),
        replace(CELL, row_id=UUID(int=9)),
        replace(CELL, revision=4),
        replace(CELL, column="other"),
    ],
)
def test_it_does_not_open_elsewhere(elsewhere: Cell) -> None:
    with pytest.raises(Unreadable):
        envelope.open_envelope(PARENT, elsewhere, envelope.seal(PARENT, CELL, b"x"))


def test_it_does_not_open_under_another_parent() -> None:
    with pytest.raises(Unreadable):
        envelope.open_envelope(AeadKey(bytes(16), new_key()), CELL, envelope.seal(PARENT, CELL, b"x"))


def test_damage_is_noticed() -> None:
    blob = envelope.seal(PARENT, CELL, b"secret")
    for position in range(len(blob)):
        damaged = blob[:position] + bytes((blob[position] ^ 0x10,)) + blob[position + 1 :]
        with pytest.raises(Unreadable):
            envelope.open_envelope(PARENT, CELL, damaged)
        with pytest.raises(Unreadable):
            envelope.open_envelope(PARENT, CELL, blob[:position])
