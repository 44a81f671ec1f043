"""A real field cipher for tests: AES-256-GCM, a random key per tenant, bound to table, column and row."""

import hashlib
import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from limen.kernel.errors import Malformed


class RandomTenantCipher:
    """Implements ``limen.db.ports.TenantCipher`` with keys that live in memory only."""

    def __init__(self) -> None:
        self._aead = AESGCM(AESGCM.generate_key(256))
        self._tag_key = os.urandom(32)

    def seal(self, table: str, column: str, row_id: UUID, plaintext: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, plaintext, _place(table, column, row_id))

    def open(self, table: str, column: str, row_id: UUID, blob: bytes) -> bytes:
        try:
            return self._aead.decrypt(blob[:12], blob[12:], _place(table, column, row_id))
        except InvalidTag:
            raise Malformed("this value was not sealed for this place") from None

    def tag(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._tag_key, f"{kind}\0{value}".encode(), hashlib.sha256)


class RandomFieldCipher:
    """Implements ``limen.db.ports.FieldCipher``."""

    def __init__(self) -> None:
        self._tenants: dict[UUID, RandomTenantCipher] = {}

    async def for_tenant(self, tenant_id: UUID) -> RandomTenantCipher:
        return self._tenants.setdefault(tenant_id, RandomTenantCipher())


def _place(table: str, column: str, row_id: UUID) -> bytes:
    return f"{table}\0{column}\0{row_id}".encode()
