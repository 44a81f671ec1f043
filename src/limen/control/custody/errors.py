"""Errors of the custody room."""

from limen.kernel.errors import Unavailable


class LeaseOver(Unavailable):
    """A leased key may not be used any more; asking for the cipher again leases anew."""

    code = "lease-over"

    def __init__(self, message: str) -> None:
        super().__init__(message, fix="try again; if it persists, check that `limen keyd` runs")
