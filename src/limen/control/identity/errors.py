"""Errors of the identity room."""

from limen.kernel.access import Decision
from limen.kernel.errors import Denied, Unauthenticated


class WrongCredentials(Unauthenticated):
    """Unknown tenant, unknown account or wrong password: deliberately indistinguishable."""

    code = "wrong-credentials"

    def __init__(self) -> None:
        super().__init__(
            "e-mail address or password is wrong",
            fix="try again, or ask an administrator of your tenant for a new set-up link",
        )


class SessionEnded(Unauthenticated):
    """The session was signed out, ended, revoked, or ran out."""

    code = "session-ended"

    def __init__(self) -> None:
        super().__init__("your session has ended", fix="sign in again (limen login)")


class LinkUsed(Unauthenticated):
    """A one-time link that is unknown, used or too old: deliberately indistinguishable."""

    code = "link-not-valid"

    def __init__(self) -> None:
        super().__init__(
            "this set-up link was used already or is too old", fix="ask for a new link; each works once, for 24 hours"
        )


class SignInDenied(Denied):
    """The password was right, the policy says no: ``decision`` tells which condition failed."""

    code = "sign-in-denied"

    def __init__(self, decision: Decision) -> None:
        super().__init__(
            f"you may not sign in now: {decision.reason}",
            fix=next((c.fix for c in decision.conditions if not c.holds and c.fix), "ask an owner of your tenant"),
        )
        self.decision = decision
