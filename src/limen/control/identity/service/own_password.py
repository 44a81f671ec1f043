"""Setting a password: by a one-time link, or by the person who knows the present one."""

from datetime import datetime

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.identity import rules
from limen.control.identity.errors import LinkUsed, WrongCredentials
from limen.control.identity.model import EndReason, Invitation, Person, PersonState, TokenPurpose
from limen.control.identity.service import links
from limen.control.identity.service.passwords import PasswordHasher
from limen.control.identity.service.sessions import end_all_sessions
from limen.control.identity.service.throttle import Throttle
from limen.control.identity.store import people as store
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, Malformed, RateLimited, Unavailable
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind, Principal, Role, tenant_of


class OwnPassword:
    """How a person's password comes to be and changes."""

    def __init__(self, database: Database, clock: Clock, hasher: PasswordHasher, throttle: Throttle) -> None:
        self._database = database
        self._clock = clock
        self._hasher = hasher
        self._throttle = throttle

    async def purpose_of(self, token: str) -> Invitation:
        """What a one-time link is for and whose tenant's it is, without using it up.

        Raises:
            LinkUsed: when the link is unknown, used or too old.
        """
        link = links.parse(token)
        async with self._database.transaction(link.tenant_id) as tx:
            purpose = await store.peek_link(tx, link.id, link.secret_hash, self._clock.now())
        if purpose is None:
            raise LinkUsed
        return Invitation(link.tenant_id, purpose)

    async def set_up(self, token: str, password: str, source: str, email: str = "", name: str = "") -> Person:
        """Use a one-time link: become the first owner (``email`` and ``name`` needed), or set one's password.

        A password that breaks the rules does not use the link up.

        Raises:
            Malformed: when password, e-mail or name break their rules.
            LinkUsed: when the link is unknown, used or too old.
            Conflict: when the address of a first owner is taken.
        """
        link = links.parse(token)
        secret = rules.check_new_password(password)
        now = self._clock.now()
        async with self._database.transaction(link.tenant_id) as tx:
            purpose = await store.peek_link(tx, link.id, link.secret_hash, now)
        if purpose is None:
            raise LinkUsed
        owner = _first_owner(email, name, now) if purpose is TokenPurpose.OWNER_SETUP else None
        hashed = await self._hasher.hash(secret)
        async with self._database.transaction(link.tenant_id) as tx:
            row = await links.use(tx, link, now)
            person = await self._claim(tx, row, owner)
            await store.save_password(tx, person.id, hashed, now)
            tx.fact_changed(Fact(FactKind.PERSON, person.id))
            if row.purpose is TokenPurpose.PASSWORD_RESET:
                await end_all_sessions(tx, person.id, EndReason.PASSWORD_RESET, now)
            await self._throttle.forgive(tx, f"password:{person.email}", source)
            await record(
                tx,
                AuditEvent(
                    "identity.link.use",
                    Outcome.OK,
                    Actor(ActorKind.PERSON, person.id, source),
                    "person",
                    person.id,
                    detail={"purpose": row.purpose.value},
                ),
                now,
            )
        return person

    async def change(self, who: Principal, current: str, new: str) -> None:
        """Change one's own password; every other session of the person ends.

        Raises:
            Malformed: when the new password breaks the rules or is the present one.
            WrongCredentials: when the present password is wrong.
            RateLimited: when it was wrong too often.
        """
        secret = rules.check_new_password(new)
        if rules.normalise_password(current) == secret:
            raise Malformed("the new password is the present one", fix="choose another password")
        tenant_id, person_id, now = tenant_of(who), who.person_id, self._clock.now()
        if person_id is None:
            raise WrongCredentials
        async with self._database.transaction(tenant_id) as tx:
            person = await store.find_person(tx, person_id)
            account = await store.lock_password(tx, person_id)
            if person is None or account is None:
                raise WrongCredentials
            attempt = await self._throttle.begin(tx, f"password:{person.email}", who.source, now)
        if isinstance(attempt, RateLimited):
            raise attempt
        try:
            fits = await self._hasher.matches(rules.normalise_password(current), account.argon2_hash)
            hashed = await self._hasher.hash(secret) if fits else ""
        except Unavailable:
            async with self._database.transaction(tenant_id) as tx:
                await self._throttle.withdrawn(tx, attempt)
            raise
        async with self._database.transaction(tenant_id) as tx:
            unchanged = await store.lock_password(tx, person_id) == account
            outcome = Outcome.OK if fits and unchanged else Outcome.FAILED
            if outcome is Outcome.OK:
                await self._throttle.succeeded(tx, attempt)
                await store.save_password(tx, person_id, hashed, now)
                await end_all_sessions(tx, person_id, EndReason.PASSWORD_CHANGED, now, keep=who.session_id)
            event = AuditEvent("identity.password.change", outcome, who.actor, "person", person_id)
            await record(tx, event, now)
        if outcome is Outcome.FAILED:
            raise WrongCredentials

    async def _claim(self, tx: Tx, row: store.LinkRow, owner: Person | None) -> Person:
        """The person whose link it is; for the first owner, made now."""
        if row.person_id is None:
            if owner is None or not await store.insert_person(tx, owner):
                raise Conflict("someone with this e-mail address is here already", fix="ask for a link of your own")
            return owner
        person = await store.find_person(tx, row.person_id, lock=True)
        if person is None or person.state is PersonState.REMOVED:
            raise LinkUsed
        await store.set_state(tx, person.id, PersonState.ACTIVE)
        return Person(person.id, person.email, person.name, person.role, PersonState.ACTIVE, person.created_at)


def _first_owner(email: str, name: str, now: datetime) -> Person:
    return Person(
        new_id(), rules.normalise_email(email), rules.check_person_name(name), Role.OWNER, PersonState.ACTIVE, now
    )
