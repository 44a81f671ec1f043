"""The catalogue audit: reads pg_catalog and names everything that breaks the rules of tenant isolation.

It runs at every start, after the migrations, and in the tests; a database with a violation is refused. Each rule is
one query over the catalogue that returns a sentence per violation, so that the rule and its finding stand together.
The exceptions are the short lists in :mod:`limen.db.system_access`.

What it cannot see: whether a granted column is really needed, and what a statement does inside its tenant.
"""

from typing import LiteralString

import psycopg
from psycopg.rows import scalar_row

from limen.db.errors import CatalogueViolated, translated
from limen.db.roles import ALL_ROLES, APP, OWNER, RUNTIME_ROLES, SystemRole
from limen.db.source import ConnectionSource
from limen.db.system_access import DIRECTORY_TABLES, PLATFORM_TABLES, SYSTEM_ACCESS

# Relations of ours: everything outside PostgreSQL's own schemas. tenant_tables excludes partitions, which are reached
# through their parent only; they must keep its keys but carry no policy or grant of their own.
_RELATIONS: LiteralString = """
WITH relations AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relispartition, c.relrowsecurity, c.relforcerowsecurity,
           c.relacl, c.reloptions, c.relowner, n.nspname::text AS schema
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
), keyed_tables AS (
    SELECT *, (SELECT attnum FROM pg_attribute a
                WHERE a.attrelid = relations.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) AS tenant_attnum
      FROM relations WHERE relkind IN ('r', 'p') AND name <> ALL(%(platform)s)
), tenant_tables AS (
    SELECT * FROM keyed_tables WHERE NOT relispartition
), tables AS (
    SELECT * FROM relations WHERE relkind IN ('r', 'p')
)
"""

