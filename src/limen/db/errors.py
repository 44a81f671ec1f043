"""Database errors as Limen's callers see them; the translation is the only place that knows psycopg's
classes.

Connection trouble becomes :class:`~limen.kernel.errors.Unavailable`, a broken constraint a typed conflict
that names the constraint, contention :class:`Contention` (try again), and every other refusal
:class:`DatabaseFault`, which is a defect of Limen and never the caller's doing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from limen.kernel.errors import Conflict, LimenError, Malformed, Unavailable

_START_IT = "check that PostgreSQL is running and reachable, then try again"


class UniqueViolated(Conflict):
    """A row with this key exists already; ``constraint`` is the name from the migration."""

    def __init__(self, constraint: str) -> None:
        super().__init__("this exists already", fix="choose another name or change the existing one")
        self.constraint = constraint


class ReferenceViolated(Conflict):
    """A row points to something that does not exist, or something still points to the row."""

    def __init__(self, constraint: str) -> None:
        super().__init__("this refers to something that does not exist, or is still in use")
        self.constraint = constraint


class ValueRefused(Malformed):
    """A CHECK or NOT NULL rule of a table refused a value."""

    def __init__(self, constraint: str) -> None:
        super().__init__("a value is outside what can be stored")
        self.constraint = constraint


class Contention(Unavailable):
    """Others were changing the same rows, or the statement took too long; nothing was changed."""


class Unreachable(Unavailable):
    """The database does not answer or went away."""


class DatabaseFault(LimenError):
    """The database refused a statement of Limen: a defect. ``sqlstate`` is PostgreSQL's code."""

    code = "database-fault"

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(
            f"the database refused a statement of Limen (SQLSTATE {sqlstate or 'none'})",
            fix="report this as a defect together with the server's log",
        )
        self.sqlstate = sqlstate


class MigrationRefused(LimenError):
    """A migration cannot be applied, or an applied one was changed."""

    code = "migration-refused"


class CatalogueViolated(LimenError):
    """The schema breaks a rule of tenant isolation; ``violations`` lists each in one sentence."""

    code = "catalogue-violated"

    def __init__(self, violations: tuple[str, ...]) -> None:
        super().__init__(
            "the database schema breaks the rules of tenant isolation: " + "; ".join(violations),
            fix="correct the schema with a new migration; Limen does not start on this database",
        )
        self.violations = violations


class ProviderFailed(Unavailable):
    """The embedded PostgreSQL cannot be installed, started or stopped as asked."""


def unreachable(detail: str = "") -> Unreachable:
    """The error for a lost or refused connection; ``detail`` must hold no credential."""
    message = "the database does not answer"
    return Unreachable(f"{message} ({detail})" if detail else message, fix=_START_IT)


_LOST = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.IdleInTransactionSessionTimeout,
)
_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable, pg.QueryCanceled)


def translate(exc: psycopg.Error) -> LimenError:
    """Limen's error for a psycopg error."""
    constraint = exc.diag.constraint_name or exc.diag.column_name or ""
    match exc:
        case pg.UniqueViolation():
            return UniqueViolated(constraint)
        case pg.ForeignKeyViolation():
            return ReferenceViolated(constraint)
        case pg.CheckViolation() | pg.NotNullViolation():
            return ValueRefused(constraint)
    if isinstance(exc, _CONTENTION):
        return Contention("the database is busy with the same records", fix="try again in a moment")
    if isinstance(exc, _LOST):
        return unreachable("it is shutting down, starting, or full")
    if isinstance(exc, psycopg.OperationalError) and (
        exc.sqlstate is None or exc.sqlstate[:2] in ("08", "53", "57", "58")
    ):
        return unreachable()
    return DatabaseFault(exc.sqlstate)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Limen's errors in place of psycopg's; the original stays as the cause."""
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc) from exc
