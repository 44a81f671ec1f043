-- The ledger of grants, the receipts of enforcement points, and the blocks that keep a cut access cut.

CREATE TABLE grants (
    tenant_id      uuid        NOT NULL REFERENCES tenants (id),
    id             uuid        NOT NULL,
    number         bigint      NOT NULL CHECK (number BETWEEN 1 AND 4294967295),
    subject_kind   text        NOT NULL CHECK (subject_kind IN ('person', 'workload')),
    subject_id     uuid        NOT NULL,
    device_id      uuid,
    credential_id  uuid,
    resource_id    uuid        NOT NULL,
    resource_kind  text        NOT NULL CHECK (resource_kind IN ('network', 'bucket', 'vault', 'console')),
    actions        text[]      NOT NULL,
    policy_id      uuid        NOT NULL,
    version        bigint      NOT NULL,
    agent_id       uuid,
    source         bytea,
    issued_at      timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    state          text        NOT NULL CHECK (state IN ('live', 'revoked', 'expired', 'ended')),
    ended_at       timestamptz,
    ended_reason   text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    CHECK ((state = 'live') = (ended_at IS NULL))
);
CREATE INDEX grants_live_by_subject ON grants (tenant_id, subject_id) WHERE state = 'live';
CREATE INDEX grants_live_by_credential ON grants (tenant_id, credential_id) WHERE state = 'live';
CREATE INDEX grants_live_by_resource ON grants (tenant_id, resource_id) WHERE state = 'live';
CREATE INDEX grants_live_by_agent ON grants (tenant_id, agent_id) WHERE state = 'live';
CREATE INDEX grants_live_by_expiry ON grants (expires_at) WHERE state = 'live';
SELECT limen_protect('grants', 'SELECT,INSERT,UPDATE');
-- The expiry job needs to know which tenants have grants that are over, and nothing else of them.
SELECT limen_allow_system('grants', 'limen_expiry', 'tenant_id,state,expires_at', 'SELECT');

CREATE TABLE receipts (
    tenant_id    uuid        NOT NULL,
    grant_id     uuid        NOT NULL,
    agent_id     uuid        NOT NULL,
    reason       text        NOT NULL,
    cut_at       timestamptz NOT NULL,
    last_byte_at timestamptz,
    bytes_in     bigint      NOT NULL,
    bytes_out    bigint      NOT NULL,
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, grant_id),
    FOREIGN KEY (tenant_id, grant_id) REFERENCES grants (tenant_id, id)
);
SELECT limen_protect('receipts', 'SELECT,INSERT');

-- resource_id NULL: the subject is suspended from everything. At most one block in force for each pair.
CREATE TABLE blocks (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id),
    id          uuid        NOT NULL,
    subject_id  uuid        NOT NULL,
    resource_id uuid,
    reason      text        NOT NULL,
    set_by      uuid,
    set_at      timestamptz NOT NULL,
    lifted_by   uuid,
    lifted_at   timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX blocks_in_force ON blocks (tenant_id, subject_id, resource_id) NULLS NOT DISTINCT
    WHERE lifted_at IS NULL;
SELECT limen_protect('blocks', 'SELECT,INSERT,UPDATE');
