"""Errors of the command line. ``main`` prints each as one line; the kernel's errors are printed the same way."""

from limen.kernel.errors import LimenError


class CliError(LimenError):
    """Something that the person at the terminal can do something about. Exit status 1."""

    code = "cli"


class UsageError(CliError):
    """The command line itself is wrong. Exit status 2."""

    code = "usage"


class Unreachable(CliError):
    """No answer from a server that is what it should be."""

    code = "unreachable"


class UntrustedServer(Unreachable):
    """The server's certificate does not come from an authority that is trusted here."""

    code = "untrusted"


class Refused(CliError):
    """The server answered with a problem document; ``http_status`` and ``problem`` (its code) are from there."""

    def __init__(self, message: str, *, http_status: int, problem: str = "", fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.http_status = http_status
        self.problem = problem


class SignedOut(Refused):
    """There is no session, or it is over."""
