"""An external PostgreSQL, given by DSN: checked, and given its roles, but never started or stopped.

The recommended set-up has two logins: one for the runtime, member of the runtime roles alone, and one for the owner.
With a single login, an injected statement could become the owner. A superuser login is refused by the catalogue audit
for the runtime in either case. The database itself must exist.
"""

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import TupleRow

from limen.db.errors import ProviderFailed, translated
from limen.db.installation import FLOOR
from limen.db.roles import ALL_ROLES, OWNER, RUNTIME_ROLES, create_roles, grant_roles
from limen.db.source import DsnSource


class ExternalPostgres:
    """A server that somebody else runs. ``start`` makes what is missing, ``stop`` does nothing."""

    def __init__(self, source: DsnSource) -> None:
        self.source = source

    def conninfo(self, role: str) -> str:
        """The libpq connection string for sessions of ``role``."""
        return self.source.conninfo(role)

    async def start(self) -> None:
        """Check the server and make the roles that are missing.

        Raises:
            Unavailable: the server does not answer or refuses the login.
            ProviderFailed: it is too old, or roles are missing and the owner's login may not make them.
        """
        runtime = await self._login_name()
        with translated():
            async with await psycopg.AsyncConnection.connect(
                self.source.login(owner=True), autocommit=True
            ) as connection:
                _check_version(connection)
                await create_roles(connection, login=False)
                owner = connection.info.user
                if owner != runtime:
                    await grant_roles(connection, owner, (OWNER,))
                await grant_roles(connection, runtime, ALL_ROLES if owner == runtime else RUNTIME_ROLES)
                await _open_schema(connection)

    async def stop(self) -> None:
        """Nothing: the server is not ours."""

    async def _login_name(self) -> str:
        with translated():
            async with await psycopg.AsyncConnection.connect(self.source.login(), autocommit=True) as connection:
                return connection.info.user


def _check_version(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    major = connection.info.server_version // 10_000
    if major < FLOOR:
        raise ProviderFailed(
            f"the database server is PostgreSQL {major}; Limen needs {FLOOR} or newer", fix="upgrade the server"
        )


async def _open_schema(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    """The owner role must be able to create tables; since PostgreSQL 15 that is not given."""
    row = await (await connection.execute("SELECT has_schema_privilege(%s, 'public', 'CREATE')", [OWNER])).fetchone()
    if row is not None and row[0]:
        return
    try:
        await connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(sql.Identifier(OWNER)))
    except pg.InsufficientPrivilege as exc:
        raise ProviderFailed(
            f"{OWNER} may not create tables in schema public",
            fix=f"let a database administrator run: GRANT CREATE ON SCHEMA public TO {OWNER}",
        ) from exc
