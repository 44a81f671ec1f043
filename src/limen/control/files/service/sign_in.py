"""From a name on the wire to a grant.

Rules:

1. The slug finds the tenant; from then on everything happens inside it. An unknown slug, an unknown user and a wrong
   password cost the same and look the same.
2. Passwords are throttled by account and network, and counted before they are hashed. Keys cannot be guessed and are
   not throttled; an offered key is only probed, and opens nothing.
3. Whoever has proved to be an SFTP user still has no access: the policy administrator decides, for the person behind
   it, on the actions that the user may have at most.
4. Every outcome is in the audit trail, in the transaction that decided it; probes that would do are not an outcome.
5. The storage credential is re-sealed to the asking agent for this one grant after it was issued. If custody cannot do
   that, the grant ends and the answer is no.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.files import rules, store
from limen.control.files.model import Connection, Located, Provider, SftpUser, SignInClaim, SshKey
from limen.control.files.ports import StorageCustody
from limen.control.grants.service import GrantLedger
from limen.control.identity.service import Attempt, IdentityService
from limen.control.policy.model import AccessRequest
from limen.control.policy.service import PolicyAdministrator
from limen.db.database import Database, SystemRole, Tx
from limen.kernel.access import Decision, Grant, Subject, SubjectKind
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, Malformed, RateLimited, Unavailable
from limen.kernel.principal import Actor, ActorKind
from limen.wire.agent import BucketTarget, FileGrant, SealedCredential


@dataclass(frozen=True, slots=True)
class SignInAnswer:
    """The answer for the agent. ``grant`` is None for a probe and for every refusal; ``retry_after`` is in seconds."""

    allowed: bool
    tenant_id: UUID | None = None
    grant: FileGrant | None = None
    retry_after: float = 0.0


_NO = SignInAnswer(allowed=False)


@dataclass(frozen=True, slots=True)
class _Proved:
    """An SFTP user that has proved itself, and the credential it did it with."""

    user: SftpUser
    credential_id: UUID
    method: str
    not_after: datetime | None


class FileSignIn:
    """Sign-in of SFTP users."""

    def __init__(
        self,
        database: Database,
        identity: IdentityService,
        administrator: PolicyAdministrator,
        ledger: GrantLedger,
        custody: StorageCustody,
        clock: Clock,
    ) -> None:
        self._database = database
        self._identity = identity
        self._administrator = administrator
        self._ledger = ledger
        self._custody = custody
        self._clock = clock

    async def authenticate(self, agent_id: UUID, claim: SignInClaim) -> SignInAnswer:
        """Answer one sign-in of a file agent.

        Raises:
            Unavailable: database or custody do not answer, or too many passwords are hashed at once.
        """
        where = await self._locate(claim.slug)
        if claim.public_key:
            return await self._with_key(agent_id, where, claim)
        return await self._with_password(agent_id, where, claim)

    async def _locate(self, slug: str) -> Located | None:
        async with self._database.system(SystemRole.DIRECTORY) as system:
            return await store.locate(system, slug)

    # --- keys -----------------------------------------------------------------------------------------------

    async def _with_key(self, agent_id: UUID, where: Located | None, claim: SignInClaim) -> SignInAnswer:
        if where is None:
            return _NO
        try:
            _, fingerprint = rules.parsed_key(claim.public_key)
        except Malformed:
            return _NO
        async with self._database.transaction(where.tenant_id) as tx:
            user = await store.user_named(tx, where.connection_id, claim.username)
            key = await store.key(tx, user.id, fingerprint) if user is not None else None
            reason = self._why_not(user, key, claim)
            if user is None or key is None or reason:
                await self._record(tx, where, claim, Outcome.FAILED, user, "key", reason)
                return _NO
            if claim.probe:
                return SignInAnswer(allowed=True)
            proved = _Proved(user, key.id, "key", key.expires_at)
            issued = await self._issue(tx, agent_id, where, claim, proved)
        return await self._answer(agent_id, where, issued, user)

    def _why_not(self, user: SftpUser | None, key: SshKey | None, claim: SignInClaim) -> str:
        if user is None:
            return "unknown user"
        if key is None:
            return "unknown key"
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            return "key expired"
        return "" if rules.comes_from(key.sources, claim.source) else "wrong source"

    # --- passwords ------------------------------------------------------------------------------------------

    async def _with_password(self, agent_id: UUID, where: Located | None, claim: SignInClaim) -> SignInAnswer:
        password = claim.password.encode("utf-8", "surrogatepass")
        if where is None or len(password) > rules.MAX_PASSWORD_BYTES:
            await self._identity.hasher.matches(b"", None)
            return _NO
        async with self._database.transaction(where.tenant_id) as tx:
            account = f"sftp:{where.connection_id}:{claim.username}"
            attempt = await self._identity.throttle.begin(tx, account, claim.source, self._clock.now())
            user = await store.user_named(tx, where.connection_id, claim.username)
            if isinstance(attempt, RateLimited):
                await self._record(tx, where, claim, Outcome.DENIED, user, "password", "throttled")
        if isinstance(attempt, RateLimited):
            return SignInAnswer(allowed=False, retry_after=attempt.retry_after)
        fits = await self._matches(where, attempt, password, user.password_hash if user is not None else None)
        return await self._after_password(agent_id, where, claim, attempt, user if fits else None)

    async def _matches(self, where: Located, attempt: Attempt, password: bytes, encoded: str | None) -> bool:
        try:
            return await self._identity.hasher.matches(password, encoded)
        except Unavailable:
            async with self._database.transaction(where.tenant_id) as tx:
                await self._identity.throttle.withdrawn(tx, attempt)
            raise

    async def _after_password(
        self, agent_id: UUID, where: Located, claim: SignInClaim, attempt: Attempt, fitting: SftpUser | None
    ) -> SignInAnswer:
        async with self._database.transaction(where.tenant_id) as tx:
            user = await store.user(tx, fitting.id) if fitting is not None else None
            if fitting is None or user is None or user.password_hash != fitting.password_hash:
                await self._record(tx, where, claim, Outcome.FAILED, user, "password", "wrong credentials")
                return _NO
            await self._identity.throttle.succeeded(tx, attempt)
            if not rules.comes_from(user.sources, claim.source):
                await self._record(tx, where, claim, Outcome.FAILED, user, "password", "wrong source")
                return _NO
            proved = _Proved(user, user.id, "password", None)
            issued = await self._issue(tx, agent_id, where, claim, proved)
        return await self._answer(agent_id, where, issued, user)

    # --- the grant ------------------------------------------------------------------------------------------

    async def _issue(
        self, tx: Tx, agent_id: UUID, where: Located, claim: SignInClaim, proved: _Proved
    ) -> tuple[Grant, Connection, bytes | None] | None:
        """Decide and issue in the caller's transaction; None when the policy says no, which is then recorded."""
        user = proved.user
        subject = Subject(tx.tenant_id, SubjectKind.PERSON, user.person_id, credential_id=proved.credential_id)
        answer = await self._administrator.issue(
            tx,
            AccessRequest(
                subject=subject,
                resource_id=where.connection_id,
                actions=user.actions,
                source=claim.source,
                agent_id=agent_id,
                not_after=proved.not_after,
                partial=True,
            ),
        )
        if isinstance(answer, Decision):
            await self._record(tx, where, claim, Outcome.DENIED, user, proved.method, answer.reason)
            return None
        connection = await store.connection(tx, where.connection_id)
        if connection is None:
            return None
        await self._record(tx, where, claim, Outcome.OK, user, proved.method, "", answer)
        return answer, connection, await store.credential(tx, where.connection_id)

    async def _answer(
        self,
        agent_id: UUID,
        where: Located,
        issued: tuple[Grant, Connection, bytes | None] | None,
        user: SftpUser,
    ) -> SignInAnswer:
        if issued is None:
            return _NO
        grant, connection, blob = issued
        try:
            credential = await self._reseal(agent_id, grant, connection, blob)
        except LimenError:
            async with self._database.transaction(where.tenant_id) as tx:
                await self._ledger.end(tx, grant.id, agent_id, "no storage credential")
            return _NO
        place = connection.place
        target = BucketTarget(
            connection_id=connection.id,
            provider=place.provider,
            bucket=place.bucket,
            endpoint=place.endpoint,
            region=place.region,
            prefix=place.prefix,
            root=place.root,
            credential=credential,
        )
        file_grant = FileGrant(
            id=grant.id,
            number=grant.number,
            expires_at=grant.expires_at.timestamp(),
            actions=tuple(sorted(grant.actions & user.actions)),
            jail=user.jail,
            target=target,
        )
        return SignInAnswer(allowed=True, tenant_id=where.tenant_id, grant=file_grant)

    async def _reseal(
        self, agent_id: UUID, grant: Grant, connection: Connection, blob: bytes | None
    ) -> SealedCredential | None:
        if connection.place.provider is Provider.LOCAL:
            return None
        if blob is None:
            raise Unavailable("the connection has no credential yet")
        sealed = await self._custody.reseal_storage_credential(
            connection.tenant_id, connection.id, grant.id, agent_id, blob
        )
        return SealedCredential(blob=sealed)

    async def _record(
        self,
        tx: Tx,
        where: Located,
        claim: SignInClaim,
        outcome: Outcome,
        user: SftpUser | None,
        method: str,
        reason: str,
        grant: Grant | None = None,
    ) -> None:
        actor = Actor(
            ActorKind.PERSON if user is not None else ActorKind.ANONYMOUS,
            user.person_id if user is not None else None,
            claim.source,
        )
        event = AuditEvent(
            action="files.session.sign-in",
            outcome=outcome,
            actor=actor,
            object_kind="connection",
            object_id=where.connection_id,
            detail={
                "method": method,
                "reason": reason,
                "grant": str(grant.id) if grant is not None else None,
                "sftp_user": str(user.id) if user is not None else None,
            },
            personal={"username": claim.username[:255]},
        )
        await record(tx, event, self._clock.now())
