"""The only SQL of the resources room."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from limen.control.resources.model import Resource
from limen.db.database import Row, Tx
from limen.kernel.access import ResourceKind

_COLUMNS = "tenant_id, id, kind, name, attributes, builtin, created_at"


def _resource(row: Row) -> Resource:
    return Resource(
        tenant_id=row["tenant_id"],
        id=row["id"],
        kind=ResourceKind(row["kind"]),
        name=row["name"],
        attributes=row["attributes"],
        builtin=row["builtin"],
        created_at=row["created_at"],
    )


async def insert(tx: Tx, resource: Resource, now: datetime) -> bool:
    """Insert; False when the name is taken within its kind."""
    count = await tx.execute(
        "INSERT INTO resources (tenant_id, id, kind, name, attributes, builtin, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, kind, name_lc) DO NOTHING",
        (
            tx.tenant_id,
            resource.id,
            resource.kind,
            resource.name,
            Jsonb(dict(resource.attributes)),
            resource.builtin,
            now,
        ),
    )
    return count == 1


async def find(tx: Tx, resource_id: UUID) -> Resource | None:
    """One resource by id."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM resources WHERE tenant_id = %s AND id = %s",  # noqa: S608
        (tx.tenant_id, resource_id),
    )
    return _resource(row) if row else None


async def find_named(tx: Tx, kind: ResourceKind, name: str) -> Resource | None:
    """One resource by kind and name, letter case ignored."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM resources WHERE tenant_id = %s AND kind = %s AND name_lc = lower(%s)",  # noqa: S608
        (tx.tenant_id, kind, name),
    )
    return _resource(row) if row else None


async def find_many(tx: Tx, ids: Iterable[UUID]) -> list[Resource]:
    """The resources among ``ids`` that exist, by name."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM resources WHERE tenant_id = %s AND id = ANY(%s) ORDER BY name_lc",  # noqa: S608
        (tx.tenant_id, list(ids)),
    )
    return [_resource(row) for row in rows]


async def list_all(tx: Tx, kind: ResourceKind | None) -> list[Resource]:
    """All resources of the tenant, or of one kind, by kind and name."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM resources WHERE tenant_id = %s AND (%s::text IS NULL OR kind = %s)"  # noqa: S608
        " ORDER BY kind, name_lc",
        (tx.tenant_id, kind, kind),
    )
    return [_resource(row) for row in rows]


async def delete(tx: Tx, resource_id: UUID) -> None:
    """Delete one resource; its place in policies goes with it."""
    await tx.execute("DELETE FROM resources WHERE tenant_id = %s AND id = %s", (tx.tenant_id, resource_id))
