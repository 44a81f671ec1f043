-- Vault: workloads, tokens, secrets and their versions. Values are sealed inside the custody daemon under the
-- tenant's vault key; paths stay readable so that they can be listed by prefix.

CREATE TABLE workloads (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    name_lc     text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
    state       text        NOT NULL CHECK (state IN ('active', 'removed')),
    created_at  timestamptz NOT NULL,
    removed_at  timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((state = 'removed') = (removed_at IS NOT NULL))
);
CREATE UNIQUE INDEX workloads_active_name ON workloads (tenant_id, name_lc) WHERE state = 'active';
SELECT limen_protect('workloads', 'SELECT,INSERT,UPDATE');

-- The secret of a token is 256 random bits, so one SHA-256 is as good as a slow hash. A token is never deleted:
-- its row is what a later "who used it" resolves to. ttl and max_ttl are seconds.
CREATE TABLE vault_tokens (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id),
    id            uuid        NOT NULL,
    secret_hash   bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    accessor      text        COLLATE "C" NOT NULL,
    subject_kind  text        NOT NULL CHECK (subject_kind IN ('person', 'workload')),
    subject_id    uuid        NOT NULL,
    display       text        NOT NULL CHECK (length(display) <= 64),
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ttl           integer     NOT NULL CHECK (ttl > 0),
    max_ttl       integer     NOT NULL CHECK (max_ttl >= ttl),
    renewable     boolean     NOT NULL,
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, accessor)
);
CREATE INDEX vault_tokens_by_subject ON vault_tokens (tenant_id, subject_id) WHERE revoked_at IS NULL;
SELECT limen_protect('vault_tokens', 'SELECT,INSERT,UPDATE');

-- delete_after is seconds, 0 for never; max_versions 0 means the default of limen.control.vault.rules.versions.
-- A mount that still holds secrets cannot be removed: the reference has no ON DELETE action on purpose.
CREATE TABLE vault_secrets (
    tenant_id         uuid        NOT NULL,
    id                uuid        NOT NULL,
    mount_id          uuid        NOT NULL,
    path              text        COLLATE "C" NOT NULL,
    current_version   bigint      NOT NULL CHECK (current_version >= 0),
    oldest_version    bigint      NOT NULL CHECK (oldest_version >= 0),
    max_versions      integer     NOT NULL CHECK (max_versions >= 0),
    cas_required      boolean     NOT NULL,
    delete_after      bigint      NOT NULL CHECK (delete_after >= 0),
    custom_metadata   bytea,
    metadata_version  bigint      NOT NULL CHECK (metadata_version >= 0),
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, mount_id, path),
    FOREIGN KEY (tenant_id, mount_id) REFERENCES resources (tenant_id, id)
);
SELECT limen_protect('vault_secrets');

-- A destroyed version keeps its dates and loses its ciphertext.
CREATE TABLE vault_versions (
    tenant_id      uuid        NOT NULL,
    secret_id      uuid        NOT NULL,
    version        bigint      NOT NULL CHECK (version > 0),
    blob           bytea,
    created_at     timestamptz NOT NULL,
    deletion_time  timestamptz,
    destroyed      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, secret_id, version),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES vault_secrets (tenant_id, id) ON DELETE CASCADE,
    CHECK (destroyed = (blob IS NULL))
);
SELECT limen_protect('vault_versions');
