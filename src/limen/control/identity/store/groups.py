"""Groups, memberships, and the facts that decisions rest on."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from limen.control.identity.model import Group, PersonFacts, PersonState, SignInMethod
from limen.db.database import Row, Tx
from limen.kernel.errors import NotFound
from limen.kernel.principal import Role

_GROUP = """
SELECT g.id, g.name, g.builtin, g.created_at,
       coalesce(array_agg(m.person_id) FILTER (WHERE m.person_id IS NOT NULL), '{}') AS member_ids
FROM groups g LEFT JOIN group_members m ON m.tenant_id = g.tenant_id AND m.group_id = g.id
WHERE g.tenant_id = %s"""


async def insert_group(tx: Tx, group: Group) -> bool:
    """Insert; ``False`` when the name is taken (ignoring case)."""
    return bool(
        await tx.execute(
            "INSERT INTO groups (tenant_id, id, name, builtin, created_at) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (tx.tenant_id, group.id, group.name, group.builtin, group.created_at),
        )
    )


async def list_groups(tx: Tx) -> list[Group]:
    """All groups with their explicit members, by name."""
    rows = await tx.fetch(f"{_GROUP} GROUP BY g.tenant_id, g.id ORDER BY g.name_lc", (tx.tenant_id,))
    return [_group(row) for row in rows]


async def find_group(tx: Tx, group_id: UUID) -> Group | None:
    """One group with its explicit members."""
    row = await tx.fetch_one(f"{_GROUP} AND g.id = %s GROUP BY g.tenant_id, g.id", (tx.tenant_id, group_id))
    return _group(row) if row is not None else None


async def delete_group(tx: Tx, group_id: UUID) -> None:
    """Delete a group and its memberships."""
    await tx.execute("DELETE FROM groups WHERE tenant_id = %s AND id = %s", (tx.tenant_id, group_id))


async def add_member(tx: Tx, group_id: UUID, person_id: UUID, now: datetime) -> bool:
    """Add; ``False`` when the person is a member already."""
    return bool(
        await tx.execute(
            "INSERT INTO group_members (tenant_id, group_id, person_id, added_at) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (tx.tenant_id, group_id, person_id, now),
        )
    )


async def remove_member(tx: Tx, group_id: UUID, person_id: UUID) -> bool:
    """Remove; ``False`` when the person is no member."""
    return bool(
        await tx.execute(
            "DELETE FROM group_members WHERE tenant_id = %s AND group_id = %s AND person_id = %s",
            (tx.tenant_id, group_id, person_id),
        )
    )


async def facts(tx: Tx, person_ids: Sequence[UUID], credential_id: UUID | None) -> list[PersonFacts]:
    """State, role, groups and sign-in method of people, in one query."""
    rows = await tx.fetch(
        """
        SELECT p.id, p.state, p.role,
               array(SELECT m.group_id FROM group_members m
                     WHERE m.tenant_id = p.tenant_id AND m.person_id = p.id) AS groups,
               array(SELECT g.id FROM groups g WHERE g.tenant_id = p.tenant_id AND g.builtin) AS everyone,
               (SELECT s.method FROM sessions s WHERE s.tenant_id = p.tenant_id AND s.id = %s
                AND s.person_id = p.id AND s.ended_at IS NULL) AS method
        FROM people p WHERE p.tenant_id = %s AND p.id = ANY(%s)
        """,
        (credential_id, tx.tenant_id, list(person_ids)),
    )
    return [
        PersonFacts(
            person_id=row["id"],
            state=PersonState(row["state"]),
            role=Role(row["role"]),
            groups=frozenset(row["groups"]) | frozenset(row["everyone"]),
            sign_in_method=SignInMethod(row["method"]) if row["method"] is not None else None,
        )
        for row in rows
    ]


async def everyone(tx: Tx) -> UUID:
    """The built-in group.

    Raises:
        NotFound: when the tenant is still being opened.
    """
    row = await tx.fetch_one("SELECT id FROM groups WHERE tenant_id = %s AND builtin", (tx.tenant_id,))
    if row is None:
        raise NotFound("this tenant has no built-in group")
    group_id: UUID = row["id"]
    return group_id


async def principal_kind(tx: Tx, principal_id: UUID) -> str | None:
    """``group`` or ``person`` (not removed), whichever has this id."""
    row = await tx.fetch_one(
        "SELECT 'group' AS kind FROM groups WHERE tenant_id = %s AND id = %s UNION ALL"
        " SELECT 'person' FROM people WHERE tenant_id = %s AND id = %s AND state <> 'removed'",
        (tx.tenant_id, principal_id, tx.tenant_id, principal_id),
    )
    kind: str | None = row["kind"] if row is not None else None
    return kind


async def names(tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
    """Names of the groups among ``ids``."""
    rows = await tx.fetch(
        "SELECT id, name FROM groups WHERE tenant_id = %s AND id = ANY(%s)", (tx.tenant_id, list(ids))
    )
    return {row["id"]: row["name"] for row in rows}


def _group(row: Row) -> Group:
    return Group(row["id"], row["name"], row["builtin"], row["created_at"], frozenset(row["member_ids"]))
