"""The blob format of every sealed value: authenticated encryption bound to the place of the value.

Layout (fixed by golden vectors; a change needs a new version number)::

    version (1) | algorithm (1) | key id (16) | nonce (12) | ciphertext (n) | tag (16)

Associated data is length-prefixed: ``label, version|algorithm, place..., key id``. The place of a value is
a :class:`Cell` (tenant, table, column, row id, revision); the place of a wrapped key is a :class:`KeySlot`
(tenant, purpose, id of the wrapped key), and the key id of the blob is that of the parent key. A blob moved
to any other place, or opened with any other key, raises :class:`~limen.crypto.errors.Unreadable`.

Rules: nonces are 96 random bits, so one AES-GCM key seals at most 2**32 values (NIST SP 800-38D section
8.3); a data key is rotated long before. A reader finds the key by ``key_id_of`` under its own tenant, never
globally.
"""

import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import BadKey, Unreadable

VERSION = 1
KEY_BYTES = 32
KEY_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 2 + KEY_ID_BYTES + NONCE_BYTES
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES


class Algorithm(IntEnum):
    """The second byte of a blob."""

    AES_256_GCM = 1
    AES_256_GCM_SIV = 2  # RFC 8452: a repeated nonce reveals only equality


class Place(Protocol):
    """Where a ciphertext belongs; decides its associated data."""

    def associated(self, head: bytes, key_id: bytes) -> bytes:
        """The associated data of a blob whose first two bytes are ``head``, sealed under ``key_id``."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One value: a column of a row of a tenant, at a revision (0 where values have no revisions)."""

    tenant_id: UUID
    table: str
    column: str
    row_id: UUID
    revision: int = 0

    def associated(self, head: bytes, key_id: bytes) -> bytes:
        """See :class:`Place`."""
        revision = self.revision.to_bytes(8, "big")
        return length_prefixed(
            b"limen.cell", head, self.tenant_id, self.table, self.column, self.row_id, revision, key_id
        )


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One wrapped key. ``tenant_id`` is None for keys of the platform."""

    tenant_id: UUID | None
    purpose: str
    key_id: bytes

    def associated(self, head: bytes, key_id: bytes) -> bytes:
        """See :class:`Place`; ``key_id`` is the parent's."""
        tenant = b"" if self.tenant_id is None else self.tenant_id.bytes
        return length_prefixed(b"limen.key", head, tenant, self.purpose, self.key_id, key_id)


def new_key() -> bytes:
    """Fresh random key material (32 bytes)."""
    return os.urandom(KEY_BYTES)


def new_key_id() -> bytes:
    """A fresh random key id (16 bytes)."""
    return os.urandom(KEY_ID_BYTES)


def key_id_of(blob: bytes) -> bytes:
    """The id of the key that sealed ``blob`` (not yet authenticated: only good for looking the key up).

    Raises:
        Unreadable: when ``blob`` is too short or of an unknown version.
    """
    if len(blob) < OVERHEAD_BYTES or blob[0] != VERSION:
        raise Unreadable
    return bytes(blob[2 : 2 + KEY_ID_BYTES])


class AeadKey:
    """A data key ready for use; keep one per key, setting it up costs more than sealing a short value."""

    __slots__ = ("_gcm", "_siv", "algorithm", "key_id")

    def __init__(self, key_id: bytes, key: bytes, algorithm: Algorithm = Algorithm.AES_256_GCM) -> None:
        """``algorithm`` is for sealing; opening follows the blob.

        Raises:
            BadKey: on a wrong length of ``key`` (32) or ``key_id`` (16).
        """
        if len(key) != KEY_BYTES or len(key_id) != KEY_ID_BYTES:
            raise BadKey("a data key has 32 bytes and its id 16")
        self.key_id = bytes(key_id)
        self.algorithm = algorithm
        self._gcm = AESGCM(key)
        self._siv = AESGCMSIV(key)

    def __repr__(self) -> str:
        return f"AeadKey({self.key_id.hex()})"

    def seal(self, place: Place, plaintext: bytes) -> bytes:
        """Encrypt ``plaintext`` for ``place`` under a fresh random nonce."""
        return self.seal_with_nonce(place, plaintext, os.urandom(NONCE_BYTES))

    def seal_with_nonce(self, place: Place, plaintext: bytes, nonce: bytes) -> bytes:
        """Encrypt with a given nonce; for golden vectors only, since a repeated nonce breaks AES-GCM."""
        head = bytes((VERSION, self.algorithm))
        sealed = self._cipher(self.algorithm).encrypt(nonce, plaintext, place.associated(head, self.key_id))
        return head + self.key_id + nonce + sealed

    def open(self, place: Place, blob: bytes) -> bytes:
        """Decrypt ``blob``, which must have been sealed for ``place`` under this key.

        Raises:
            Unreadable: whatever is wrong with it.
        """
        if key_id_of(blob) != self.key_id:
            raise Unreadable
        head = bytes(blob[:2])
        try:
            algorithm = Algorithm(blob[1])
        except ValueError:
            raise Unreadable from None
        nonce = blob[2 + KEY_ID_BYTES : HEADER_BYTES]
        try:
            return self._cipher(algorithm).decrypt(nonce, blob[HEADER_BYTES:], place.associated(head, self.key_id))
        except InvalidTag:
            raise Unreadable from None

    def _cipher(self, algorithm: Algorithm) -> AESGCM | AESGCMSIV:
        return self._gcm if algorithm is Algorithm.AES_256_GCM else self._siv
