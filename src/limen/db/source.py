"""How to connect as a role: over the private socket of an embedded server, or with the DSN of an external
one.

*Embedded:* peer authentication maps system users to PostgreSQL roles (``pg_ident.conf``), so a session is
``limen_app`` from the start and has nothing to ``SET ROLE`` to; an injected statement cannot reach another
role.

*External:* one login from the DSN, NOINHERIT and member of the roles; ``options=-c role=…`` picks the role. A
second DSN for the owner keeps the runtime login from ever becoming the owner; it is the recommended set-up.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from limen.db.roles import OWNER
from limen.kernel.errors import Malformed

_SESSION_OPTIONS = (
    "-c timezone=UTC -c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
)
_CONNECT_TIMEOUT = 5  # seconds


class ConnectionSource(Protocol):
    """Says how to connect as a role."""

    def conninfo(self, role: str) -> str:
        """The libpq connection string for sessions of ``role``."""
        ...


@dataclass(frozen=True, slots=True)
class SocketSource:
    """A server with peer authentication, run by ``limen up``. ``directory`` holds its Unix socket."""

    directory: Path
    database: str = "limen"

    def conninfo(self, role: str) -> str:
        """The libpq connection string for sessions of ``role``."""
        return make_conninfo(
            host=str(self.directory),
            dbname=self.database,
            user=role,
            options=_SESSION_OPTIONS,
            application_name=role,
            connect_timeout=_CONNECT_TIMEOUT,
        )


@dataclass(frozen=True, slots=True)
class DsnSource:
    """An external server: ``dsn`` for the runtime login, ``owner_dsn`` for migrations (default: the same)."""

    dsn: str
    owner_dsn: str = ""

    def __post_init__(self) -> None:
        for dsn in (self.dsn, self.owner_dsn):
            try:
                conninfo_to_dict(dsn)
            except psycopg.ProgrammingError:
                # The parser's message may repeat the password, so it is not passed on.
                raise Malformed(
                    "the database DSN cannot be parsed",
                    fix="write it as postgresql://user@host:5432/database",
                ) from None

    def __repr__(self) -> str:
        return "DsnSource(…)"  # a DSN may hold a password

    def login(self, *, owner: bool = False) -> str:
        """The DSN as given, without a role: for creating roles and checking the login itself."""
        return make_conninfo(self._dsn(owner), connect_timeout=_CONNECT_TIMEOUT)

    def conninfo(self, role: str) -> str:
        """The libpq connection string for sessions of ``role``."""
        dsn = self._dsn(role == OWNER)
        given = conninfo_to_dict(dsn).get("options") or ""
        return make_conninfo(
            dsn,
            options=f"{given} {_SESSION_OPTIONS} -c role={role}".strip(),
            application_name=role,
            connect_timeout=_CONNECT_TIMEOUT,
        )

    def _dsn(self, owner: bool) -> str:
        return self.owner_dsn if owner and self.owner_dsn else self.dsn
