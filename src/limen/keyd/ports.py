"""The key backend: where key-encryption keys live. The local file is one; a KMS or an HSM is another."""

from typing import Protocol


class KeyBackend(Protocol):
    """Wraps short secrets under a key that never leaves the backend.

    ``context`` is authenticated: unwrapping under any other context fails. A backend without associated
    data puts a hash of the context inside what it wraps.
    """

    async def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt under the current key. Raises ``Unavailable`` when the backend does not answer."""
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt under whichever key of the backend wrapped it.

        Raises ``Unreadable`` when it does not open under ``context``, ``Unavailable`` when the backend does
        not answer.
        """
        ...

    async def health(self) -> None:
        """Return when wrapping works now; raise ``Unavailable`` otherwise."""
        ...

    def key_version(self) -> str:
        """The name of the current key; records wrapped under another one are rewrapped at start."""
        ...
