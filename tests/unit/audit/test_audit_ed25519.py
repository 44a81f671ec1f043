"""The verifier's own Ed25519: RFC 8032 section 7.1 vectors, agreement with a real library, strictness."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.audit.verifier import verify

# (public key, message, signature) of RFC 8032 section 7.1, TEST 1, 2, 3 and SHA(abc).
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(key: str, message: str, signature: str) -> None:
    verify.PublicKey(bytes.fromhex(key)).verify(bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_any_changed_byte_is_refused(place: int) -> None:
    key, message, signature = RFC_8032[2]
    damaged = bytearray(bytes.fromhex(signature))
    damaged[place] ^= 1
    with pytest.raises(verify.Wrong):
        verify.PublicKey(bytes.fromhex(key)).verify(bytes.fromhex(message), bytes(damaged))
    with pytest.raises(verify.Wrong):
        verify.PublicKey(bytes.fromhex(key)).verify(b"other", bytes.fromhex(signature))


def test_a_second_form_of_s_is_refused() -> None:
    """S + L satisfies the equation too; accepting it would make signatures malleable."""
    key, message, signature = (bytes.fromhex(part) for part in RFC_8032[1])
    s = int.from_bytes(signature[32:], "little") + verify.L
    with pytest.raises(verify.Wrong, match="canonical"):
        verify.PublicKey(key).verify(message, signature[:32] + s.to_bytes(32, "little"))
    with pytest.raises(verify.Wrong, match="64 bytes"):
        verify.PublicKey(key).verify(message, signature + b"\0")


# Points of order 1, 2, 4 and 8 (all canonical encodings), and encodings of y >= p.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@pytest.mark.parametrize(
    "key", [*SMALL_ORDER, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "ff" * 32]
)
def test_keys_that_verify_anything_are_refused(key: str) -> None:
    with pytest.raises(verify.Wrong):
        verify.PublicKey(bytes.fromhex(key))


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_agrees_with_a_real_library(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key = verify.PublicKey(private.public_key().public_bytes_raw())
    key.verify(message, private.sign(message))
    with pytest.raises(verify.Wrong):
        key.verify(message + b"x", private.sign(message))
