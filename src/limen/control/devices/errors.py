"""Errors of enrolment and of the agent channel."""

from typing import ClassVar

from limen.kernel.errors import Conflict, Denied, LimenError, Malformed, NotFound
from limen.wire.agent import RefuseCode

_NEW_TOKEN = "make a new token (limen agent token) and enrol again"  # noqa: S105


class UnknownToken(NotFound):
    """No such token, or its secret is wrong; the two look alike on purpose."""

    code = "enrolment-token-unknown"

    def __init__(self) -> None:
        super().__init__("this enrolment token is not known", fix=_NEW_TOKEN)


class UsedToken(Conflict):
    """A token works once."""

    code = "enrolment-token-used"

    def __init__(self) -> None:
        super().__init__("this enrolment token was used already", fix=_NEW_TOKEN)


class ExpiredToken(Denied):
    """A token lives 15 minutes."""

    code = "enrolment-token-expired"

    def __init__(self) -> None:
        super().__init__("this enrolment token has expired", fix=_NEW_TOKEN)


class WrongClock(Malformed):
    """The agent's clock and ours differ too much. ``skew`` is in seconds, positive when the agent is ahead."""

    code = "clock-skew"

    def __init__(self, skew: float) -> None:
        direction = "ahead of" if skew > 0 else "behind"
        super().__init__(
            f"this host's clock is {abs(skew):.0f} s {direction} the control plane's; at most 30 s are allowed",
            fix="set the clock (for example: timedatectl set-ntp true) and try again",
        )
        self.skew = skew


class WrongKey(Malformed):
    """The keys in an enrolment or renewal are not usable, or not proved."""

    code = "agent-key"


class Refused(LimenError):
    """The channel must be refused or ended with this code."""

    status: ClassVar[int] = 403
    code = "channel-refused"

    def __init__(self, reason: RefuseCode, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.reason = reason
