"""The only SQL of the tenancy room: tenants, and operators through their own database roles."""

from uuid import UUID

from limen.control.tenancy.model import Operator, Tenant, TenantState
from limen.db.database import Database, Row, SystemRole, Tx


async def insert_tenant(tx: Tx, tenant: Tenant) -> bool:
    """Insert with its version row; ``False`` when the slug is taken."""
    inserted = await tx.execute(
        "INSERT INTO tenants (id, slug, name, state, created_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (slug) DO NOTHING",
        (tenant.id, tenant.slug, tenant.name, tenant.state.value, tenant.created_at),
    )
    if not inserted:
        return False
    await tx.execute("INSERT INTO tenant_versions (tenant_id, version) VALUES (%s, 0)", (tenant.id,))
    return True


async def list_tenants(database: Database) -> list[Tenant]:
    """All tenants, by slug."""
    async with database.system(SystemRole.PLATFORM) as tx:
        rows = await tx.fetch("SELECT id, slug, name, state, created_at FROM tenants ORDER BY slug")
    return [_tenant(row) for row in rows]


async def find_by_slug(database: Database, slug: str) -> tuple[UUID, TenantState] | None:
    """The tenant at a host label."""
    async with database.system(SystemRole.DIRECTORY) as tx:
        row = await tx.fetch_one("SELECT id, state FROM tenants WHERE slug = %s", (slug,))
    return (row["id"], TenantState(row["state"])) if row is not None else None


async def insert_operator(database: Database, operator: Operator, token_hash: bytes) -> None:
    """Insert, or give the operator of this name the new token."""
    async with database.system(SystemRole.PLATFORM) as tx:
        await tx.execute(
            "INSERT INTO operators (id, name, token_hash) VALUES (%s, %s, %s)",
            (operator.id, operator.name, token_hash),
        )


async def replace_token(database: Database, name: str, token_hash: bytes) -> UUID | None:
    """Give an existing operator another token; ``None`` when there is none of this name."""
    async with database.system(SystemRole.PLATFORM) as tx:
        row = await tx.fetch_one(
            "UPDATE operators SET token_hash = %s WHERE name = %s AND state = 'active' RETURNING id", (token_hash, name)
        )
    operator_id: UUID | None = row["id"] if row is not None else None
    return operator_id


async def find_operator(database: Database, operator_id: UUID) -> tuple[Operator, bytes] | None:
    """An active operator and the hash of their token."""
    async with database.system(SystemRole.PLATFORM) as tx:
        row = await tx.fetch_one(
            "SELECT id, name, token_hash FROM operators WHERE id = %s AND state = 'active'", (operator_id,)
        )
    return (Operator(row["id"], row["name"]), bytes(row["token_hash"])) if row is not None else None


def _tenant(row: Row) -> Tenant:
    return Tenant(row["id"], row["slug"], row["name"], TenantState(row["state"]), row["created_at"])
