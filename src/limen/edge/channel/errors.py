"""Errors of the agent's side of the channel."""

from limen.kernel.errors import Denied, Malformed


class AgentRefused(Denied):
    """The control plane refuses this agent for good. ``reason`` is the code of the refusal."""

    code = "agent-refused"

    def __init__(self, reason: str, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.reason = reason


class BadIdentity(Malformed):
    """The state directory holds no usable identity."""

    code = "agent-identity"


class WrongClock(Malformed):
    """The control plane says that this host's clock is wrong."""

    code = "clock-skew"
