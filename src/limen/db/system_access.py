"""The short lists that the catalogue audit holds the schema to; a reviewer reads every line added.

``PLATFORM_TABLES`` are the tables without a tenant. ``DIRECTORY_TABLES`` belong to tenants like all others,
but their key is unique over the platform, because they lead from a name on the wire to its tenant; such a key
tells who exists, so it holds random names only. ``SYSTEM_ACCESS`` are the tables of which an enumerated job
may see columns over all tenants; the columns themselves are granted in the migration
(``limen_allow_system``).
"""

from limen.db.roles import SystemRole

PLATFORM_TABLES: frozenset[str] = frozenset(
    {
        "tenants",
        "operators",
        "schema_migrations",
        "platform_agents",  # agents that serve all tenants
        "platform_enrolment_tokens",
        "audit_checkpoints",  # hashes and signatures of the whole installation
    }
)

DIRECTORY_TABLES: frozenset[str] = frozenset(
    {
        "connection_directory",  # random connection slug -> tenant, at SFTP sign-in
    }
)

SYSTEM_ACCESS: frozenset[tuple[str, SystemRole]] = frozenset(
    {
        ("tenants", SystemRole.PLATFORM),  # list tenants
        ("tenants", SystemRole.DIRECTORY),  # name -> tenant at sign-in
        ("operators", SystemRole.PLATFORM),  # sign operators in
        ("platform_agents", SystemRole.PLATFORM),
        ("platform_enrolment_tokens", SystemRole.PLATFORM),
        ("tenant_versions", SystemRole.FEED),  # how far each tenant is
        ("outbox", SystemRole.FEED),  # relay changes to the enforcement points
        ("outbox", SystemRole.EXPIRY),  # prune what every enforcement point has applied
        ("audit_pending", SystemRole.SEALER),  # hashes of leaves that are not sealed yet
        ("audit_seals", SystemRole.SEALER),  # each tenant's chain of seals
        ("audit_checkpoints", SystemRole.SEALER),
        ("connection_directory", SystemRole.DIRECTORY),  # slug -> tenant at SFTP sign-in
        ("grants", SystemRole.DIRECTORY),  # in which tenants a file agent has live grants
        ("grants", SystemRole.EXPIRY),  # which tenants have grants that ran out
    }
)