_RULES: tuple[LiteralString, ...] = (
    # Roles.
    """SELECT 'role ' || wanted || ' does not exist'
         FROM unnest(%(roles)s::text[]) AS wanted WHERE wanted NOT IN (SELECT rolname FROM pg_roles)""",
    """SELECT 'role ' || rolname || ' is superuser, may bypass row-level security, or may create roles or databases'
         FROM pg_roles
        WHERE rolname = ANY(%(roles)s)
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)""",
    """SELECT 'role ' || m.rolname || ' is a member of role ' || g.rolname
         FROM pg_auth_members am JOIN pg_roles m ON m.oid = am.member JOIN pg_roles g ON g.oid = am.roleid
        WHERE m.rolname = ANY(%(roles)s)""",
    """SELECT 'role ' || rolname || ' may create objects in schema public'
         FROM pg_roles WHERE rolname = ANY(%(runtime)s) AND has_schema_privilege(rolname, 'public', 'CREATE')""",
    """SELECT schema || '.' || name || ' is not owned by the schema''s owner'
         FROM relations WHERE relkind IN ('r', 'p', 'v') AND pg_get_userbyid(relowner) <> %(owner)s""",
    # What must not exist at all.
    "SELECT schema || '.' || name || ' lies outside schema public' FROM relations WHERE schema <> 'public'",
    "SELECT name || ' is a materialized view, which ignores row-level security' FROM relations WHERE relkind = 'm'",
    "SELECT name || ' is a foreign table' FROM relations WHERE relkind = 'f'",
    "SELECT name || ' is a sequence; ids are made by the application' FROM relations WHERE relkind = 'S'",
    """SELECT name || ' is a view without security_invoker'
         FROM relations
        WHERE relkind = 'v'
          AND NOT coalesce(lower(reloptions::text) ~ 'security_invoker=(true|on|yes|1)', false)""",
    """SELECT r.name || ' has the trigger ' || t.tgname
         FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal""",
    """SELECT r.name || ' has the rewrite rule ' || w.rulename
         FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'""",
    """SELECT t.typname || ' is an enum type; use text with CHECK'
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND n.nspname NOT IN ('pg_catalog', 'information_schema')""",
    """SELECT p.proname || ' is a SECURITY DEFINER function'
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')""",
    # Columns.
    """SELECT r.name || '.' || a.attname || ' is an identity column'
         FROM tables r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attidentity <> ''""",
    """SELECT r.name || '.' || a.attname || ' has the type ' || format_type(a.atttypid, NULL) || ', not an allowed one'
         FROM tables r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT format_type(a.atttypid, NULL) = ANY(%(types)s)""",
    """SELECT name || ' has no tenant_id uuid NOT NULL' FROM keyed_tables
        WHERE NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = keyed_tables.oid
                             AND a.attnum = tenant_attnum AND a.attnotnull AND a.atttypid = 'uuid'::regtype)""",
    # Keys.
    """SELECT name || ' has no primary key' FROM tables
        WHERE NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = tables.oid AND i.indisprimary)""",
    """SELECT k.name || ': the key ' || x.relname || ' does not begin with tenant_id'
         FROM keyed_tables k JOIN pg_index i ON i.indrelid = k.oid JOIN pg_class x ON x.oid = i.indexrelid
        WHERE k.name <> ALL(%(directories)s) AND (i.indisunique OR i.indisexclusion)
          AND i.indkey[0] IS DISTINCT FROM k.tenant_attnum""",
    """SELECT k.name || ': the foreign key ' || f.conname || ' does not begin with tenant_id on both sides'
         FROM keyed_tables k JOIN pg_constraint f ON f.conrelid = k.oid AND f.contype = 'f'
        WHERE f.conparentid = 0
          AND NOT (f.confrelid = to_regclass('public.tenants') AND f.conkey = ARRAY[k.tenant_attnum])
          AND NOT (f.conkey[1] = k.tenant_attnum
                   AND f.confkey[1] IS NOT DISTINCT FROM
                       (SELECT attnum FROM pg_attribute WHERE attrelid = f.confrelid AND attname = 'tenant_id'))""",
    # Row-level security.
    """SELECT name || ' does not both enable and force row-level security' FROM tables
        WHERE NOT relispartition AND name <> 'schema_migrations' AND NOT (relrowsecurity AND relforcerowsecurity)""",
    """SELECT name || ' has no tenant policy for the application' FROM tenant_tables
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_policy p WHERE p.polrelid = tenant_tables.oid AND p.polpermissive AND p.polcmd = '*'
               AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = %(app)s)]
               AND pg_get_expr(p.polqual, p.polrelid) = %(tenant_rule)s
               AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), %(tenant_rule)s) = %(tenant_rule)s)""",
    """SELECT t.name || ': the policy ' || p.polname || ' opens rows of other tenants'
         FROM tenant_tables t JOIN pg_policy p ON p.polrelid = t.oid
        CROSS JOIN LATERAL unnest(p.polroles) AS holder
        WHERE p.polpermissive
          AND (holder = 0 OR pg_get_userbyid(holder) <> ALL(%(system)s))
          AND NOT coalesce(pg_get_userbyid(holder) = %(app)s
                           AND coalesce(pg_get_expr(p.polqual, p.polrelid), %(tenant_rule)s) = %(tenant_rule)s
                           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), %(tenant_rule)s)
                               = %(tenant_rule)s, false)""",
    """SELECT t.name || ': the policy ' || p.polname || ' lets ' || pg_get_userbyid(holder)
              || ' see all tenants, which limen/db/system_access.py does not list'
         FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
        CROSS JOIN LATERAL unnest(p.polroles) AS holder
        WHERE pg_get_userbyid(holder) = ANY(%(system)s)
          AND t.name || ' ' || pg_get_userbyid(holder) <> ALL(%(access)s)""",
    """SELECT t.name || ': the policy ' || p.polname || ' opens other tenants'' rows to the application'
         FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
        CROSS JOIN LATERAL unnest(p.polroles) AS holder
        WHERE t.name = 'tenants' AND p.polpermissive AND (holder = 0 OR pg_get_userbyid(holder) = %(app)s)
          AND NOT coalesce(pg_get_expr(p.polqual, p.polrelid) = %(own_row)s
                           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), %(own_row)s) = %(own_row)s, false)""",
    # Privileges.
    """SELECT DISTINCT t.name || ' has no tenant, yet the application may change it'
         FROM tables t CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS verb
        WHERE t.name = ANY(%(platform)s) AND t.name <> 'tenants'
          AND (has_table_privilege(%(app)s, t.oid, verb)
               OR verb <> 'DELETE' AND has_any_column_privilege(%(app)s, t.oid, verb))""",
    """SELECT r.name || ' grants ' || g.privilege_type || ' to everybody'
         FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) AS g WHERE g.grantee = 0""",
    """SELECT r.name || ' grants ' || g.privilege_type || ' to ' || pg_get_userbyid(g.grantee)
         FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) AS g
        WHERE pg_get_userbyid(g.grantee) = ANY(%(runtime)s)
          AND (r.relispartition OR g.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))""",
    """SELECT r.name || ' grants ' || g.privilege_type || ' on all its columns to ' || pg_get_userbyid(g.grantee)
         FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) AS g
        WHERE pg_get_userbyid(g.grantee) = ANY(%(system)s) AND g.privilege_type <> 'DELETE'""",
    """SELECT DISTINCT r.name || ' grants columns to ' || pg_get_userbyid(g.grantee)
              || ', which limen/db/system_access.py does not list'
         FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped
        CROSS JOIN LATERAL aclexplode(a.attacl) AS g
        WHERE pg_get_userbyid(g.grantee) = ANY(%(system)s)
          AND r.name || ' ' || pg_get_userbyid(g.grantee) <> ALL(%(access)s)""",
)

