"""Months of the audit tables, made ahead of time by the owner of the schema.

The application may not create tables, so whoever runs the migrations at start also calls
:func:`ensure_partitions`. Rows for which no month exists go to the default partition: nothing is ever
refused, only dropping such a month later takes a move of its rows first.
"""

from datetime import UTC, datetime

import psycopg
import structlog
from psycopg import errors as pg

MONTHS_AHEAD = 6
_PARENTS = ("audit_leaves", "audit_values")

_log = structlog.get_logger(__name__)


async def ensure_partitions(connection: psycopg.AsyncConnection[object], now: datetime) -> list[str]:
    """Make the partitions of this month and the next MONTHS_AHEAD that are missing; return their names.

    ``connection`` is one of the schema's owner, in autocommit. A month that the default partition already
    has rows of stays there, with a warning in the log; so does one whose table lock was not to be had in
    time.

    Raises:
        psycopg.Error: when the database refuses for another reason.
    """
    made = []
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(MONTHS_AHEAD + 1):
        following = _next_month(first)
        for parent in _PARENTS:
            name = f"{parent}_{first:%Y_%m}"
            if await _make(connection, parent, name, (first, following)):
                made.append(name)
        first = following
    return made


async def _make(
    connection: psycopg.AsyncConnection[object], parent: str, name: str, month: tuple[datetime, datetime]
) -> bool:
    bounds = f"FOR VALUES FROM ('{month[0].isoformat()}') TO ('{month[1].isoformat()}')"
    try:
        async with connection.transaction():
            present = await connection.execute("SELECT 1 FROM pg_class WHERE relname = %s", [name])
            if await present.fetchone() is not None:
                return False
            await connection.execute("SELECT limen_audit_partition(%s, %s, %s)", [parent, name, bounds])
    except (pg.CheckViolation, pg.LockNotAvailable) as exc:
        _log.warning("audit month stays in the default partition", partition=name, reason=exc.sqlstate)
        return False
    return True


def _next_month(first: datetime) -> datetime:
    return first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)
