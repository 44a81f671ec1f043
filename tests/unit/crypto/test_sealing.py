"""HPKE sealing against an implementation of RFC 9180 written out here from its text."""

import hmac
from hashlib import sha256
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto import sealing
from limen.crypto.errors import BadKey, Unreadable

PRIVATE = bytes(range(32))
PUBLIC = sealing.public_of(PRIVATE)
CONTEXT = sealing.context("storage", UUID(int=1), UUID(int=2), UUID(int=3))
GOLDEN = (
    "01b4e7f42bc1f4f157d763945baa8dae4ebd611ad16edaf1721799317000a8806fec7ef374f2efaf0f60ced956794f408799577950d323e5"
    "1bcfb6"
)


def _extract(salt: bytes, suite: bytes, label: bytes, value: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + value, "sha256")


def _expand(secret: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.new(secret, labelled + b"\x01", sha256).digest()[:length]


def open_by_the_rfc(private_key: bytes, blob: bytes, info: bytes) -> bytes:
    """RFC 9180 sections 4.1, 5.1 and 5.2, base mode, KEM 0x0020, KDF 0x0001, AEAD 0x0002."""
    encapsulated, ciphertext = blob[1:33], blob[33:]
    private = X25519PrivateKey.from_private_bytes(private_key)
    shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    kem = b"KEM" + (0x20).to_bytes(2, "big")
    both = encapsulated + private.public_key().public_bytes_raw()
    secret = _expand(_extract(b"", kem, b"eae_prk", shared), kem, b"shared_secret", both, 32)
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x20, 1, 2))
    schedule = b"\x00" + _extract(b"", suite, b"psk_id_hash", b"") + _extract(b"", suite, b"info_hash", info)
    final = _extract(secret, suite, b"secret", b"")
    key = _expand(final, suite, b"key", schedule, 32)
    nonce = _expand(final, suite, b"base_nonce", schedule, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


def test_golden_blob_opens() -> None:
    assert sealing.open_sealed(PRIVATE, bytes.fromhex(GOLDEN), CONTEXT) == b"credential"


def test_context_encoding_is_fixed() -> None:
    ids = "".join(f"00000010{number:032x}" for number in (1, 2, 3))
    assert CONTEXT.hex() == "0000000a" + b"limen.seal".hex() + "00000007" + b"storage".hex() + ids


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_it_is_hpke(plaintext: bytes, info: bytes) -> None:
    blob = sealing.seal_to(PUBLIC, plaintext, info)
    assert open_by_the_rfc(PRIVATE, blob, info) == plaintext
    assert sealing.open_sealed(PRIVATE, blob, info) == plaintext
    assert len(blob) == len(plaintext) + sealing.OVERHEAD_BYTES


@pytest.mark.row("F3")
@pytest.mark.parametrize(
    "other",
    [
        sealing.context("intake", UUID(int=1), UUID(int=2), UUID(int=3)),
        sealing.context("storage", UUID(int=9), UUID(int=2), UUID(int=3)),
        sealing.context("storage", UUID(int=1), UUID(int=9), UUID(int=3)),
        sealing.context("storage", UUID(int=1), UUID(int=2), UUID(int=9)),
        sealing.context("storage", UUID(int=1), UUID(int=2)),
        b"",
    ],
)
def test_a_blob_is_bound_to_its_context(other: bytes) -> None:
    with pytest.raises(Unreadable):
        sealing.open_sealed(PRIVATE, sealing.seal_to(PUBLIC, b"x", CONTEXT), other)


def test_only_the_holder_of_the_key_can_open() -> None:
    other, _ = sealing.generate_keypair()
    with pytest.raises(Unreadable):
        sealing.open_sealed(other, sealing.seal_to(PUBLIC, b"x", CONTEXT), CONTEXT)


def test_damage_is_noticed() -> None:
    blob = sealing.seal_to(PUBLIC, b"secret", CONTEXT)
    for position in range(len(blob)):
        # Not the top bit of the last byte of the point, which X25519 ignores by its definition (RFC 7748 section 5);
        # HPKE still notices it, because the encapsulated key is part of the key derivation.
        damaged = blob[:position] + bytes((blob[position] ^ 0x80,)) + blob[position + 1 :]
        with pytest.raises(Unreadable):
            sealing.open_sealed(PRIVATE, damaged, CONTEXT)
        with pytest.raises(Unreadable):
            sealing.open_sealed(PRIVATE, blob[:position], CONTEXT)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31)])
def test_unusable_public_keys_are_refused(key: bytes) -> None:
    with pytest.raises(BadKey):
        sealing.check_public_key(key)


def test_unusable_private_keys_are_refused() -> None:
    with pytest.raises(BadKey):
        sealing.open_sealed(b"short", bytes(60), CONTEXT)
