"""The local-file key backend: key-encryption keys in one file of mode 0600, outside the application database.

The file (JSON) holds the current key and the former ones, and a check value over all of it, so that a
damaged file is told apart from a wrong one. It is made once, for an empty keystore, and never again by
itself: a new key would make everything that is already wrapped unreadable for ever, so a missing or damaged
file stops keyd.
"""

import os
import secrets
import stat
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec

from limen.crypto.aead import KEY_BYTES, KEY_ID_BYTES, AeadKey, key_id_of, new_key, new_key_id
from limen.crypto.encoding import length_prefixed
from limen.crypto.errors import Unreadable
from limen.keyd.durable import write_atomically
from limen.keyd.errors import CannotStart

_RESTORE = "restore it from your backup of the key file; a new one could not open what is stored"
_MAX_FILE_BYTES = 1 << 20


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: bytes
    key: bytes
    created_at: float


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keys`` newest first: the first is the current one."""

    format: int
    keys: tuple[_Key, ...]
    check: str


@dataclass(frozen=True, slots=True)
class _Context:
    """Binds a wrapped key to the backend's context and to the KEK's id."""

    context: bytes

    def associated(self, head: bytes, key_id: bytes) -> bytes:
        return length_prefixed(b"limen.kek", head, self.context, key_id)


class LocalFileBackend:
    """``KeyBackend`` on keys read from a file at start."""

    def __init__(self, keys: tuple[AeadKey, ...]) -> None:
        self._current = keys[0]
        self._keys = {key.key_id: key for key in keys}

    @classmethod
    def load(cls, path: Path) -> "LocalFileBackend":
        """Read the key file.

        Raises:
            CannotStart: when it is missing, readable by others, short, or damaged.
        """
        return cls(tuple(AeadKey(key.id, key.key) for key in _read(path).keys))

    async def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        """See :class:`~limen.keyd.ports.KeyBackend`."""
        return self._current.seal(_Context(context), plaintext)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See :class:`~limen.keyd.ports.KeyBackend`."""
        key = self._keys.get(key_id_of(wrapped))
        if key is None:
            raise Unreadable("wrapped key")
        return key.open(_Context(context), wrapped)

    async def health(self) -> None:
        """The keys are in memory: healthy while the process lives."""

    def key_version(self) -> str:
        """The id of the current key, in hex."""
        return self._current.key_id.hex()


def create_key_file(path: Path) -> None:
    """Make the key file for an empty keystore.

    Raises:
        CannotStart: when there is one already, or it cannot be written.
    """
    try:
        write_atomically(path, _encode((_fresh(),)), replace=False)
    except FileExistsError:
        raise CannotStart(f"key file {path} exists already", fix="keep it; it is used as it is") from None
    except OSError as exc:
        raise CannotStart(
            f"cannot write key file {path}: {exc.strerror}", fix="give a directory that keyd may write to"
        ) from exc


def rotate_key_file(path: Path) -> None:
    """Put a new current key before the present ones; keyd rewraps its records at its next start.

    Raises:
        CannotStart: when the file cannot be read or written.
    """
    present = _read(path)
    try:
        status = path.stat()
        write_atomically(path, _encode((_fresh(), *present.keys)), owner=(status.st_uid, status.st_gid))
    except OSError as exc:
        raise CannotStart(f"cannot write key file {path}: {exc.strerror}", fix="run this as the user of keyd") from exc


def _fresh() -> _Key:
    return _Key(id=new_key_id(), key=new_key(), created_at=time.time())


def _encode(keys: tuple[_Key, ...]) -> bytes:
    file = _KeyFile(format=1, keys=keys, check=_check(keys))
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def _check(keys: tuple[_Key, ...]) -> str:
    return sha256(length_prefixed("limen.keyfile", *(part for key in keys for part in (key.id, key.key)))).hexdigest()


def _read(path: Path) -> _KeyFile:
    try:
        file = msgspec.json.decode(_content(path), type=_KeyFile)
    except msgspec.DecodeError:
        raise CannotStart(f"key file {path} is damaged: it is not a key file", fix=_RESTORE) from None
    whole = all(len(key.id) == KEY_ID_BYTES and len(key.key) == KEY_BYTES for key in file.keys)
    if file.format != 1 or not file.keys or not whole or not secrets.compare_digest(file.check, _check(file.keys)):
        raise CannotStart(f"key file {path} is damaged: its check value does not fit", fix=_RESTORE)
    return file


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise CannotStart(f"key file {path} is missing", fix=_RESTORE) from None
    except OSError as exc:
        raise CannotStart(
            f"cannot read key file {path}: {exc.strerror}", fix="it must be a plain file owned by the user of keyd"
        ) from exc
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CannotStart(f"key file {path} is not a plain file", fix=_RESTORE)
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise CannotStart(
                f"key file {path} can be read by other users (mode {stat.S_IMODE(status.st_mode):04o})",
                fix=f"run `chmod 600 {path}`, and rotate the key if someone may have read it",
            )
        if os.geteuid() not in (0, status.st_uid):
            raise CannotStart(f"key file {path} belongs to another user", fix=f"run `chown {os.geteuid()} {path}`")
        return stream.read(_MAX_FILE_BYTES)
