"""Signing keys: one Ed25519 key per purpose, made at first start, the private half wrapped by the key backend."""

from limen.crypto import signatures
from limen.crypto.errors import BadKey, Unreadable
from limen.keyd.errors import KeystoreDamaged
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.keyd.rootkeys import RootKey, RootKeys
from limen.wire.keyd import SigningPurpose


class SigningRecord(Record, frozen=True, kw_only=True):
    """The signing key of one purpose."""

    root: RootKey
    public: bytes


class SigningKeys:
    """All signing keys, unwrapped."""

    def __init__(self, private: dict[SigningPurpose, bytes]) -> None:
        self._private = private

    @classmethod
    async def load(cls, keystore: Keystore, roots: RootKeys) -> "SigningKeys":
        """Read every purpose's key; make the ones that do not exist yet.

        Raises:
            KeystoreDamaged: when one exists and cannot be opened.
        """
        return cls({purpose: await _load(keystore, roots, purpose) for purpose in SigningPurpose})

    def sign(self, purpose: SigningPurpose, data: bytes) -> bytes:
        """Sign ``data`` for ``purpose`` (64 bytes)."""
        return signatures.sign(self._private[purpose], purpose, data)

    def public(self, purpose: SigningPurpose) -> bytes:
        """The raw public key of a purpose."""
        return signatures.public_of(self._private[purpose])


async def _load(keystore: Keystore, roots: RootKeys, purpose: SigningPurpose) -> bytes:
    name, slot = f"signing-{purpose}", f"signing:{purpose}"
    record = keystore.read(Shelf.PLATFORM, name, SigningRecord)
    if record is None:
        private, public = signatures.generate_keypair()
        record = SigningRecord(root=await roots.wrap(None, slot, private), public=public)
        keystore.write(Shelf.PLATFORM, name, record)
        return private
    try:
        private = await roots.unwrap(None, slot, record.root)
        if signatures.public_of(private) != record.public:
            raise KeystoreDamaged(f"platform/{name}")
    except (Unreadable, BadKey):
        raise KeystoreDamaged(f"platform/{name}") from None
    root = await roots.refresh(None, slot, record.root)
    if root is not record.root:
        keystore.write(Shelf.PLATFORM, name, SigningRecord(root=root, public=record.public))
    return private
