"""Errors of the policy room."""

from limen.kernel.access import Decision
from limen.kernel.errors import Denied


class AccessDenied(Denied):
    """The engine said no. ``decision`` says why, condition by condition."""

    def __init__(self, decision: Decision) -> None:
        fix = next((result.fix for result in decision.conditions if not result.holds and result.fix), "")
        super().__init__(decision.reason, fix=fix or "ask an administrator for access")
        self.decision = decision
