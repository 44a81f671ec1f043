-- The platform: tenants, operators, tenant versions, the outbox, and the two functions that every later migration
-- protects its tables with. Roles exist already; they belong to the cluster and are made by limen.db.roles.
--
-- How to write a migration (a file NNNN_name.sql in this directory; gaps in the numbers are fine):
--   CREATE TABLE things (
--       tenant_id uuid NOT NULL,
--       id        uuid NOT NULL,
--       ...
--       PRIMARY KEY (tenant_id, id),
--       UNIQUE (tenant_id, name),
--       FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id)
--   );
--   SELECT limen_protect('things');                        -- row-level security, all privileges for limen_app
--   SELECT limen_protect('ledger', 'SELECT,INSERT');       -- the same, append-only
--
-- A job over all tenants gets only the columns that it needs, one call per command; UPDATE and DELETE also need
-- SELECT on the columns of their WHERE clause:
--   SELECT limen_allow_system('things', 'limen_expiry', 'tenant_id,id,expires_at', 'SELECT');
--   SELECT limen_allow_system('things', 'limen_expiry', 'state', 'UPDATE');
--   SELECT limen_allow_system('things', 'limen_sealer', '', 'DELETE');
-- and the pair (table, role) is added to limen/db/system_access.py, or the catalogue audit refuses to start.
--
-- Types: uuid, text with CHECK, bigint, integer, boolean, timestamptz, bytea, jsonb, text[], uuid[]. No triggers, sequences,
-- identity columns or enums (they do not survive distribution, or lose their index behind row-level security).

CREATE FUNCTION limen_protect(target regclass, privileges text DEFAULT 'SELECT,INSERT,UPDATE,DELETE')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    privilege text;
BEGIN
    FOREACH privilege IN ARRAY string_to_array(replace(upper(privileges), ' ', ''), ',') LOOP
        IF privilege NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') THEN
            RAISE EXCEPTION 'limen_protect: unknown privilege %', privilege;
        END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    -- No second argument to current_setting: an unset tenant must raise, not return nothing.
    EXECUTE format(
        'CREATE POLICY tenant ON %s TO limen_app '
        'USING (tenant_id = current_setting(''app.tenant'')::uuid) '
        'WITH CHECK (tenant_id = current_setting(''app.tenant'')::uuid)', target);
    EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC', target);
    EXECUTE format('GRANT %s ON TABLE %s TO limen_app', privileges, target);
END $$;

CREATE FUNCTION limen_allow_system(target regclass, job name, columns text, command text DEFAULT 'SELECT')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    verb text := upper(command);
    column_list text;
BEGIN
    IF job NOT IN ('limen_sealer', 'limen_feed', 'limen_expiry', 'limen_directory', 'limen_platform') THEN
        RAISE EXCEPTION 'limen_allow_system: % is not a system role', job;
    END IF;
    IF verb NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') THEN
        RAISE EXCEPTION 'limen_allow_system: one of SELECT, INSERT, UPDATE, DELETE, not %', command;
    END IF;
    IF verb <> 'DELETE' AND btrim(columns) = '' THEN
        RAISE EXCEPTION 'limen_allow_system: name the columns that % may %', job, verb;
    END IF;
    EXECUTE format('CREATE POLICY %I ON %s FOR %s TO %I %s',
        job || '_' || lower(verb), target, verb, job,
        CASE verb WHEN 'INSERT' THEN 'WITH CHECK (true)'
                  WHEN 'UPDATE' THEN 'USING (true) WITH CHECK (true)'
                  ELSE 'USING (true)' END);
    IF verb = 'DELETE' THEN
        EXECUTE format('GRANT DELETE ON TABLE %s TO %I', target, job);
    ELSE
        SELECT string_agg(quote_ident(btrim(part)), ',') INTO column_list
          FROM unnest(string_to_array(columns, ',')) AS part;
        EXECUTE format('GRANT %s (%s) ON TABLE %s TO %I', verb, column_list, target, job);
    END IF;
END $$;

REVOKE ALL ON FUNCTION limen_protect(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION limen_allow_system(regclass, name, text, text) FROM PUBLIC;

-- A tenant is its own key here, so this is one of the few tables without tenant_id (limen/db/system_access.py).
-- The slug is unique over the platform: it is the tenant's public address.
CREATE TABLE tenants (
    id         uuid NOT NULL PRIMARY KEY,
    slug       text COLLATE "C" NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closing')),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
-- The application creates a tenant inside that tenant's own first transaction, together with its owner and audit.
CREATE POLICY tenant ON tenants TO limen_app
    USING (id = current_setting('app.tenant')::uuid) WITH CHECK (id = current_setting('app.tenant')::uuid);
GRANT SELECT, INSERT, UPDATE (name, state) ON tenants TO limen_app;
SELECT limen_allow_system('tenants', 'limen_platform', 'id,slug,name,state,created_at', 'SELECT');
SELECT limen_allow_system('tenants', 'limen_directory', 'id,slug,name,state', 'SELECT');

-- People who run the platform. They hold nothing inside a tenant.
CREATE TABLE operators (
    id         uuid NOT NULL PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE operators FORCE ROW LEVEL SECURITY;
SELECT limen_allow_system('operators', 'limen_platform', 'id,name,token_hash,state,created_at', 'SELECT');
SELECT limen_allow_system('operators', 'limen_platform', 'id,name,token_hash,state,created_at', 'INSERT');
SELECT limen_allow_system('operators', 'limen_platform', 'name,token_hash,state', 'UPDATE');

-- One row per tenant; its lock orders everything that grants rest on (limen.db.transaction).
CREATE TABLE tenant_versions (
    tenant_id uuid NOT NULL PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    version   bigint NOT NULL DEFAULT 0 CHECK (version >= 0)
);
SELECT limen_protect('tenant_versions', 'SELECT,INSERT,UPDATE');
SELECT limen_allow_system('tenant_versions', 'limen_feed', 'tenant_id,version', 'SELECT');

-- What changed with each version: no gaps, no late commits (the version row is locked until commit).
CREATE TABLE outbox (
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    version   bigint NOT NULL CHECK (version > 0),
    at        timestamptz NOT NULL,
    payload   jsonb NOT NULL,
    PRIMARY KEY (tenant_id, version)
);
CREATE INDEX outbox_at ON outbox (at);
SELECT limen_protect('outbox', 'SELECT,INSERT');
SELECT limen_allow_system('outbox', 'limen_feed', 'tenant_id,version,at,payload', 'SELECT');
SELECT limen_allow_system('outbox', 'limen_expiry', 'tenant_id,version,at', 'SELECT');
SELECT limen_allow_system('outbox', 'limen_expiry', '', 'DELETE');
