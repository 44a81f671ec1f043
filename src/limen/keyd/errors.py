"""Errors of keyd itself; what callers get wrong is in :mod:`limen.kernel.errors`."""

from limen.kernel.errors import LimenError, Unavailable


class CannotStart(LimenError):
    """keyd must not run like this; the message is one line, ``fix`` the next step."""

    code = "cannot-start"


class KeystoreDamaged(Unavailable):
    """A record that cannot be read. It is never replaced by a new one, which would lose what it protects."""

    code = "keystore-damaged"

    def __init__(self, record: str) -> None:
        super().__init__(
            f"keystore record {record} is damaged",
            fix="restore the keystore directory from its backup; do not delete the record",
        )
