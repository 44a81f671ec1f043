"""What the audit room needs from outside."""

from typing import Protocol


class Signer(Protocol):
    """Signs checkpoints with keyd's key for the purpose ``audit-checkpoint``."""

    async def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature (64 bytes), as ``crypto.signatures.sign(key, "audit-checkpoint", message)``.

        Raises:
            Unavailable: when the signer does not answer.
        """
        ...

    async def public_key(self) -> bytes:
        """The raw public key (32 bytes) of the key that signs now.

        Raises:
            Unavailable: when the signer does not answer.
        """
        ...
