-- Devices: agents, their one-time enrolment tokens, and where each tenant's tunnel addresses have got to.
--
-- A tunnel address is stored as its number within the tenant's tunnel network, never as an address.
-- A token's secret is stored as the SHA-256 of 256 random bits.

CREATE TABLE enrolment_tokens (
    tenant_id    uuid        NOT NULL REFERENCES tenants (id),
    id           uuid        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('gateway', 'client')),
    name         text        NOT NULL,
    site         text        NOT NULL DEFAULT '',
    person_id    uuid,
    secret_hash  bytea       NOT NULL CHECK (length(secret_hash) = 32),
    created_by   uuid        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id),
    CHECK ((kind = 'client') = (person_id IS NOT NULL))
);
CREATE INDEX enrolment_tokens_by_expiry ON enrolment_tokens (tenant_id, expires_at);
SELECT limen_protect('enrolment_tokens');

CREATE TABLE agents (
    tenant_id    uuid        NOT NULL REFERENCES tenants (id),
    id           uuid        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('gateway', 'client')),
    name         text        NOT NULL,
    site         text        NOT NULL DEFAULT '',
    person_id    uuid,
    spki_sha256  bytea       NOT NULL CHECK (length(spki_sha256) = 32),
    sealing_key  bytea       NOT NULL CHECK (length(sealing_key) = 32),
    tunnel_host  bigint,     -- NULL once removed, so that the address can be given again in the far future
    software     text        NOT NULL DEFAULT '',
    state        text        NOT NULL CHECK (state IN ('active', 'removed')),
    enrolled_at  timestamptz NOT NULL,
    last_seen_at timestamptz,
    removed_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, spki_sha256),
    UNIQUE (tenant_id, tunnel_host),
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id),
    CHECK ((kind = 'client') = (person_id IS NOT NULL)),
    CHECK ((state = 'removed') = (removed_at IS NOT NULL)),
    CHECK ((state = 'removed') = (tunnel_host IS NULL))
);
CREATE INDEX agents_by_person ON agents (tenant_id, person_id);
SELECT limen_protect('agents', 'SELECT,INSERT,UPDATE');

-- Its row lock makes concurrent enrolments take different addresses.
CREATE TABLE tunnel_pools (
    tenant_id uuid   NOT NULL PRIMARY KEY REFERENCES tenants (id),
    last_host bigint NOT NULL CHECK (last_host > 0)
);
SELECT limen_protect('tunnel_pools', 'SELECT,INSERT,UPDATE');

-- Agents that serve all tenants (file doors) belong to the platform; see limen/db/system_access.py.
CREATE TABLE platform_enrolment_tokens (
    id           uuid        NOT NULL PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('sftp')),
    name         text        NOT NULL,
    secret_hash  bytea       NOT NULL CHECK (length(secret_hash) = 32),
    created_by   uuid        NOT NULL REFERENCES operators (id),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz
);
ALTER TABLE platform_enrolment_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform_enrolment_tokens FORCE ROW LEVEL SECURITY;
SELECT limen_allow_system('platform_enrolment_tokens', 'limen_platform',
    'id,kind,name,secret_hash,created_by,created_at,expires_at,used_at', 'SELECT');
SELECT limen_allow_system('platform_enrolment_tokens', 'limen_platform',
    'id,kind,name,secret_hash,created_by,created_at,expires_at', 'INSERT');
SELECT limen_allow_system('platform_enrolment_tokens', 'limen_platform', 'used_at', 'UPDATE');
SELECT limen_allow_system('platform_enrolment_tokens', 'limen_platform', '', 'DELETE');

CREATE TABLE platform_agents (
    id           uuid        NOT NULL PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('sftp')),
    name         text        NOT NULL,
    spki_sha256  bytea       NOT NULL UNIQUE CHECK (length(spki_sha256) = 32),
    sealing_key  bytea       NOT NULL CHECK (length(sealing_key) = 32),
    software     text        NOT NULL DEFAULT '',
    state        text        NOT NULL CHECK (state IN ('active', 'removed')),
    enrolled_at  timestamptz NOT NULL,
    last_seen_at timestamptz,
    removed_at   timestamptz,
    CHECK ((state = 'removed') = (removed_at IS NOT NULL))
);
ALTER TABLE platform_agents ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform_agents FORCE ROW LEVEL SECURITY;
SELECT limen_allow_system('platform_agents', 'limen_platform',
    'id,kind,name,spki_sha256,sealing_key,software,state,enrolled_at,last_seen_at,removed_at', 'SELECT');
SELECT limen_allow_system('platform_agents', 'limen_platform',
    'id,kind,name,spki_sha256,sealing_key,software,state,enrolled_at', 'INSERT');
SELECT limen_allow_system('platform_agents', 'limen_platform', 'software,state,last_seen_at,removed_at', 'UPDATE');
