"""Errors of the crypto package: three, and none of them says more than it must."""

from limen.kernel.errors import LimenError, Malformed


class Unreadable(LimenError):
    """A ciphertext that does not open: damaged, moved to another place, or under another key.

    One type for every cause, because telling the causes apart helps only an attacker.
    """

    status = 500
    code = "unreadable"

    def __init__(self, what: str = "sealed value") -> None:
        super().__init__(
            f"{what} cannot be opened: it is damaged, was moved, or belongs to another key",
            fix="restore the database and the keystore from backups of the same time",
        )


class BadKey(Malformed):
    """Key material of the wrong length or kind."""

    code = "bad-key"


class BadProof(LimenError):
    """A signature or a hash-tree proof that does not verify."""

    status = 400
    code = "bad-proof"
