"""The catalogue audit passes on our own schema and finds each kind of violation when it is planted."""

import psycopg
import pytest

from limen.db.catalogue import audit_catalogue, violations
from limen.db.embedded import EmbeddedPostgres
from limen.db.errors import CatalogueViolated
from limen.db.source import SocketSource

_GOOD_TABLE = """
CREATE TABLE things (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    parent_id uuid,
    name text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES things (tenant_id, id)
);
SELECT limen_protect('things');
"""

PLANTED = [
    ("ALTER ROLE limen_app BYPASSRLS", "may bypass row-level security"),
    ("ALTER ROLE limen_feed SUPERUSER", "role limen_feed is superuser"),
    ("GRANT limen_owner TO limen_app", "limen_app is a member of role limen_owner"),
    ("GRANT CREATE ON SCHEMA public TO limen_app", "limen_app may create objects in schema public"),
    ("ALTER TABLE things OWNER TO limen_app", "things is not owned by the schema's owner"),
    ("CREATE SCHEMA aside; CREATE TABLE aside.hidden (a uuid)", "aside.hidden lies outside schema public"),
    ("CREATE MATERIALIZED VIEW copies AS SELECT * FROM things", "copies is a materialized view"),
    ("CREATE VIEW open_view AS SELECT * FROM things", "open_view is a view without security_invoker"),
    ("CREATE SEQUENCE counter", "counter is a sequence"),
    (
        "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER hook BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION noop()",
        "things has the trigger hook",
    ),
    ("CREATE RULE quiet AS ON DELETE TO things DO INSTEAD NOTHING", "things has the rewrite rule quiet"),
    ("CREATE TYPE mood AS ENUM ('good', 'bad')", "mood is an enum type"),
    (
        "CREATE FUNCTION raised() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "raised is a SECURITY DEFINER function",
    ),
    ("ALTER TABLE things ADD number bigint GENERATED ALWAYS AS IDENTITY", "things.number is an identity column"),
    ("ALTER TABLE things ADD price numeric", "things.price has the type numeric"),
    ("CREATE TABLE loose (id uuid PRIMARY KEY)", "loose has no tenant_id uuid NOT NULL"),
    ("CREATE TABLE loose (tenant_id uuid, id uuid PRIMARY KEY)", "loose has no tenant_id uuid NOT NULL"),
    ("CREATE TABLE loose (tenant_id text NOT NULL, id uuid)", "loose has no tenant_id uuid NOT NULL"),
    ("CREATE TABLE loose (tenant_id uuid NOT NULL)", "loose has no primary key"),
    ("ALTER TABLE things ADD UNIQUE (name)", "the key things_name_key does not begin with tenant_id"),
    ("CREATE UNIQUE INDEX sly ON things (lower(name))", "the key sly does not begin with tenant_id"),
    ("CREATE UNIQUE INDEX sly ON things (name, tenant_id)", "the key sly does not begin with tenant_id"),
    (
        "CREATE TABLE loose (tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (id, tenant_id))",
        "the key loose_pkey does not begin with tenant_id",
    ),
    (
        "ALTER TABLE things ADD tenant uuid; ALTER TABLE things ADD CONSTRAINT bad FOREIGN KEY (tenant) "
        "REFERENCES tenants (id)",
        "the foreign key bad does not begin with tenant_id",
    ),
    (
        "CREATE UNIQUE INDEX swapped ON things (id, tenant_id); ALTER TABLE things ADD CONSTRAINT bad "
        "FOREIGN KEY (tenant_id, parent_id) REFERENCES things (id, tenant_id)",
        "the foreign key bad does not begin with tenant_id",
    ),
    ("ALTER TABLE things DISABLE ROW LEVEL SECURITY", "things does not both enable and force"),
    ("ALTER TABLE things NO FORCE ROW LEVEL SECURITY", "things does not both enable and force"),
    ("ALTER TABLE tenants DISABLE ROW LEVEL SECURITY", "tenants does not both enable and force"),
    ("DROP POLICY tenant ON things", "things has no tenant policy"),
    (
        "DROP POLICY tenant ON things; CREATE POLICY tenant ON things TO limen_app "
        "USING (tenant_id = current_setting('app.tenant', true)::uuid)",
        "things has no tenant policy",
    ),
    ("CREATE POLICY wide ON things TO limen_app USING (true)", "the policy wide opens rows of other tenants"),
    ("CREATE POLICY wide ON things USING (true)", "the policy wide opens rows of other tenants"),
    (
        "CREATE POLICY wide ON things FOR INSERT TO limen_app WITH CHECK (true)",
        "the policy wide opens rows of other tenants",
    ),
    ("CREATE POLICY wide ON things TO limen_owner USING (true)", "the policy wide opens rows of other tenants"),
    ("CREATE POLICY wide ON tenants TO limen_app USING (true)", "opens other tenants' rows to the application"),
    ("GRANT UPDATE (name) ON operators TO limen_app", "operators has no tenant, yet the application may change it"),
    ("CREATE POLICY wide ON connection_directory TO limen_app USING (true)", "the policy wide opens rows"),
    ("SELECT limen_allow_system('things', 'limen_feed', 'id')", "lets limen_feed see all tenants"),
    ("GRANT SELECT (id) ON things TO limen_sealer", "things grants columns to limen_sealer"),
    ("GRANT SELECT ON outbox TO limen_feed", "outbox grants SELECT on all its columns to limen_feed"),
    ("GRANT SELECT ON things TO PUBLIC", "things grants SELECT to everybody"),
    ("GRANT TRUNCATE ON things TO limen_app", "things grants TRUNCATE to limen_app"),
    (
        "CREATE TABLE parted (tenant_id uuid NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (tenant_id, at))"
        " PARTITION BY RANGE (at); SELECT limen_protect('parted');"
        "CREATE TABLE parted_rest PARTITION OF parted DEFAULT; GRANT SELECT ON parted_rest TO limen_app",
        "parted_rest grants SELECT to limen_app",
    ),
]

_ROLE_REPAIR = """
ALTER ROLE limen_app NOBYPASSRLS;
ALTER ROLE limen_feed NOSUPERUSER;
REVOKE limen_owner FROM limen_app;
"""


@pytest.mark.row("T3")
async def test_our_own_schema_breaks_no_rule(scratch_source: SocketSource) -> None:
    assert await violations(scratch_source) == ()
    await audit_catalogue(scratch_source)


@pytest.mark.row("T3")
@pytest.mark.parametrize(("planted", "finding"), PLANTED, ids=[finding for _, finding in PLANTED])
async def test_a_planted_violation_is_found(
    postgres_server: EmbeddedPostgres, scratch_source: SocketSource, planted: str, finding: str
) -> None:
    superuser = postgres_server.superuser_conninfo(scratch_source.database)
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f"SET ROLE limen_owner; {_GOOD_TABLE} RESET ROLE".encode())
        before = await violations(scratch_source)
        assert not any("things" in sentence for sentence in before)
        try:
            connection.execute(planted.encode())
            found = await violations(scratch_source)
            assert any(finding in sentence for sentence in set(found) - set(before)), found
            with pytest.raises(CatalogueViolated) as refused:
                await audit_catalogue(scratch_source)
            assert refused.value.violations == found
        finally:
            # Roles belong to the server, which other tests of this worker share.
            connection.execute(_ROLE_REPAIR.encode())
