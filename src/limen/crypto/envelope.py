"""A vault value with a data key of its own: the key travels beside the value, wrapped under the vault's key.

Layout: ``format (1) | wrapped value key (an aead blob, 78 bytes) | value (an aead blob)``. The wrapped key
is bound to ``KeySlot(tenant, "value:" + SHA-256 of the cell, id of the value key)``, the value to its cell.
So destroying the first 79 bytes destroys the value, and rotating the vault's key rewraps 32 bytes, however
long the value is.
"""

import hashlib

from limen.crypto.aead import (
    KEY_BYTES,
    OVERHEAD_BYTES,
    AeadKey,
    Cell,
    KeySlot,
    key_id_of,
    new_key,
    new_key_id,
)
from limen.crypto.errors import Unreadable

FORMAT = 1
WRAPPED_BYTES = OVERHEAD_BYTES + KEY_BYTES
ENVELOPE_OVERHEAD_BYTES = 1 + WRAPPED_BYTES + OVERHEAD_BYTES


def seal(parent: AeadKey, cell: Cell, plaintext: bytes) -> bytes:
    """Seal ``plaintext`` under a fresh key of its own, wrapped under ``parent``."""
    value_key_id, value_key = new_key_id(), new_key()
    wrapped = parent.seal(_slot(cell, value_key_id), value_key)
    return bytes((FORMAT,)) + wrapped + AeadKey(value_key_id, value_key).seal(cell, plaintext)


def open_envelope(parent: AeadKey, cell: Cell, blob: bytes) -> bytes:
    """Open what :func:`seal` made for ``cell``.

    Raises:
        Unreadable: whatever is wrong with it.
    """
    wrapped, sealed = _split(blob)
    value_key_id = key_id_of(sealed)
    value_key = parent.open(_slot(cell, value_key_id), wrapped)
    return AeadKey(value_key_id, value_key).open(cell, sealed)


def parent_key_id(blob: bytes) -> bytes:
    """The id of the key that wraps the value key.

    Raises:
        Unreadable: when ``blob`` is no envelope.
    """
    return key_id_of(_split(blob)[0])


def _split(blob: bytes) -> tuple[bytes, bytes]:
    if len(blob) < ENVELOPE_OVERHEAD_BYTES or blob[0] != FORMAT:
        raise Unreadable
    return blob[1 : 1 + WRAPPED_BYTES], blob[1 + WRAPPED_BYTES :]


def _slot(cell: Cell, value_key_id: bytes) -> KeySlot:
    place = hashlib.sha256(cell.associated(b"", b"")).hexdigest()
    return KeySlot(cell.tenant_id, f"value:{place}", value_key_id)
