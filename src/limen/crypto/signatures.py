"""Ed25519 signatures (RFC 8032), each bound to one purpose.

What is signed is ``"limen.sign" , purpose, message`` (length-prefixed), so a signature made for one purpose
never verifies for another even if the two shared a key. A stand-alone verifier rebuilds exactly
``signed_bytes``.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import BadKey, BadProof

SIGNATURE_BYTES = 64


def generate_keypair() -> tuple[bytes, bytes]:
    """A fresh key pair: (private seed, public), 32 raw bytes each."""
    private = Ed25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def public_of(private_key: bytes) -> bytes:
    """The public half of a raw private key.

    Raises:
        BadKey: when it is not 32 bytes.
    """
    return _private(private_key).public_key().public_bytes_raw()


def signed_bytes(purpose: str, message: bytes) -> bytes:
    """The bytes that the signature covers: three parts, each after its length in 4 big-endian bytes."""
    return length_prefixed(b"limen.sign", purpose, message)


def sign(private_key: bytes, purpose: str, message: bytes) -> bytes:
    """Sign ``message`` for ``purpose``; 64 bytes.

    Raises:
        BadKey: when ``private_key`` is not 32 bytes.
    """
    return _private(private_key).sign(signed_bytes(purpose, message))


def verify(public_key: bytes, purpose: str, message: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        BadProof: when it does not verify.
        BadKey: when ``public_key`` is not an Ed25519 key.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise BadKey("an Ed25519 public key has 32 bytes") from None
    try:
        key.verify(signature, signed_bytes(purpose, message))
    except InvalidSignature:
        raise BadProof("signature does not verify", fix="check the public key and the signed file") from None


def _private(private_key: bytes) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(private_key)
    except ValueError:
        raise BadKey("an Ed25519 private key has 32 bytes") from None
