"""Which psycopg error becomes which error of Limen."""

import psycopg
import pytest
from psycopg import errors as pg

from limen.db.errors import (
    Contention,
    DatabaseFault,
    ReferenceViolated,
    UniqueViolated,
    Unreachable,
    ValueRefused,
    translate,
    translated,
)
from limen.kernel.errors import LimenError


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (pg.UniqueViolation(), UniqueViolated),
        (pg.ForeignKeyViolation(), ReferenceViolated),
        (pg.CheckViolation(), ValueRefused),
        (pg.NotNullViolation(), ValueRefused),
        (pg.DeadlockDetected(), Contention),
        (pg.SerializationFailure(), Contention),
        (pg.LockNotAvailable(), Contention),
        (pg.QueryCanceled(), Contention),
        (pg.AdminShutdown(), Unreachable),
        (pg.CannotConnectNow(), Unreachable),
        (pg.TooManyConnections(), Unreachable),
        (pg.DiskFull(), Unreachable),
        (pg.ConnectionFailure(), Unreachable),
        (psycopg.OperationalError("server closed the connection unexpectedly"), Unreachable),
        (pg.InsufficientPrivilege(), DatabaseFault),
        (pg.UndefinedTable(), DatabaseFault),
        (psycopg.ProgrammingError("the query has 2 placeholders"), DatabaseFault),
    ],
)
def test_translation(raised: psycopg.Error, expected: type[LimenError]) -> None:
    assert type(translate(raised)) is expected


def test_the_original_stays_as_the_cause_and_others_pass_through() -> None:
    original = pg.UndefinedTable("secret detail")
    with pytest.raises(DatabaseFault) as fault, translated():
        raise original
    assert fault.value.__cause__ is original
    assert "secret detail" not in fault.value.message
    assert fault.value.sqlstate == "42P01"
    with pytest.raises(KeyError), translated():
        raise KeyError
