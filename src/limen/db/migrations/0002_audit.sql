-- The audit trail: leaves and their values, what waits for a seal, seals per tenant, the chain of checkpoints.

-- Leaves are for ever: the application may add and read them, nobody may change or remove them. A month goes as a
-- whole partition, when the longest retention in it has passed.
CREATE TABLE audit_leaves (
    tenant_id   uuid        NOT NULL,
    at          timestamptz NOT NULL,
    id          uuid        NOT NULL,
    action      text        NOT NULL COLLATE "C" CHECK (length(action) <= 100),
    outcome     text        NOT NULL CHECK (outcome IN ('ok', 'denied', 'failed')),
    actor_kind  text        NOT NULL
        CHECK (actor_kind IN ('person', 'workload', 'agent', 'operator', 'system', 'anonymous')),
    actor_id    uuid,
    object_kind text        NOT NULL,
    object_id   uuid,
    leaf        bytea       NOT NULL,
    PRIMARY KEY (tenant_id, at, id)
) PARTITION BY RANGE (at);
CREATE INDEX audit_leaves_by_actor ON audit_leaves (tenant_id, actor_id, at) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_leaves_by_object ON audit_leaves (tenant_id, object_id, at) WHERE object_id IS NOT NULL;
CREATE INDEX audit_leaves_by_action ON audit_leaves (tenant_id, action, at);
CREATE INDEX audit_leaves_by_time ON audit_leaves USING brin (at);

-- What the commitments of a leaf hide. Erasure and retention happen here and touch no proof.
-- ``sealed`` is {"personal": ..., "source": ...} under the tenant's key, ``source_tag`` the keyed tag of the address.
CREATE TABLE audit_values (
    tenant_id  uuid        NOT NULL,
    at         timestamptz NOT NULL,
    id         uuid        NOT NULL,
    salts      bytea       NOT NULL CHECK (length(salts) = 128),
    detail     jsonb       NOT NULL,
    source_tag bytea       CHECK (length(source_tag) = 32),
    sealed     bytea,
    PRIMARY KEY (tenant_id, at, id)
) PARTITION BY RANGE (at);
CREATE INDEX audit_values_by_source ON audit_values (tenant_id, source_tag, at) WHERE source_tag IS NOT NULL;

-- One entry for each leaf that no seal covers yet; the sealer sees only these columns.
CREATE TABLE audit_pending (
    tenant_id uuid        NOT NULL,
    at        timestamptz NOT NULL,
    id        uuid        NOT NULL,
    leaf_hash bytea       NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (tenant_id, at, id)
);

-- ``members`` names the leaves in order, 56 bytes each: microseconds (8), id (16), leaf hash (32).
CREATE TABLE audit_seals (
    tenant_id   uuid        NOT NULL,
    number      bigint      NOT NULL CHECK (number > 0),
    checkpoint  bigint      NOT NULL,
    before      bigint      NOT NULL CHECK (before >= 0),
    count       bigint      NOT NULL CHECK (count > 0),
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL CHECK (last_at >= first_at),
    root        bytea       NOT NULL CHECK (length(root) = 32),
    previous    bytea       NOT NULL CHECK (length(previous) = 32),
    hash        bytea       NOT NULL CHECK (length(hash) = 32),
    proof_index bigint      NOT NULL,
    proof_size  bigint      NOT NULL CHECK (proof_index >= 0 AND proof_index < proof_size),
    proof_path  bytea       NOT NULL CHECK (length(proof_path) % 32 = 0),
    members     bytea       NOT NULL CHECK (length(members) = 56 * count),
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX audit_seals_by_checkpoint ON audit_seals (tenant_id, checkpoint);

-- The chain of the whole installation: hashes and signatures only, nothing of any tenant.
CREATE TABLE audit_checkpoints (
    number    bigint      NOT NULL PRIMARY KEY CHECK (number > 0),
    at        timestamptz NOT NULL,
    size      bigint      NOT NULL CHECK (size > 0),
    root      bytea       NOT NULL CHECK (length(root) = 32),
    previous  bytea       NOT NULL CHECK (length(previous) = 32),
    key_id    bytea       NOT NULL CHECK (length(key_id) = 8),
    hash      bytea       NOT NULL CHECK (length(hash) = 32),
    signature bytea       NOT NULL CHECK (length(signature) = 64)
);

SELECT limen_protect('audit_leaves', 'SELECT,INSERT');
SELECT limen_protect('audit_values', 'SELECT,INSERT');
SELECT limen_protect('audit_pending', 'INSERT');
SELECT limen_protect('audit_seals', 'SELECT');

-- Every tenant may read the chain of checkpoints: its exports carry them.
ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
REVOKE ALL ON TABLE audit_checkpoints FROM PUBLIC;
CREATE POLICY readers ON audit_checkpoints FOR SELECT TO limen_app USING (true);
GRANT SELECT ON audit_checkpoints TO limen_app;

-- The sealer sees hashes of all tenants and no leaf, takes entries off the pending table, and adds to the chains.
SELECT limen_allow_system('audit_pending', 'limen_sealer', 'tenant_id,at,id,leaf_hash', 'SELECT');
SELECT limen_allow_system('audit_pending', 'limen_sealer', '', 'DELETE');
SELECT limen_allow_system('audit_seals', 'limen_sealer', 'tenant_id,number,checkpoint,before,count,hash', 'SELECT');
SELECT limen_allow_system('audit_seals', 'limen_sealer',
    'tenant_id,number,checkpoint,before,count,first_at,last_at,root,previous,hash,proof_index,proof_size,proof_path,members',
    'INSERT');
SELECT limen_allow_system('audit_checkpoints', 'limen_sealer',
    'number,at,size,root,previous,key_id,hash,signature', 'SELECT');
SELECT limen_allow_system('audit_checkpoints', 'limen_sealer',
    'number,at,size,root,previous,key_id,hash,signature', 'INSERT');

-- Months of leaves and values. Partitions are reached through their parents only: they get no grants, and row-level
-- security without a policy shuts the direct way.
CREATE FUNCTION limen_audit_partition(parent text, child text, bounds text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF to_regclass(child) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I %s', child, parent, bounds);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', child);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', child);
        EXECUTE format('REVOKE ALL ON TABLE %I FROM PUBLIC', child);
    END IF;
END $$;
REVOKE ALL ON FUNCTION limen_audit_partition(text, text, text) FROM PUBLIC;

-- Rows whose month has not been made (see limen.control.audit.partitions).
SELECT limen_audit_partition('audit_leaves', 'audit_leaves_default', 'DEFAULT');
SELECT limen_audit_partition('audit_values', 'audit_values_default', 'DEFAULT');
