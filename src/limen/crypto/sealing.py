"""Sealing to a public key: HPKE (RFC 9180) base mode, DHKEM(X25519), HKDF-SHA256, AES-256-GCM.

Layout: ``version (1) | encapsulated key (32) | ciphertext | tag (16)``. The context goes into HPKE's
``info``, so a blob opens only under exactly the context it was sealed for. Anyone can seal to a public key:
sealing hides, it does not say who sealed.

Contexts in use: ``context("intake", tenant, connection)`` for a storage credential on its way in,
``context("storage", tenant, connection, grant)`` for one on its way to a file agent.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from limen.crypto.encoding import Piece, length_prefixed
from limen.crypto.errors import BadKey, Unreadable

VERSION = 1
KEY_BYTES = 32
OVERHEAD_BYTES = 1 + 32 + 16

_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def context(label: str, *pieces: Piece) -> bytes:
    """What a sealed blob is bound to: a label and ids, length-prefixed."""
    return length_prefixed(b"limen.seal", label, *pieces)


def generate_keypair() -> tuple[bytes, bytes]:
    """A fresh X25519 key pair: (private, public), 32 raw bytes each."""
    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def public_of(private_key: bytes) -> bytes:
    """The public half of a raw private key.

    Raises:
        BadKey: when it is not 32 bytes.
    """
    return _private(private_key).public_key().public_bytes_raw()


def check_public_key(public_key: bytes) -> None:
    """Accept only a key that something can be sealed to.

    Raises:
        BadKey: on a wrong length or a point of small order (RFC 7748 section 6.1).
    """
    seal_to(public_key, b"", b"")


def seal_to(public_key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt ``plaintext`` so that only the holder of the private key can read it, under ``context``.

    Raises:
        BadKey: when ``public_key`` is not a usable X25519 key.
    """
    try:
        key = X25519PublicKey.from_public_bytes(public_key)
        return bytes((VERSION,)) + _suite.encrypt(plaintext, key, info=context)
    except ValueError:
        raise BadKey("not a usable X25519 public key", fix="make a new key pair") from None


def open_sealed(private_key: bytes, blob: bytes, context: bytes) -> bytes:
    """Decrypt what was sealed to this key under ``context``.

    Raises:
        Unreadable: whatever is wrong with the blob.
        BadKey: when ``private_key`` is not 32 bytes.
    """
    key = _private(private_key)
    if len(blob) < OVERHEAD_BYTES or blob[0] != VERSION:
        raise Unreadable("sealed message")
    try:
        return _suite.decrypt(blob[1:], key, info=context)
    except (InvalidTag, ValueError):
        raise Unreadable("sealed message") from None


def _private(private_key: bytes) -> X25519PrivateKey:
    try:
        return X25519PrivateKey.from_private_bytes(private_key)
    except ValueError:
        raise BadKey("an X25519 private key has 32 bytes") from None
