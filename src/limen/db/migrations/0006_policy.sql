-- Policies as data. Conditions are a typed, closed set, validated by limen.control.policy.rules when saved.

CREATE TABLE policies (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL,
    name_lc     text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
    effect      text        NOT NULL CHECK (effect IN ('allow', 'deny')),
    actions     text[]      NOT NULL,
    conditions  jsonb       NOT NULL DEFAULT '[]',
    builtin     boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_lc)
);
SELECT limen_protect('policies');

-- A principal is a group, a person or a workload; the service checks that it exists in this tenant.
CREATE TABLE policy_principals (
    tenant_id    uuid NOT NULL,
    policy_id    uuid NOT NULL,
    principal_id uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('group', 'person', 'workload')),
    PRIMARY KEY (tenant_id, policy_id, principal_id),
    FOREIGN KEY (tenant_id, policy_id) REFERENCES policies (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX policy_principals_by_principal ON policy_principals (tenant_id, principal_id);
SELECT limen_protect('policy_principals');

CREATE TABLE policy_resources (
    tenant_id   uuid NOT NULL,
    policy_id   uuid NOT NULL,
    resource_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, policy_id, resource_id),
    FOREIGN KEY (tenant_id, policy_id) REFERENCES policies (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, resource_id) REFERENCES resources (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX policy_resources_by_resource ON policy_resources (tenant_id, resource_id);
SELECT limen_protect('policy_resources');
