"""Errors of the audit trail."""

from limen.kernel.errors import LimenError, Unavailable


class ForkedTrail(LimenError):
    """The checkpoint file outside the database does not belong to the chain inside it."""

    status = 500
    code = "audit-forked"


class NotSealed(Unavailable):
    """Records could not be sealed now, so nothing that needs a seal can be shown."""

    code = "audit-not-sealed"
