-- Identity: people, groups, credentials, sessions, throttle counters, one-time tokens.
-- Personal values (e-mail, names of people, addresses) are sealed under the tenant's key and found by HMAC
-- equality only; nothing here is readable without that key.

CREATE TABLE people (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id),
    id            uuid        NOT NULL,
    email_tag     bytea,      -- HMAC of the normalised address; NULL once removed, so that it can be used again
    email_sealed  bytea       NOT NULL,
    name_sealed   bytea       NOT NULL,
    role          text        NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    state         text        NOT NULL CHECK (state IN ('invited', 'active', 'removed')),
    created_at    timestamptz NOT NULL,
    removed_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email_tag),
    CHECK ((state = 'removed') = (email_tag IS NULL)),
    CHECK ((state = 'removed') = (removed_at IS NOT NULL))
);
SELECT limen_protect('people', 'SELECT,INSERT,UPDATE');

-- The built-in group has every person in it without membership rows.
CREATE TABLE groups (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL,
    name_lc     text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
    builtin     boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_lc)
);
CREATE UNIQUE INDEX groups_one_builtin ON groups (tenant_id) WHERE builtin;
SELECT limen_protect('groups');

CREATE TABLE group_members (
    tenant_id  uuid        NOT NULL,
    group_id   uuid        NOT NULL,
    person_id  uuid        NOT NULL,
    added_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, group_id, person_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id)
);
CREATE INDEX group_members_by_person ON group_members (tenant_id, person_id);
SELECT limen_protect('group_members', 'SELECT,INSERT,DELETE');

CREATE TABLE password_credentials (
    tenant_id    uuid        NOT NULL,
    person_id    uuid        NOT NULL,
    argon2_hash  text        NOT NULL CHECK (argon2_hash LIKE '$argon2id$%'),
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, person_id),
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id)
);
SELECT limen_protect('password_credentials');

CREATE TABLE sessions (
    tenant_id      uuid        NOT NULL,
    id             uuid        NOT NULL,
    person_id      uuid        NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('cookie', 'bearer')),
    method         text        NOT NULL CHECK (method IN ('password')),
    source_tag     bytea       NOT NULL,
    source_sealed  bytea       NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    ended_reason   text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id),
    CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
CREATE INDEX sessions_open_by_person ON sessions (tenant_id, person_id) WHERE ended_at IS NULL;
SELECT limen_protect('sessions', 'SELECT,INSERT,UPDATE');

-- Throttle counters. The tag is an HMAC over the account and network, or over the address.
CREATE TABLE sign_in_attempts (
    tenant_id      uuid        NOT NULL REFERENCES tenants (id),
    tag            bytea       NOT NULL,
    scope          text        NOT NULL CHECK (scope IN ('account', 'address')),
    failures       integer     NOT NULL CHECK (failures >= 0),
    last_at        timestamptz NOT NULL,
    blocked_until  timestamptz,
    PRIMARY KEY (tenant_id, tag)
);
CREATE INDEX sign_in_attempts_by_silence ON sign_in_attempts (tenant_id, last_at);
SELECT limen_protect('sign_in_attempts');

CREATE TABLE one_time_tokens (
    tenant_id    uuid        NOT NULL REFERENCES tenants (id),
    id           uuid        NOT NULL,
    purpose      text        NOT NULL CHECK (purpose IN ('owner-setup', 'person-setup', 'password-reset')),
    person_id    uuid,       -- NULL: the first owner, who does not exist yet
    secret_hash  bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, person_id) REFERENCES people (tenant_id, id),
    CHECK ((purpose = 'owner-setup') = (person_id IS NULL))
);
SELECT limen_protect('one_time_tokens', 'SELECT,INSERT,UPDATE');
