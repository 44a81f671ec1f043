"""The PostgreSQL roles of Limen: names, purposes, and their creation in a cluster.

``limen_owner`` owns the schema and runs migrations. ``limen_app`` runs all tenant work and is bound by
row-level security. Each other role serves one enumerated job over all tenants and sees only the columns that
a migration grants it. None is superuser, none may bypass row-level security, none is a member of another.
"""

from collections.abc import Sequence
from enum import StrEnum

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import TupleRow

from limen.db.errors import ProviderFailed, translated

OWNER = "limen_owner"
APP = "limen_app"


class SystemRole(StrEnum):
    """Jobs that read or write over all tenants; the value is the PostgreSQL role."""

    SEALER = "limen_sealer"  # seals pending audit entries into checkpoints
    FEED = "limen_feed"  # relays the outbox to the enforcement points
    EXPIRY = "limen_expiry"  # finds what has expired, prunes the outbox
    DIRECTORY = "limen_directory"  # resolves a tenant's name at sign-in
    PLATFORM = "limen_platform"  # operators: tenants and operators themselves


RUNTIME_ROLES: tuple[str, ...] = (APP, *SystemRole)
ALL_ROLES: tuple[str, ...] = (OWNER, *RUNTIME_ROLES)

# INHERIT (the default) matters to the owner only: the schema belongs to pg_database_owner.
_ATTRIBUTES = sql.SQL(" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")


async def create_roles(connection: psycopg.AsyncConnection[TupleRow], *, login: bool) -> None:
    """Create the roles that are missing.

    ``login`` is for the embedded server, where peer authentication maps system users to the roles themselves.

    Raises:
        ProviderFailed: the connecting user may not create roles; the message says which are needed.
    """
    with translated():
        rows = await (
            await connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ALL_ROLES)])
        ).fetchall()
        missing = [role for role in ALL_ROLES if role not in {row[0] for row in rows}]
        attributes = sql.SQL("LOGIN" if login else "NOLOGIN") + _ATTRIBUTES
        try:
            for role in missing:
                await connection.execute(sql.SQL("CREATE ROLE {} ").format(sql.Identifier(role)) + attributes)
        except pg.InsufficientPrivilege as exc:
            raise ProviderFailed(
                "the database user may not create roles, and these are missing: " + ", ".join(missing),
                fix="let a database administrator create them (NOLOGIN, without further attributes)",
            ) from exc


async def grant_roles(connection: psycopg.AsyncConnection[TupleRow], member: str, roles: Sequence[str]) -> None:
    """Let the login ``member`` SET ROLE to each of ``roles``, where it cannot yet.

    Raises:
        ProviderFailed: the connecting user may not grant a role that is needed.
    """
    with translated():
        rows = await (
            await connection.execute(
                "SELECT role FROM unnest(%s::text[]) AS role WHERE NOT pg_has_role(%s, role, 'MEMBER')",
                [list(roles), member],
            )
        ).fetchall()
        missing = [str(row[0]) for row in rows]
        try:
            for role in missing:
                await connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member)))
        except pg.InsufficientPrivilege as exc:
            raise ProviderFailed(
                f"the login {member} may not act as: " + ", ".join(missing),
                fix=f"let a database administrator run: GRANT {', '.join(missing)} TO {member}",
            ) from exc


async def create_database(connection: psycopg.AsyncConnection[TupleRow], name: str) -> None:
    """Create the database if it is missing, owned by ``limen_owner`` and closed to every other role."""
    with translated():
        found = await (await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])).fetchone()
        if found is None:
            await connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(name), sql.Identifier(OWNER)
                )
            )
        await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        await connection.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(
                sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, RUNTIME_ROLES))
            )
        )
