"""The shallow error tree. Only the outer shells (HTTP, CLI, SSH) render these; everything else raises them.

A message says what is wrong, ``fix`` what to do next. Neither may hold a secret or an address.
"""

from typing import ClassVar


class LimenError(Exception):
    """Root of every error that Limen raises on purpose."""

    status: ClassVar[int] = 500  # HTTP status of the problem document (RFC 9457)
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class NotFound(LimenError):
    """No such object for this tenant; also what another tenant's object looks like."""

    status = 404
    code = "not-found"


class Unauthenticated(LimenError):
    """No valid session, token or certificate."""

    status = 401
    code = "unauthenticated"


class Denied(LimenError):
    """The subject is known, the act is not allowed."""

    status = 403
    code = "denied"


class Conflict(LimenError):
    """The object's present state does not allow the act."""

    status = 409
    code = "conflict"


class Malformed(LimenError):
    """The input breaks its own rules."""

    status = 400
    code = "malformed"


class RateLimited(LimenError):
    """Too many attempts; ``retry_after`` is in seconds."""

    status = 429
    code = "rate-limited"

    def __init__(self, message: str, *, retry_after: float, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.retry_after = retry_after


class Unavailable(LimenError):
    """Something that Limen depends on does not answer; trying again later may work."""

    status = 503
    code = "unavailable"
