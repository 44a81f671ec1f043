"""X25519 keys of WireGuard: made on the device, kept in memory, or in a file that only its owner can read.

On the wire and in configuration they are base64 (44 characters), inside Limen 32 raw bytes.
"""

import base64
import binascii
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from limen.kernel.errors import Malformed

KEY_BYTES = 32


def generate_private_key() -> bytes:
    """A fresh private key from the system's randomness."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private_key: bytes) -> bytes:
    """The public key that belongs to ``private_key``."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def key_text(key: bytes) -> str:
    """The base64 form."""
    return base64.b64encode(key).decode("ascii")


def parse_key(text: str) -> bytes:
    """Read the base64 form.

    Raises:
        Malformed: when it is not base64 of exactly 32 bytes.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise Malformed("this is not a WireGuard key", fix="a key is 32 bytes in base64")
    return key


def interface_name(agent_id: UUID, prefix: str = "lmn") -> str:
    """An interface name that no other agent of this machine has: prefix and the 32 random last bits of the id.

    The first bits of a UUIDv7 are its time, equal for all agents enrolled in the same minute.
    """
    return f"{prefix}{agent_id.hex[-8:]}"
