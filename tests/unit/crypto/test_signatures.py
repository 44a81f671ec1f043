"""Signatures and commitments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto import commitments, signatures
from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import BadKey, BadProof

# Key of RFC 8032 section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
GOLDEN = (
    "acfc9d1a24e9ce041d948e3ba55469c442b9d1e04793c2be74cd787a7899b06a"
    "c340e8ae4937102241ea55f29a43ff72bb48632f687bb3db2cfa45d173af280e"
)


def test_golden_signature() -> None:
    assert signatures.public_of(SEED) == PUBLIC
    assert signatures.sign(SEED, "receipt", b"m").hex() == GOLDEN
    assert signatures.signed_bytes("receipt", b"m").hex() == "0000000a" + b"limen.sign".hex() + "00000007" + (
        b"receipt".hex() + "00000001" + b"m".hex()
    )


def test_a_signature_verifies_only_for_its_purpose_message_and_key() -> None:
    private, public = signatures.generate_keypair()
    signature = signatures.sign(private, "receipt", b"message")
    signatures.verify(public, "receipt", b"message", signature)
    for key, purpose, message, given_signature in (
        (public, "audit-checkpoint", b"message", signature),
        (public, "receipt", b"messagE", signature),
        (PUBLIC, "receipt", b"message", signature),
        (public, "receipt", b"message", signature[:-1] + bytes((signature[-1] ^ 1,))),
        (public, "receipt", b"message", signature[:-1]),
        (public, "receipt", b"message", b""),
    ):
        with pytest.raises(BadProof):
            signatures.verify(key, purpose, message, given_signature)


def test_bad_keys_are_refused() -> None:
    with pytest.raises(BadKey):
        signatures.sign(b"short", "p", b"m")
    with pytest.raises(BadKey):
        signatures.verify(b"short", "p", b"m", bytes(64))


def test_golden_tag_and_commitment() -> None:
    tag = commitments.tag(bytes(range(32)), "email", "ada@example.org")
    assert tag.hex() == "5588589ba3818979ef7e757cfca450e33f4247e21c0c3a86f293ec1369ae6069"
    commitment = commitments.commit("audit", bytes(32), b"ada@example.org")
    assert commitment.hex() == "22e0e9f23e85ca03ecca58d4d987bda073cba47616c4f49b3d6051f5ecd30c81"


def test_a_commitment_opens_to_one_value_only() -> None:
    salt = commitments.new_salt()
    commitment = commitments.commit("audit", salt, b"value")
    commitments.check(commitment, "audit", salt, b"value")
    for label, used_salt, value in (
        ("other", salt, b"value"),
        ("audit", commitments.new_salt(), b"value"),
        ("audit", salt, b"another"),
    ):
        with pytest.raises(BadProof):
            commitments.check(commitment, label, used_salt, value)


def test_kinds_and_keys_separate_tags() -> None:
    key = bytes(32)
    tags = {
        commitments.tag(key, "email", "x"),
        commitments.tag(key, "address", "x"),
        commitments.tag(key, "emailx", ""),
        commitments.tag(bytes(31) + b"\x01", "email", "x"),
    }
    assert len(tags) == 4


@given(st.lists(st.binary(max_size=8), max_size=5), st.lists(st.binary(max_size=8), max_size=5))
def test_the_encoding_is_unambiguous(first: list[bytes], second: list[bytes]) -> None:
    assert (length_prefixed(*first) == length_prefixed(*second)) == (first == second)
