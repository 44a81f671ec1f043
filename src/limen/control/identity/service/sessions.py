"""Sessions in use: check, list, end.

Checking is one round trip: the session's row, the person's state and role, and the live console grant. Nothing is
cached, so whatever ends any of them ends the next request.
"""

from datetime import datetime
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.identity.errors import SessionEnded
from limen.control.identity.model import CheckedSession, EndReason, Session, SessionKind
from limen.control.identity.ports import SessionKeys
from limen.control.identity.service import tokens
from limen.control.identity.store import sessions as store
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.principal import Permission, Principal, Role, tenant_of


class Sessions:
    """The sessions of people."""

    def __init__(self, database: Database, clock: Clock, keys: SessionKeys) -> None:
        self._database = database
        self._clock = clock
        self._keys = keys

    async def check(self, token: str, source: str, kind: SessionKind | None = None) -> CheckedSession:
        """The live session of a token; ``kind`` says how the token travelled, if it did.

        Raises:
            Unauthenticated: when the token is not one of ours, or travelled the wrong way.
            SessionEnded: when the session is over for any reason.
            Unavailable: when keyd or the database do not answer.
        """
        now = self._clock.now()
        claims, key = await tokens.verify(self._keys, token, now)
        row = await store.find_alive(self._database, claims.tenant_id, claims.session_id, now)
        if row is None or row["person_id"] != claims.person_id or row["kind"] != claims.kind:
            raise SessionEnded
        if kind is not None and kind is not claims.kind:
            raise SessionEnded
        principal = Principal(
            tenant_id=claims.tenant_id,
            person_id=claims.person_id,
            session_id=claims.session_id,
            role=Role(row["role"]),
            source=source,
        )
        return CheckedSession(principal, claims.kind, tokens.csrf_token(key, claims.session_id), row["expires_at"])

    async def list(self, who: Principal) -> list[Session]:
        """Live sessions: the tenant's for those who may revoke or read grants, else the person's own."""
        everyones = who.may(Permission.READ_GRANTS)
        async with self._database.transaction(tenant_of(who)) as tx:
            return await store.list_open(tx, None if everyones else who.person_id, self._clock.now())

    async def sign_out(self, who: Principal) -> None:
        """End the session that this request came with."""
        if who.session_id is not None:
            await self._end(who, who.session_id, EndReason.SIGN_OUT)

    async def end(self, who: Principal, session_id: UUID) -> None:
        """End one's own session, or anyone's with the permission to revoke.

        Raises:
            NotFound: when there is no such open session, or it is someone else's and may not be ended.
        """
        async with self._database.transaction(tenant_of(who)) as tx:
            owner = await store.find_owner(tx, session_id)
        own = owner is not None and owner == who.person_id
        if owner is None or not (own or who.may(Permission.REVOKE)):
            raise NotFound("no such session", fix="look at the list of sessions")
        await self._end(who, session_id, EndReason.ENDED_BY_PERSON if own else EndReason.ENDED_BY_ADMIN)

    async def _end(self, who: Principal, session_id: UUID, reason: EndReason) -> None:
        now = self._clock.now()
        async with self._database.transaction(tenant_of(who)) as tx:
            person_id = await store.end(tx, session_id, reason.value, now)
            if person_id is None:
                raise NotFound("no such session", fix="look at the list of sessions")
            tx.fact_changed(Fact(FactKind.CREDENTIAL, session_id))
            event = AuditEvent(
                "identity.session.end", Outcome.OK, who.actor, "session", session_id, detail={"reason": reason.value}
            )
            await record(tx, event, now)


async def end_all_sessions(
    tx: Tx, person_id: UUID, reason: EndReason | str, now: datetime, keep: UUID | None = None
) -> int:
    """End every session of a person but ``keep``, each a changed fact; return how many."""
    ended = await store.end_all(tx, person_id, str(reason), now, keep)
    for session_id in ended:
        tx.fact_changed(Fact(FactKind.CREDENTIAL, session_id))
    return len(ended)
