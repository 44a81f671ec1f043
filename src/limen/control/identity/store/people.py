"""People, their passwords and one-time links."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from limen.control.identity.model import Person, PersonState, TokenPurpose
from limen.db.database import Row, Tx
from limen.kernel.principal import Role

Unseal = Callable[[str, str, UUID, bytes], bytes]


@dataclass(frozen=True, slots=True)
class PasswordRow:
    """What sign-in needs to know of an account."""

    person_id: UUID
    state: PersonState
    argon2_hash: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A one-time link that was just used up."""

    purpose: TokenPurpose
    person_id: UUID | None


async def insert_person(tx: Tx, person: Person) -> bool:
    """Insert; ``False`` when the tenant has someone with this address already."""
    cipher = await tx.cipher()
    return bool(
        await tx.execute(
            "INSERT INTO people (tenant_id, id, email_tag, email_sealed, name_sealed, role, state, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, email_tag) DO NOTHING",
            (
                tx.tenant_id,
                person.id,
                cipher.tag("email", person.email),
                cipher.seal("people", "email_sealed", person.id, person.email.encode()),
                cipher.seal("people", "name_sealed", person.id, person.name.encode()),
                person.role.value,
                person.state.value,
                person.created_at,
            ),
        )
    )


_PERSON = "id, email_sealed, name_sealed, role, state, created_at"


async def list_people(tx: Tx) -> list[Person]:
    """Everyone who was not removed, in order of creation."""
    rows = await tx.fetch(
        f"SELECT {_PERSON} FROM people WHERE tenant_id = %s AND state <> 'removed' ORDER BY id",  # noqa: S608
        (tx.tenant_id,),
    )
    cipher = await tx.cipher()
    return [_person(row, cipher.open) for row in rows]


async def find_person(tx: Tx, person_id: UUID, *, lock: bool = False) -> Person | None:
    """One person, removed ones included; ``lock`` holds the row until the end of the transaction."""
    row = await tx.fetch_one(
        f"SELECT {_PERSON} FROM people WHERE tenant_id = %s AND id = %s" + (" FOR NO KEY UPDATE" if lock else ""),  # noqa: S608
        (tx.tenant_id, person_id),
    )
    return _person(row, (await tx.cipher()).open) if row is not None else None


async def names(tx: Tx, ids: frozenset[UUID]) -> dict[UUID, str]:
    """Names of the people among ``ids``, removed ones included."""
    rows = await tx.fetch(
        "SELECT id, name_sealed FROM people WHERE tenant_id = %s AND id = ANY(%s)", (tx.tenant_id, list(ids))
    )
    cipher = await tx.cipher()
    return {row["id"]: cipher.open("people", "name_sealed", row["id"], row["name_sealed"]).decode() for row in rows}


async def find_password(tx: Tx, email: str) -> PasswordRow | None:
    """The account of a normalised address."""
    row = await tx.fetch_one(
        "SELECT p.id, p.state, c.argon2_hash FROM people p LEFT JOIN password_credentials c"
        " ON c.tenant_id = p.tenant_id AND c.person_id = p.id WHERE p.tenant_id = %s AND p.email_tag = %s",
        (tx.tenant_id, await tx.tag("email", email)),
    )
    return PasswordRow(row["id"], PersonState(row["state"]), row["argon2_hash"]) if row is not None else None


async def lock_password(tx: Tx, person_id: UUID) -> PasswordRow | None:
    """The same by id; the person's row cannot change until the end of the transaction."""
    row = await tx.fetch_one(
        "SELECT p.id, p.state, c.argon2_hash FROM people p LEFT JOIN password_credentials c"
        " ON c.tenant_id = p.tenant_id AND c.person_id = p.id WHERE p.tenant_id = %s AND p.id = %s"
        " FOR NO KEY UPDATE OF p",
        (tx.tenant_id, person_id),
    )
    return PasswordRow(row["id"], PersonState(row["state"]), row["argon2_hash"]) if row is not None else None


async def save_password(tx: Tx, person_id: UUID, argon2_hash: str, now: datetime) -> None:
    """Set or replace a person's password."""
    await tx.execute(
        "INSERT INTO password_credentials (tenant_id, person_id, argon2_hash, changed_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (tenant_id, person_id) DO UPDATE SET argon2_hash = excluded.argon2_hash,"
        " changed_at = excluded.changed_at",
        (tx.tenant_id, person_id, argon2_hash, now),
    )