_TYPES = [
    "uuid",
    "text",
    "bigint",
    "integer",
    "boolean",
    "timestamp with time zone",
    "bytea",
    "jsonb",
    "text[]",
    "uuid[]",
]
_TENANT_RULE = "(tenant_id = (current_setting('app.tenant'::text))::uuid)"

_OWN_ROW_RULE = "(id = (current_setting('app.tenant'::text))::uuid)"

_LOGIN_RULE: LiteralString = """
SELECT 'the login ' || session_user || ' is superuser or may bypass row-level security'
  FROM pg_roles WHERE rolname = session_user AND (rolsuper OR rolbypassrls)
"""


async def violations(source: ConnectionSource) -> tuple[str, ...]:
    """Every rule that the database breaks, one sentence each, sorted; empty when all hold.

    Raises:
        Unavailable: the database does not answer.
    """
    system = [str(role) for role in SystemRole]
    parameters = {
        "platform": sorted(PLATFORM_TABLES),
        "directories": sorted(DIRECTORY_TABLES),
        "roles": list(ALL_ROLES),
        "runtime": list(RUNTIME_ROLES),
        "system": system,
        "app": APP,
        "owner": OWNER,
        "types": _TYPES,
        "tenant_rule": _TENANT_RULE,
        "own_row": _OWN_ROW_RULE,
        "access": sorted(f"{table} {role}" for table, role in SYSTEM_ACCESS),
    }
    found: set[str] = set()
    with translated():
        async with await psycopg.AsyncConnection.connect(
            source.conninfo(OWNER), autocommit=True, row_factory=scalar_row
        ) as connection:
            for rule in _RULES:
                found.update(await (await connection.execute(_RELATIONS + rule, parameters)).fetchall())
        async with await psycopg.AsyncConnection.connect(
            source.conninfo(APP), autocommit=True, row_factory=scalar_row
        ) as connection:
            found.update(await (await connection.execute(_LOGIN_RULE)).fetchall())
    return tuple(sorted(found))


async def audit_catalogue(source: ConnectionSource) -> None:
    """Refuse a database that breaks a rule.

    Raises:
        CatalogueViolated: with every violation.
        Unavailable: the database does not answer.
    """
    found = await violations(source)
    if found:
        raise CatalogueViolated(found)
