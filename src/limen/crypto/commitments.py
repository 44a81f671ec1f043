"""Salted commitments and keyed tags.

A commitment stands in a record for a value that may later be erased: without the salt nobody can guess the
value, with both anybody can check it. A tag makes equal values findable to whoever holds the key, and to
nobody else.
"""

import hashlib
import hmac
import os

from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import BadProof

SALT_BYTES = 32
DIGEST_BYTES = 32


def new_salt() -> bytes:
    """Fresh randomness for one commitment (32 bytes); destroying it makes the value unguessable."""
    return os.urandom(SALT_BYTES)


def commit(label: str, salt: bytes, value: bytes) -> bytes:
    """Commit to ``value``: SHA-256 over ``"limen.commit", label, salt, value``, length-prefixed."""
    return hashlib.sha256(length_prefixed(b"limen.commit", label, salt, value)).digest()


def check(commitment: bytes, label: str, salt: bytes, value: bytes) -> None:
    """Check an opened commitment.

    Raises:
        BadProof: when ``salt`` and ``value`` do not open it.
    """
    if not hmac.compare_digest(commitment, commit(label, salt, value)):
        raise BadProof("commitment does not open to this value")


def tag(key: bytes, kind: str, value: str) -> bytes:
    """A 32-byte HMAC-SHA256 by which equal values of one kind are found; kinds never collide."""
    return hmac.digest(key, length_prefixed(b"limen.tag", kind, value), "sha256")
