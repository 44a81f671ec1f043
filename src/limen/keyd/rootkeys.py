"""Keys wrapped directly by the key backend: tenant keys, authority keys, signing keys, and the check record.

A wrapped root key is bound to (tenant, purpose, key id); the backend binds the id of its own key. ``kek``
names the backend key it is under, so that :meth:`RootKeys.refresh` knows what to rewrap after a rotation.
"""

from uuid import UUID

import msgspec

from limen.crypto.aead import new_key_id
from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import Unreadable
from limen.keyd.errors import CannotStart
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.keyd.ports import KeyBackend

_CHECK_NAME = "keystore"
_CHECK_PURPOSE = "check"
_CHECK_VALUE = b"limen keystore"


class RootKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret wrapped by the backend, as records hold it."""

    key_id: bytes
    wrapped: bytes
    kek: str


class _CheckRecord(Record, frozen=True, kw_only=True):
    root: RootKey


class RootKeys:
    """Wrapping and unwrapping through the backend."""

    def __init__(self, backend: KeyBackend) -> None:
        self.backend = backend

    async def wrap(self, tenant_id: UUID | None, purpose: str, secret: bytes) -> RootKey:
        """Wrap ``secret`` under the backend's current key, with a fresh key id."""
        key_id = new_key_id()
        return await self._wrap(tenant_id, purpose, key_id, secret)

    async def unwrap(self, tenant_id: UUID | None, purpose: str, root: RootKey) -> bytes:
        """The secret.

        Raises:
            Unreadable: when it was wrapped for another place or by another backend.
        """
        return await self.backend.unwrap(root.wrapped, _context(tenant_id, purpose, root.key_id))

    async def refresh(self, tenant_id: UUID | None, purpose: str, root: RootKey) -> RootKey:
        """The same secret under the backend's current key; ``root`` itself when it is there already."""
        if root.kek == self.backend.key_version():
            return root
        return await self._wrap(tenant_id, purpose, root.key_id, await self.unwrap(tenant_id, purpose, root))

    async def check(self, keystore: Keystore) -> None:
        """Make sure that this backend is the one that the keystore was made with; mark a new keystore.

        Raises:
            CannotStart: when it is not, or the mark is missing from a keystore that is not empty.
        """
        record = keystore.read(Shelf.PLATFORM, _CHECK_NAME, _CheckRecord)
        if record is None:
            if not keystore.is_empty():
                raise CannotStart(
                    "the keystore has lost its check record", fix="restore the keystore directory from its backup"
                )
            root = await self.wrap(None, _CHECK_PURPOSE, _CHECK_VALUE)
            keystore.write(Shelf.PLATFORM, _CHECK_NAME, _CheckRecord(root=root))
            return
        try:
            value = await self.unwrap(None, _CHECK_PURPOSE, record.root)
        except Unreadable:
            value = b""
        if value != _CHECK_VALUE:
            raise CannotStart(
                "the key file does not belong to this keystore",
                fix="restore key file and keystore from backups of the same time",
            )
        fresh = await self.refresh(None, _CHECK_PURPOSE, record.root)
        if fresh is not record.root:
            keystore.write(Shelf.PLATFORM, _CHECK_NAME, _CheckRecord(root=fresh))

    async def _wrap(self, tenant_id: UUID | None, purpose: str, key_id: bytes, secret: bytes) -> RootKey:
        wrapped = await self.backend.wrap(secret, _context(tenant_id, purpose, key_id))
        return RootKey(key_id, wrapped, self.backend.key_version())


def _context(tenant_id: UUID | None, purpose: str, key_id: bytes) -> bytes:
    return length_prefixed("" if tenant_id is None else tenant_id, purpose, key_id)
