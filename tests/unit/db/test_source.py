"""Connection strings per role, without leaking what a DSN holds."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from limen.db.source import DsnSource, SocketSource
from limen.kernel.errors import Malformed


def test_a_socket_source_logs_in_as_the_role_itself() -> None:
    parts = conninfo_to_dict(SocketSource(Path("/run/limen"), "limen").conninfo("limen_app"))
    assert (parts["host"], parts["dbname"], parts["user"]) == ("/run/limen", "limen", "limen_app")
    assert "role=" not in str(parts["options"])


def test_a_dsn_source_sets_the_role_and_keeps_given_options() -> None:
    source = DsnSource("postgresql://app@db.example:6000/x?options=-c%20geqo%3Doff", "postgresql://dba@db.example/x")
    runtime = conninfo_to_dict(source.conninfo("limen_feed"))
    assert (runtime["user"], runtime["port"]) == ("app", "6000")
    assert str(runtime["options"]).startswith("-c geqo=off ")
    assert str(runtime["options"]).endswith("-c role=limen_feed")
    assert conninfo_to_dict(source.conninfo("limen_owner"))["user"] == "dba"
    assert conninfo_to_dict(DsnSource("user=solo").conninfo("limen_owner"))["user"] == "solo"
    assert "role=" not in source.login()


def test_neither_repr_nor_error_shows_the_password() -> None:
    assert "pa55" not in repr(DsnSource("postgresql://app:pa55@db/x"))
    with pytest.raises(Malformed) as refused:
        DsnSource("postgresql://app:pa55@db/x?nonsense=1")
    assert "pa55" not in f"{refused.value!r} {refused.value.__cause__!r}"
