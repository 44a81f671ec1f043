-- The file door: connections to buckets, their SFTP users and keys. A connection is the resource of kind bucket with
-- the same id. Storage credentials are sealed by the custody daemon and never open here. User names, jails and source
-- networks are personal and sealed; a user name is found by its keyed tag within its connection.

CREATE TABLE bucket_connections (
    tenant_id   uuid        NOT NULL,
    id          uuid        NOT NULL,
    slug        text        COLLATE "C" NOT NULL CHECK (slug ~ '^[a-z2-7]{12}$'),
    provider    text        NOT NULL CHECK (provider IN ('s3', 'local')),
    endpoint    text        NOT NULL CHECK (length(endpoint) <= 255),
    bucket      text        NOT NULL CHECK (length(bucket) <= 63),
    region      text        NOT NULL CHECK (length(region) <= 63),
    prefix      text        NOT NULL CHECK (length(prefix) <= 512),
    root        text        NOT NULL CHECK (length(root) <= 255),
    credential  bytea,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, slug),
    FOREIGN KEY (tenant_id, id) REFERENCES resources (tenant_id, id) ON DELETE CASCADE
);
SELECT limen_protect('bucket_connections');

-- From the name on the wire to the tenant: the SFTP agent serves all tenants and knows nothing else at sign-in. Slugs
-- are random, so that the key over all tenants tells nobody who exists.
CREATE TABLE connection_directory (
    slug           text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant_id      uuid NOT NULL,
    connection_id  uuid NOT NULL,
    FOREIGN KEY (tenant_id, connection_id) REFERENCES bucket_connections (tenant_id, id) ON DELETE CASCADE
);
SELECT limen_protect('connection_directory', 'SELECT,INSERT');
SELECT limen_allow_system('connection_directory', 'limen_directory', 'slug,tenant_id,connection_id', 'SELECT');
-- When a file agent connects: in which tenants it has live grants, and nothing else of them.
SELECT limen_allow_system('grants', 'limen_directory', 'tenant_id,agent_id,state,expires_at', 'SELECT');

CREATE TABLE sftp_users (
    tenant_id        uuid        NOT NULL,
    id               uuid        NOT NULL,
    connection_id    uuid        NOT NULL,
    person_id        uuid        NOT NULL,
    username_tag     bytea       NOT NULL CHECK (octet_length(username_tag) = 32),
    username_sealed  bytea       NOT NULL,
    jail_sealed      bytea       NOT NULL,
    actions          text[]      NOT NULL,
    password_hash    text,
    sources_sealed   bytea,      -- networks that the password may come from; NULL is any
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, connection_id, username_tag),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES bucket_connections (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id)
);
CREATE INDEX sftp_users_by_person ON sftp_users (tenant_id, person_id);
SELECT limen_protect('sftp_users');

CREATE TABLE ssh_keys (
    tenant_id       uuid        NOT NULL,
    id              uuid        NOT NULL,
    sftp_user_id    uuid        NOT NULL,
    public_key      text        NOT NULL CHECK (length(public_key) <= 8192),
    fingerprint     text        COLLATE "C" NOT NULL,
    sources_sealed  bytea,      -- networks that this key may come from; NULL is any
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, sftp_user_id, fingerprint),
    FOREIGN KEY (tenant_id, sftp_user_id) REFERENCES sftp_users (tenant_id, id) ON DELETE CASCADE
);
SELECT limen_protect('ssh_keys', 'SELECT,INSERT,DELETE');
