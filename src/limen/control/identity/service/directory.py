"""People and groups: create, list, change, remove. Every change is a fact that grants may rest on."""

from uuid import UUID

from limen.control.audit.model import AuditEvent, DetailValue, Outcome
from limen.control.audit.service import record
from limen.control.identity import rules
from limen.control.identity.model import (
    EVERYONE,
    EndReason,
    Group,
    InvitedPerson,
    Person,
    PersonState,
    TokenPurpose,
)
from limen.control.identity.service import links
from limen.control.identity.service.sessions import end_all_sessions
from limen.control.identity.store import groups as group_store
from limen.control.identity.store import people as store
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Principal, Role, tenant_of


class Directory:
    """The people and groups of a tenant. ``who`` is the person acting; their tenant is the one acted on."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- people -------------------------------------------------------------------------------------------

    async def create_person(self, who: Principal, email: str, name: str, role: Role) -> InvitedPerson:
        """Add a person and return the token of their set-up link; they are ``invited`` until it is used.

        Raises:
            Malformed: when address or name break their rules.
            Conflict: when the tenant has someone with this address.
            Denied: when an administrator who is no owner makes an owner.
        """
        now = self._clock.now()
        person = Person(
            new_id(),
            rules.normalise_email(email),
            rules.check_person_name(name),
            role,
            PersonState.INVITED,
            now,
        )
        rules.check_role_change(_role(who), None, role, other_owners=1)
        async with self._database.transaction(tenant_of(who)) as tx:
            if not await store.insert_person(tx, person):
                raise Conflict("someone with this e-mail address is here already", fix="look at the list of people")
            token = await links.issue(tx, TokenPurpose.PERSON_SETUP, person.id, now)
            tx.fact_changed(Fact(FactKind.PERSON, person.id))
            await self._record(tx, who, "identity.person.create", "person", person.id, role=role.value)
        return InvitedPerson(person, token)

    async def list_people(self, who: Principal) -> list[Person]:
        """Everyone in the tenant, in order of creation."""
        async with self._database.transaction(tenant_of(who)) as tx:
            return await store.list_people(tx)

    async def get_person(self, who: Principal, person_id: UUID) -> Person:
        """One person who is not removed.

        Raises:
            NotFound: when this tenant has no such person.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            return await self._person(tx, person_id)

    async def search_people(self, who: Principal, text: str) -> list[Person]:
        """People whose name or address contains ``text``, ignoring case; searched in memory, since both are sealed."""
        wanted = text.casefold().strip()
        return [p for p in await self.list_people(who) if wanted in p.name.casefold() or wanted in p.email]

    async def reset_link(self, who: Principal, person_id: UUID) -> str:
        """A fresh set-up or reset link for a person; earlier unused ones are void.

        Raises:
            NotFound: when this tenant has no such person.
            Denied: when an administrator who is no owner does so for an owner.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            person = await self._person(tx, person_id)
            rules.check_role_change(_role(who), person.role, person.role, other_owners=1)
            invited = person.state is PersonState.INVITED
            purpose = TokenPurpose.PERSON_SETUP if invited else TokenPurpose.PASSWORD_RESET
            token = await links.issue(tx, purpose, person_id, self._clock.now())
            await self._record(tx, who, "identity.link.create", "person", person_id, purpose=purpose.value)
            return token

    async def set_role(self, who: Principal, person_id: UUID, role: Role) -> Person:
        """Change a person's role; ends their sessions, so that no old role stays in use.

        Raises:
            NotFound: when this tenant has no such person.
            Denied: when only an owner may do so.
            Conflict: when the tenant would be left without an owner.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            owners = await store.lock_owners(tx)
            person = await self._person(tx, person_id, lock=True)
            rules.check_role_change(_role(who), person.role, role, len(owners - {person_id}))
            if person.role is not role:
                await store.set_role(tx, person_id, role)
                tx.fact_changed(Fact(FactKind.PERSON, person_id))
                await end_all_sessions(tx, person_id, EndReason.ROLE_CHANGED, self._clock.now())
                await self._record(
                    tx, who, "identity.person.set-role", "person", person_id, before=person.role.value, after=role.value
                )
            return await self._person(tx, person_id)

    async def remove_person(self, who: Principal, person_id: UUID) -> None:
        """Remove a person: sessions end, memberships and password go, links are void, the address is free again.

        Raises:
            NotFound: when this tenant has no such person.
            Denied: when only an owner may do so.
            Conflict: when the tenant would be left without an owner.
        """
        now = self._clock.now()
        async with self._database.transaction(tenant_of(who)) as tx:
            owners = await store.lock_owners(tx)
            person = await self._person(tx, person_id, lock=True)
            rules.check_role_change(_role(who), person.role, None, len(owners - {person_id}))
            await end_all_sessions(tx, person_id, EndReason.PERSON_REMOVED, now)
            await store.mark_removed(tx, person_id, now)
            await store.delete_password(tx, person_id)
            tx.fact_changed(Fact(FactKind.PERSON, person_id))
            await self._record(tx, who, "identity.person.remove", "person", person_id)

    # --- groups -------------------------------------------------------------------------------------------

    async def create_everyone(self, tx: Tx) -> UUID:
        """The built-in group of a tenant that is being opened."""
        group = Group(new_id(), EVERYONE, builtin=True, created_at=self._clock.now())
        await group_store.insert_group(tx, group)
        return group.id

    async def create_group(self, who: Principal, name: str) -> Group:
        """Add a group.

        Raises:
            Malformed: when the name breaks its rules.
            Conflict: when the name is taken, ignoring case.
        """
        group = Group(new_id(), rules.check_group_name(name), builtin=False, created_at=self._clock.now())
        async with self._database.transaction(tenant_of(who)) as tx:
            if not await group_store.insert_group(tx, group):
                raise Conflict("a group of this name exists", fix="choose another name")
            await self._record(tx, who, "identity.group.create", "group", group.id)
        return group

    async def list_groups(self, who: Principal) -> list[Group]:
        """All groups with their explicit members, by name."""
        async with self._database.transaction(tenant_of(who)) as tx:
            return await group_store.list_groups(tx)

    async def delete_group(self, who: Principal, group_id: UUID) -> None:
        """Delete a group; policies that name it no longer reach its members.

        Raises:
            NotFound: when this tenant has no such group.
            Conflict: when it is built in.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            await self._group(tx, group_id)
            await group_store.delete_group(tx, group_id)
            tx.fact_changed(Fact(FactKind.GROUP, group_id))
            await self._record(tx, who, "identity.group.delete", "group", group_id)

    async def add_member(self, who: Principal, group_id: UUID, person_id: UUID) -> None:
        """Put a person into a group; does nothing when they are in it.

        Raises:
            NotFound: when this tenant has no such group or person.
            Conflict: when the group is built in.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            await self._group(tx, group_id)
            await self._person(tx, person_id, lock=True)
            if await group_store.add_member(tx, group_id, person_id, self._clock.now()):
                tx.fact_changed(Fact(FactKind.PERSON, person_id))
                await self._record(tx, who, "identity.group.add-member", "group", group_id, person=str(person_id))

    async def remove_member(self, who: Principal, group_id: UUID, person_id: UUID) -> None:
        """Take a person out of a group.

        Raises:
            NotFound: when this tenant has no such group, or the person is not in it.
            Conflict: when the group is built in.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            await self._group(tx, group_id)
            if not await group_store.remove_member(tx, group_id, person_id):
                raise NotFound("no such member in this group", fix="look at the list of groups")
            tx.fact_changed(Fact(FactKind.PERSON, person_id))
            await self._record(tx, who, "identity.group.remove-member", "group", group_id, person=str(person_id))

    async def _group(self, tx: Tx, group_id: UUID) -> Group:
        group = await group_store.find_group(tx, group_id)
        if group is None:
            raise NotFound("no such group", fix="look at the list of groups")
        if group.builtin:
            raise Conflict("the built-in group holds everyone and cannot be changed", fix="make a group of your own")
        return group

    async def _person(self, tx: Tx, person_id: UUID, *, lock: bool = False) -> Person:
        person = await store.find_person(tx, person_id, lock=lock)
        if person is None or person.state is PersonState.REMOVED:
            raise NotFound("no such person", fix="look at the list of people")
        return person

    async def _record(
        self, tx: Tx, who: Principal, action: str, kind: str, object_id: UUID, **detail: DetailValue
    ) -> None:
        event = AuditEvent(action, Outcome.OK, who.actor, kind, object_id, detail=detail)
        await record(tx, event, self._clock.now())


def _role(who: Principal) -> Role:
    return who.role if who.role is not None else Role.MEMBER
