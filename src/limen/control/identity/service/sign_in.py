"""Password sign-in: count, look up, hash, decide, record. The order is the point; see the package docstring.

Two transactions with the hashing between them, so that no connection is held while 64 MiB are being filled:
the first counts the attempt and reads the account; the second checks that nothing changed meanwhile, takes the count
back, makes the session and asks the policy decision point for its console grant.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.identity import rules
from limen.control.identity.errors import SignInDenied, WrongCredentials
from limen.control.identity.model import (
    EndReason,
    IssuedSession,
    PersonState,
    Session,
    SessionKind,
    SignInMethod,
)
from limen.control.identity.ports import SessionGate, SessionKey, SessionKeys
from limen.control.identity.rules import Counter, Scope
from limen.control.identity.service import tokens
from limen.control.identity.service.passwords import PasswordHasher
from limen.control.identity.service.throttle import Attempt, Throttle, too_many
from limen.control.identity.store import people as people_store
from limen.control.identity.store import sessions as session_store
from limen.db.database import Database, Tx
from limen.kernel.access import Decision, Subject, SubjectKind
from limen.kernel.clock import Clock
from limen.kernel.errors import RateLimited, Unavailable
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind

_ACTION = "identity.session.sign-in"
_MAX_STRANGERS = 10_000


class TenantFinder(Protocol):
    """Finds the tenant at a host label (``tenancy.service.TenancyService``)."""

    async def find_tenant_id(self, slug: str) -> UUID | None:
        """The id of the active tenant, ``None`` if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who says what about themselves, from where."""

    tenant_id: UUID
    email: str
    source: str
    kind: SessionKind
    at: datetime

    @property
    def account(self) -> str:
        return f"password:{self.email}"


class SignIn:
    """Password sign-in of people. ``gate`` and ``tenants`` are set before the first sign-in."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        keys: SessionKeys,
        hasher: PasswordHasher,
        throttle: Throttle,
    ) -> None:
        self.gate: SessionGate | None = None
        self.tenants: TenantFinder | None = None
        self._database = database
        self._clock = clock
        self._keys = keys
        self._hasher = hasher
        self._throttle = throttle
        self._strangers: dict[str, Counter] = {}

    async def password(self, tenant: str, email: str, password: str, source: str, kind: SessionKind) -> IssuedSession:
        """Sign in; ``tenant`` is the tenant's slug, ``source`` the client's address.

        Raises:
            Malformed: when ``email`` cannot be an address.
            RateLimited: when account or address failed too often; nothing was hashed.
            WrongCredentials: when tenant, account or password are wrong, without saying which.
            SignInDenied: when the policy does not allow the sign-in.
            Unavailable: when too many are signing in, or keyd or the database do not answer.
        """
        address = rules.normalise_email(email)
        secret = rules.normalise_password(password)
        gate, tenants = self.gate, self.tenants
        if gate is None or tenants is None:
            raise Unavailable("sign-in is not open yet", fix="try again in a moment")
        tenant_id = await tenants.find_tenant_id(tenant)
        if tenant_id is None:
            await self._refuse_stranger(secret, source)
            raise WrongCredentials
        claim = _Claim(tenant_id, address, source, kind, self._clock.now())
        attempt, account = await self._count(claim)
        try:
            fits = await self._hasher.matches(secret, account.argon2_hash if account is not None else None)
        except Unavailable:
            async with self._database.transaction(tenant_id) as tx:
                await self._throttle.withdrawn(tx, attempt)
            raise
        if account is None or not fits:
            await self._record_wrong(claim, account)
            raise WrongCredentials
        return await self._admit(claim, attempt, account, gate)

    async def _count(self, claim: _Claim) -> tuple[Attempt, people_store.PasswordRow | None]:
        async with self._database.transaction(claim.tenant_id) as tx:
            attempt = await self._throttle.begin(tx, claim.account, claim.source, claim.at)
            account = await people_store.find_password(tx, claim.email)
            if isinstance(attempt, RateLimited):
                await self._record(tx, claim, Outcome.DENIED, account, "throttled")
        if isinstance(attempt, RateLimited):
            raise attempt
        return attempt, account

    async def _admit(
        self, claim: _Claim, attempt: Attempt, account: people_store.PasswordRow, gate: SessionGate
    ) -> IssuedSession:
        key = await self._keys.current(claim.tenant_id)
        async with self._database.transaction(claim.tenant_id) as tx:
            present = await people_store.lock_password(tx, account.person_id)
            if present != account or account.state is not PersonState.ACTIVE:
                await self._record(tx, claim, Outcome.FAILED, account, "changed meanwhile or not active")
                refusal: WrongCredentials | SignInDenied = WrongCredentials()
            else:
                await self._throttle.succeeded(tx, attempt)
                answer = await self._open_session(tx, claim, account.person_id, gate)
                if isinstance(answer, Session):
                    await self._record(tx, claim, Outcome.OK, account, "", session=answer.id)
                    return self._issued(key, answer, claim)
                await self._record(tx, claim, Outcome.DENIED, account, "policy")
                refusal = SignInDenied(answer)
        raise refusal

    async def _open_session(self, tx: Tx, claim: _Claim, person_id: UUID, gate: SessionGate) -> Session | Decision:
        """Insert the session, then ask for its grant: the decision may look at the session's method."""
        now = self._clock.now()
        latest = now + rules.SESSION_LIFETIME
        session = Session(new_id(), person_id, claim.kind, SignInMethod.PASSWORD, claim.source, now, latest)
        await session_store.insert_session(tx, session)
        subject = Subject(claim.tenant_id, SubjectKind.PERSON, person_id, credential_id=session.id)
        answer = await gate.admit(tx, subject, claim.source, latest)
        if isinstance(answer, Decision):
            await session_store.end(tx, session.id, EndReason.NOT_ADMITTED.value, now)
            return answer
        expires_at = min(latest, answer.expires_at)
        await session_store.set_expiry(tx, session.id, expires_at)
        return Session(session.id, person_id, claim.kind, session.method, claim.source, now, expires_at)

    def _issued(self, key: SessionKey, session: Session, claim: _Claim) -> IssuedSession:
        claims = tokens.Claims(claim.tenant_id, session.id, session.person_id, session.kind, session.expires_at)
        return IssuedSession(
            session_id=session.id,
            tenant_id=claim.tenant_id,
            person_id=session.person_id,
            kind=session.kind,
            token=tokens.issue(key, claims, session.created_at),
            csrf_token=tokens.csrf_token(key, session.id),
            expires_at=session.expires_at,
        )

    async def _refuse_stranger(self, secret: bytes, source: str) -> None:
        """An unknown tenant costs what a wrong password costs, and is counted, in memory, by address."""
        now = self._clock.now()
        address = rules.client_address(source)
        counter = self._strangers.get(address, Counter())
        wait = rules.refused_for(counter, now)
        if wait > 0:
            raise too_many(wait)
        if len(self._strangers) >= _MAX_STRANGERS:
            self._strangers.clear()
        self._strangers[address] = rules.count_attempt(Scope.ADDRESS, counter, now)
        await self._hasher.matches(secret, None)

    async def _record_wrong(self, claim: _Claim, account: people_store.PasswordRow | None) -> None:
        async with self._database.transaction(claim.tenant_id) as tx:
            await self._record(tx, claim, Outcome.FAILED, account, "wrong credentials")

    async def _record(
        self,
        tx: Tx,
        claim: _Claim,
        outcome: Outcome,
        account: people_store.PasswordRow | None,
        reason: str,
        session: UUID | None = None,
    ) -> None:
        person_id = account.person_id if account is not None else None
        proven = outcome is Outcome.OK or reason == "policy"
        actor = (
            Actor(ActorKind.PERSON, person_id, claim.source)
            if proven
            else Actor(ActorKind.ANONYMOUS, None, claim.source)
        )
        event = AuditEvent(
            _ACTION,
            outcome,
            actor,
            "person" if person_id is not None else "",
            person_id,
            detail={
                "method": "password",
                "kind": claim.kind.value,
                **({"reason": reason} if reason else {}),
                **({"session": str(session)} if session is not None else {}),
            },
            personal={"email": claim.email},
        )
        await record(tx, event, self._clock.now())
