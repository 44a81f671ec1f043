"""Vault tokens: issue, look up, renew, revoke; and end all of a subject's when it is suspended."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from limen.control.audit.model import AuditEvent, DetailValue, Outcome
from limen.control.audit.service import record
from limen.control.vault.errors import TokenRefused
from limen.control.vault.model import Bearer, IssuedToken, Presented, Token, WorkloadState
from limen.control.vault.rules import tokens as rules
from limen.control.vault.service.door import Door
from limen.control.vault.store import tokens as store
from limen.control.vault.store import workloads as workload_store
from limen.db.database import Database, Tx
from limen.kernel.access import SubjectKind
from limen.kernel.clock import Clock
from limen.kernel.errors import NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor


@dataclass(frozen=True, slots=True)
class TokenWish:
    """What a new token should be. ``ttl`` and ``max_ttl`` in seconds; None for the defaults of ``rules.tokens``."""

    ttl: int | None = None
    max_ttl: int | None = None
    renewable: bool = True
    display: str = ""


class TokenService:
    """The life of a token."""

    def __init__(self, database: Database, door: Door, clock: Clock) -> None:
        self._database = database
        self._door = door
        self._clock = clock

    async def issue_to_person(self, tenant_id: UUID, person_id: UUID, actor: Actor, wish: TokenWish) -> IssuedToken:
        """A token for a signed-in person.

        Raises:
            Malformed: when the wish breaks the rules.
        """
        async with self._database.transaction(tenant_id) as tx:
            return await self._issue(tx, SubjectKind.PERSON, person_id, actor, wish)

    async def issue_to_workload(self, tenant_id: UUID, workload_id: UUID, actor: Actor, wish: TokenWish) -> IssuedToken:
        """A token for a workload.

        Raises:
            NotFound: when there is no such active workload in this tenant.
            Malformed: when the wish breaks the rules.
        """
        async with self._database.transaction(tenant_id) as tx:
            found = await workload_store.find(tx, workload_id)
            if found is None or found.state is not WorkloadState.ACTIVE:
                raise NotFound("no such workload", fix="list them with 'limen workload list'")
            return await self._issue(tx, SubjectKind.WORKLOAD, workload_id, actor, wish)

    async def list_of_person(self, tenant_id: UUID, person_id: UUID) -> list[Token]:
        """A person's good tokens, newest first."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.live_of(tx, SubjectKind.PERSON, person_id, self._clock.now())

    async def revoke_of_person(self, tenant_id: UUID, person_id: UUID, token_id: UUID, actor: Actor) -> None:
        """Revoke one of a person's own tokens; the grants issued through it end in the same transaction.

        Raises:
            NotFound: when the person has no such token.
        """
        async with self._database.transaction(tenant_id) as tx:
            token = await store.lock(tx, token_id)
            if token is None or (token.subject_kind, token.subject_id) != (SubjectKind.PERSON, person_id):
                raise NotFound("no such token", fix="list yours with 'limen vault tokens'")
            await self._revoke(tx, token, actor)

    async def look_up(self, presented: Presented) -> Bearer:
        """The token itself, as its holder may see it; raises as :meth:`Door.bearer`."""
        return await self._door.bearer(presented)

    async def renew(self, presented: Presented, increment: int | None) -> Bearer:
        """Prolong the presented token by ``increment`` seconds (None: its own ttl), within its ``max_ttl``.

        Raises:
            NotRenewable: when it is not renewable.
            TokenRefused, NamespaceNotFound, RateLimited: as :meth:`Door.bearer`.
        """
        bearer = await self._door.bearer(presented)
        async with self._database.transaction(bearer.token.tenant_id) as tx:
            locked = await store.lock(tx, bearer.token.id)
            if locked is None:
                raise TokenRefused
            renewed = rules.renewed(locked, increment, self._clock.now())
            await store.set_expiry(tx, renewed.id, renewed.expires_at)
            await self._record(tx, "renew", bearer.actor, renewed)
        return Bearer(renewed, bearer.tenant_slug, bearer.source, bearer.text)

    async def revoke(self, presented: Presented) -> None:
        """Revoke the presented token; raises as :meth:`Door.bearer`."""
        bearer = await self._door.bearer(presented)
        async with self._database.transaction(bearer.token.tenant_id) as tx:
            await self._revoke(tx, bearer.token, bearer.actor)

    async def end_credentials(self, tx: Tx, subject_id: UUID, reason: str) -> int:
        """End every good token of a subject in the caller's transaction; how many (policy's ``CredentialEnder``)."""
        ended = await store.revoke_of(tx, subject_id, self._clock.now())
        for token_id in ended:
            tx.fact_changed(Fact(FactKind.CREDENTIAL, token_id))
            event = AuditEvent(
                action="vault.token.end",
                outcome=Outcome.OK,
                actor=SYSTEM,
                object_kind="token",
                object_id=token_id,
                detail={"reason": reason},
            )
            await record(tx, event, self._clock.now())
        return len(ended)

    async def _issue(self, tx: Tx, kind: SubjectKind, subject_id: UUID, actor: Actor, wish: TokenWish) -> IssuedToken:
        ttl, max_ttl = rules.lifetimes(kind, wish.ttl, wish.max_ttl)
        now, secret = self._clock.now(), secrets.token_bytes(rules.SECRET_BYTES)
        token = Token(
            tenant_id=tx.tenant_id,
            id=new_id(),
            accessor=secrets.token_urlsafe(18),
            subject_kind=kind,
            subject_id=subject_id,
            display=rules.checked_display(wish.display),
            created_at=now,
            expires_at=now + timedelta(seconds=ttl),
            ttl=ttl,
            max_ttl=max_ttl,
            renewable=wish.renewable,
        )
        await store.insert(tx, token, rules.secret_digest(secret))
        await self._record(tx, "create", actor, token)
        return IssuedToken(token, rules.text_form(tx.tenant_id, token.id, secret))

    async def _revoke(self, tx: Tx, token: Token, actor: Actor) -> None:
        if await store.revoke(tx, token.id, self._clock.now()):
            tx.fact_changed(Fact(FactKind.CREDENTIAL, token.id))
            await self._record(tx, "revoke", actor, token)

    async def _record(self, tx: Tx, verb: str, actor: Actor, token: Token) -> None:
        detail: dict[str, DetailValue] = {
            "accessor": token.accessor,
            "subject_kind": str(token.subject_kind),
            "subject": str(token.subject_id),
            "expires_at": token.expires_at.isoformat(),
        }
        event = AuditEvent(
            action=f"vault.token.{verb}",
            outcome=Outcome.OK,
            actor=actor,
            object_kind="token",
            object_id=token.id,
            detail=detail,
        )
        await record(tx, event, self._clock.now())