async def delete_password(tx: Tx, person_id: UUID) -> None:
    """Forget a person's password."""
    await tx.execute(
        "DELETE FROM password_credentials WHERE tenant_id = %s AND person_id = %s", (tx.tenant_id, person_id)
    )


async def set_state(tx: Tx, person_id: UUID, state: PersonState) -> None:
    """Set the state of someone who is not removed."""
    await tx.execute(
        "UPDATE people SET state = %s WHERE tenant_id = %s AND id = %s AND state <> 'removed'",
        (state.value, tx.tenant_id, person_id),
    )


async def set_role(tx: Tx, person_id: UUID, role: Role) -> None:
    """Set the role."""
    await tx.execute(
        "UPDATE people SET role = %s WHERE tenant_id = %s AND id = %s", (role.value, tx.tenant_id, person_id)
    )


async def mark_removed(tx: Tx, person_id: UUID, now: datetime) -> None:
    """Remove: the row stays for the audit trail, the address is free again, links are void."""
    await tx.execute(
        "UPDATE people SET state = 'removed', email_tag = NULL, removed_at = %s WHERE tenant_id = %s AND id = %s",
        (now, tx.tenant_id, person_id),
    )
    await tx.execute("DELETE FROM group_members WHERE tenant_id = %s AND person_id = %s", (tx.tenant_id, person_id))
    await void_links(tx, person_id, now)


async def lock_owners(tx: Tx) -> frozenset[UUID]:
    """The owners, locked in a fixed order, so that two removals cannot leave the tenant without one."""
    rows = await tx.fetch(
        "SELECT id FROM people WHERE tenant_id = %s AND role = 'owner' AND state <> 'removed'"
        " ORDER BY id FOR NO KEY UPDATE",
        (tx.tenant_id,),
    )
    return frozenset(row["id"] for row in rows)


async def insert_link(
    tx: Tx,
    link_id: UUID,
    purpose: TokenPurpose,
    person_id: UUID | None,
    secret_hash: bytes,
    now: datetime,
    until: datetime,
) -> None:
    """Store a one-time link by the hash of its secret."""
    await tx.execute(
        "INSERT INTO one_time_tokens (tenant_id, id, purpose, person_id, secret_hash, created_at, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (tx.tenant_id, link_id, purpose.value, person_id, secret_hash, now, until),
    )


async def void_links(tx: Tx, person_id: UUID | None, now: datetime) -> None:
    """End all unused links of a person (``None``: of the first owner)."""
    await tx.execute(
        "UPDATE one_time_tokens SET used_at = %s WHERE tenant_id = %s AND person_id IS NOT DISTINCT FROM %s"
        " AND used_at IS NULL",
        (now, tx.tenant_id, person_id),
    )


async def peek_link(tx: Tx, link_id: UUID, secret_hash: bytes, now: datetime) -> TokenPurpose | None:
    """What a usable link is for, without using it: a stranger's guess must not cost a password hash."""
    row = await tx.fetch_one(
        "SELECT purpose FROM one_time_tokens WHERE tenant_id = %s AND id = %s AND secret_hash = %s"
        " AND used_at IS NULL AND expires_at > %s",
        (tx.tenant_id, link_id, secret_hash, now),
    )
    return TokenPurpose(row["purpose"]) if row is not None else None


async def use_link(tx: Tx, link_id: UUID, secret_hash: bytes, now: datetime) -> LinkRow | None:
    """Use a link up, in one statement: of two at once only one gets the row."""
    rows = await tx.fetch(
        "UPDATE one_time_tokens SET used_at = %s WHERE tenant_id = %s AND id = %s AND secret_hash = %s"
        " AND used_at IS NULL AND expires_at > %s RETURNING purpose, person_id",
        (now, tx.tenant_id, link_id, secret_hash, now),
    )
    return LinkRow(TokenPurpose(rows[0]["purpose"]), rows[0]["person_id"]) if rows else None


def _person(row: Row, unseal: Unseal) -> Person:
    return Person(
        id=row["id"],
        email=unseal("people", "email_sealed", row["id"], row["email_sealed"]).decode(),
        name=unseal("people", "name_sealed", row["id"], row["name_sealed"]).decode(),
        role=Role(row["role"]),
        state=PersonState(row["state"]),
        created_at=row["created_at"],
    )
