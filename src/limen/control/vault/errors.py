"""What can go wrong at the vault's door, as typed errors; the dialect renders them as Vault does."""

from typing import ClassVar

from limen.control.vault.model import Reading
from limen.kernel.errors import Denied, Malformed, NotFound


class TokenRefused(Denied):
    """The token is missing, unknown, over, revoked, or its subject is gone or suspended. Never says which."""

    code: ClassVar[str] = "token-refused"

    def __init__(self) -> None:
        super().__init__("permission denied", fix="get a new token with 'limen vault token'")


class PassageRefused(Denied):
    """The token is good, the policy does not allow this action on this mount, or there is no such mount."""

    code: ClassVar[str] = "passage-refused"

    def __init__(self) -> None:
        super().__init__("permission denied", fix="ask an admin for a policy that allows it")


class NamespaceNotFound(NotFound):
    """The namespace header names something other than the token's tenant."""

    def __init__(self) -> None:
        super().__init__("namespace not found", fix="leave the namespace empty or give your tenant's name")


class NothingThere(NotFound):
    """No such secret, version or listing."""

    def __init__(self) -> None:
        super().__init__("no secret at this path", fix="list the paths above it")


class VersionGone(NotFound):
    """The version is deleted or destroyed; ``reading`` still has its dates."""

    def __init__(self, reading: Reading) -> None:
        super().__init__("this version is deleted or destroyed", fix="undelete it, or write a new one")
        self.reading = reading


class CasMismatch(Malformed):
    """Check-and-set: the current version is not the one that the writer saw."""

    def __init__(self) -> None:
        super().__init__(
            "check-and-set parameter did not match the current version", fix="read the secret and try again"
        )


class CasRequired(Malformed):
    """The secret asks for check-and-set on every write."""

    def __init__(self) -> None:
        super().__init__(
            "check-and-set parameter required for this call", fix="pass the version that you read as 'cas'"
        )


class NotRenewable(Malformed):
    """The token cannot be prolonged."""

    def __init__(self) -> None:
        super().__init__("token is not renewable", fix="get a new token")
