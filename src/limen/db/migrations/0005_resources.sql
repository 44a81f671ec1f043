-- Resources: what a policy can name. One row for every kind of door; the attributes of a kind are validated by
-- limen.control.resources.rules before they are stored.

CREATE TABLE resources (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id),
    id          uuid        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('network', 'bucket', 'vault', 'console')),
    name        text        NOT NULL,
    name_lc     text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
    attributes  jsonb       NOT NULL DEFAULT '{}',
    builtin     boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, kind, name_lc)
);
SELECT limen_protect('resources');
