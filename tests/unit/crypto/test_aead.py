"""The blob format: golden vectors made with bare AES outside this package, swaps, damage."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto.aead import (
    HEADER_BYTES,
    OVERHEAD_BYTES,
    AeadKey,
    Algorithm,
    Cell,
    KeySlot,
    key_id_of,
    new_key,
    new_key_id,
)
from limen.crypto.errors import BadKey, Unreadable

KEY = bytes(range(32))
KEY_ID = bytes(range(0x40, 0x50))
NONCE = bytes(range(0xA0, 0xAC))
TENANT = UUID("018f0000-0000-7000-8000-00000000000a")
ROW = UUID("018f0000-0000-7000-8000-0000000000b1")
CELL = Cell(TENANT, "people", "email", ROW, 7)
PLAINTEXT = b"ada@example.org"
HEAD = "404142434445464748494a4b4c4d4e4fa0a1a2a3a4a5a6a7a8a9aaab"
GOLDEN = {
    Algorithm.AES_256_GCM: "0101" + HEAD + "877c1d6d20b363d21209e2fd6808a7d24d204d693e927643ffbdb593f66881",
    Algorithm.AES_256_GCM_SIV: "0102" + HEAD + "f0c276fe76f3578fb2c50c03a3be5972298d55cf2d5a9f1680ae0a96e83e0c",
}
GOLDEN_SLOT = (
    "0101" + HEAD + "e6187c2d45cb02bf626587d3077ac0de70ac591092b7426c9c0e26867fab7501f4892ead7f6296a749f1f371bd0c9daf"
)
GOLDEN_PLATFORM_SLOT = (
    "0101" + HEAD + "e6187c2d45cb02bf626587d3077ac0de70ac591092b7426c9c0e26867fab75016ed1e58729bf9e734090d3f287a0a77b"
)
algorithms = st.sampled_from(list(Algorithm))


@pytest.mark.row("T3")
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_golden_vector_of_a_cell(algorithm: Algorithm) -> None:
    key = AeadKey(KEY_ID, KEY, algorithm)
    assert key.seal_with_nonce(CELL, PLAINTEXT, NONCE).hex() == GOLDEN[algorithm]
    assert AeadKey(KEY_ID, KEY).open(CELL, bytes.fromhex(GOLDEN[algorithm])) == PLAINTEXT


@pytest.mark.row("T3")
@pytest.mark.parametrize(
    ("slot", "golden"),
    [
        (KeySlot(TENANT, "fields", bytes(16)), GOLDEN_SLOT),
        (KeySlot(None, "x", bytes(16)), GOLDEN_PLATFORM_SLOT),
    ],
)
def test_golden_vector_of_a_wrapped_key(slot: KeySlot, golden: str) -> None:
    key = AeadKey(KEY_ID, KEY)
    assert key.seal_with_nonce(slot, bytes(32), NONCE).hex() == golden
    assert key.open(slot, bytes.fromhex(golden)) == bytes(32)


@given(st.binary(max_size=300), algorithms, st.text(max_size=20), st.integers(0, 2**63 - 1))
def test_what_is_sealed_opens_again(plaintext: bytes, algorithm: Algorithm, column: str, revision: int) -> None:
    key = AeadKey(new_key_id(), new_key(), algorithm)
    cell = Cell(TENANT, "t", column, ROW, revision)
    blob = key.seal(cell, plaintext)
    assert key.open(cell, blob) == plaintext
    assert len(blob) == len(plaintext) + OVERHEAD_BYTES
    assert key_id_of(blob) == key.key_id


def test_nonces_do_not_repeat() -> None:
    key = AeadKey(KEY_ID, KEY)
    assert len({key.seal(CELL, b"")[18:HEADER_BYTES] for _ in range(1000)}) == 1000


@pytest.mark.row("T3")
@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(CELL, tenant_id=ROW),
        replace(CELL, table="groups"),
        replace(CELL, column="name"),
        replace(CELL, row_id=TENANT),
        replace(CELL, revision=8),
        replace(CELL, table="peoplee", column="mail"),
        replace(CELL, table="", column="peopleemail"),
        KeySlot(TENANT, "people", KEY_ID),
    ],
)
def test_a_blob_does_not_open_elsewhere(algorithm: Algorithm, elsewhere: Cell | KeySlot) -> None:
    key = AeadKey(KEY_ID, KEY, algorithm)
    with pytest.raises(Unreadable):
        key.open(elsewhere, key.seal(CELL, PLAINTEXT))


@pytest.mark.row("T3")
@pytest.mark.parametrize(
    "slot",
    [
        KeySlot(ROW, "fields", NONCE),
        KeySlot(TENANT, "vault", NONCE),
        KeySlot(TENANT, "fields", KEY),
        KeySlot(None, "fields", NONCE),
    ],
)
def test_a_wrapped_key_does_not_open_in_another_slot(slot: KeySlot) -> None:
    key = AeadKey(KEY_ID, KEY)
    wrapped = key.seal(KeySlot(TENANT, "fields", NONCE), new_key())
    with pytest.raises(Unreadable):
        key.open(slot, wrapped)


@pytest.mark.row("T3")
def test_another_key_does_not_open_it() -> None:
    blob = AeadKey(KEY_ID, KEY).seal(CELL, PLAINTEXT)
    with pytest.raises(Unreadable):
        AeadKey(KEY_ID, new_key()).open(CELL, blob)
    with pytest.raises(Unreadable):
        AeadKey(new_key_id(), KEY).open(CELL, blob)


def test_the_key_id_is_authenticated() -> None:
    other_id = new_key_id()
    blob = AeadKey(KEY_ID, KEY).seal(CELL, PLAINTEXT)
    renamed = blob[:2] + other_id + blob[18:]
    with pytest.raises(Unreadable):
        AeadKey(other_id, KEY).open(CELL, renamed)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_every_flipped_bit_and_every_truncation_is_noticed(algorithm: Algorithm) -> None:
    key = AeadKey(KEY_ID, KEY, algorithm)
    blob = key.seal(CELL, PLAINTEXT)
    for position in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(Unreadable):
            key.open(CELL, bytes(damaged))
    for length in range(len(blob)):
        with pytest.raises(Unreadable):
            key.open(CELL, blob[:length])


@given(st.binary(max_size=200))
def test_noise_raises_one_error(noise: bytes) -> None:
    key = AeadKey(KEY_ID, KEY)
    for blob in (noise, b"\x01" + noise, b"\x01\x01" + KEY_ID + noise, b"\x01\x02" + KEY_ID + noise):
        with pytest.raises(Unreadable):
            key.open(CELL, blob)


@pytest.mark.parametrize(("key_id", "key"), [(b"", KEY), (KEY_ID, KEY[:31]), (KEY_ID, KEY[:16]), (KEY_ID + b"x", KEY)])
def test_keys_of_a_wrong_length_are_refused(key_id: bytes, key: bytes) -> None:
    with pytest.raises(BadKey):
        AeadKey(key_id, key)


def test_a_key_does_not_show_its_material() -> None:
    assert KEY.hex() not in repr(AeadKey(KEY_ID, KEY))
