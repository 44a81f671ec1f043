"""The vault's door: who stands before it, and may they pass? Asked anew for every request.

1. Rate: a bucket for the token as presented, so that nobody can use up another's by knowing its id.
2. Standing: one statement reads token, subject, suspension, mount and live grant (``store.standing``).
3. No live grant for the action: the policy administrator decides, and issues one or refuses.

Refusals of a token that exists are recorded; of one that does not there is nothing to say.
"""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.policy.service import AccessRequest, PolicyAdministrator
from limen.control.vault.errors import NamespaceNotFound, PassageRefused, TokenRefused
from limen.control.vault.model import Bearer, Mount, Passage, Presented
from limen.control.vault.rules import tokens
from limen.control.vault.rules.rate import Buckets
from limen.control.vault.service.ledger import UseLedger
from limen.control.vault.store import standing
from limen.control.vault.store.standing import Place, StoredReading
from limen.db.database import Database, Tx
from limen.kernel.access import ACTIONS_OF_KIND, Action, ResourceKind, Subject
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, NotFound
from limen.kernel.principal import Actor, ActorKind


class Door:
    """Authorises requests. Remembers nothing but how many there were."""

    def __init__(
        self,
        database: Database,
        administrator: PolicyAdministrator,
        ledger: UseLedger,
        clock: Clock,
        buckets: Buckets,
        monotonic: Callable[[], float],
    ) -> None:
        self._database = database
        self._administrator = administrator
        self._ledger = ledger
        self._clock = clock
        self._buckets = buckets
        self._monotonic = monotonic

    async def bearer(self, presented: Presented) -> Bearer:
        """The holder of a good token.

        Raises:
            TokenRefused: when the token is not good, or the host name is of another tenant.
            NamespaceNotFound: when the request names another namespace than the token's tenant.
            RateLimited: when the token asks too often.
        """
        self._take(presented)
        return await self._believed(presented, await standing.bearer(self._database, presented))

    async def passage(self, presented: Presented, mount: str, action: Action) -> Passage:
        """Authorise ``action`` on the mount of that name.

        Raises:
            PassageRefused: when the policy does not allow it or there is no such mount.
            TokenRefused, NamespaceNotFound, RateLimited: as :meth:`bearer`.
        """
        self._take(presented)
        place = await standing.passage(self._database, presented, mount, action, self._clock.now())
        return await self._passed(presented, place, mount, action)

    async def reading(
        self, presented: Presented, mount: str, path: str, version: int
    ) -> tuple[Passage, StoredReading | None]:
        """Authorise reading, and fetch the sealed version (0: the current one) in the same statement.

        Raises:
            PassageRefused, TokenRefused, NamespaceNotFound, RateLimited: as :meth:`passage`.
        """
        self._take(presented)
        place = await standing.reading(self._database, presented, mount, path, version, self._clock.now())
        passage = await self._passed(presented, place, mount, Action.READ)
        return passage, place.reading if place else None

    async def hold(self, tx: Tx, passage: Passage) -> None:
        """Keep the passage's grant from ending before ``tx`` commits.

        Raises:
            PassageRefused: when it has ended already.
        """
        if not await standing.hold_grant(tx, passage.grant_id, self._clock.now()):
            raise PassageRefused

    async def mounts(self, bearer: Bearer) -> list[Mount]:
        """The mounts on which the policy would allow the bearer something now. Grants nothing."""
        token = bearer.token
        found = await self._administrator.reachable(
            token.tenant_id, _subject(bearer), ResourceKind.VAULT, bearer.source
        )
        return [Mount(resource.id, resource.name) for resource in found]

    async def allowed(self, bearer: Bearer, mount: Mount) -> frozenset[Action]:
        """The actions that the policy would allow the bearer on ``mount`` now. Grants nothing."""
        allowed = set()
        async with self._database.transaction(bearer.token.tenant_id) as tx:
            for action in ACTIONS_OF_KIND[ResourceKind.VAULT]:
                request = AccessRequest(_subject(bearer), mount.id, frozenset({action}), bearer.source)
                if (await self._administrator.explain(tx, request)).allowed:
                    allowed.add(action)
        return frozenset(allowed)

    def _take(self, presented: Presented) -> None:
        self._buckets.take((presented.id, presented.digest), self._monotonic())

    async def _believed(self, presented: Presented, place: Place | None) -> Bearer:
        if place is None:
            raise TokenRefused
        try:
            token = tokens.check(place.standing, presented.digest, self._clock.now())
        except TokenRefused:
            await self._record_refusal(presented, place)
            raise
        if presented.host_label not in ("", place.standing.tenant_slug):
            raise TokenRefused
        if presented.namespace not in ("", place.standing.tenant_slug):
            raise NamespaceNotFound
        return Bearer(token, place.standing.tenant_slug, presented.source, presented.text)

    async def _passed(self, presented: Presented, place: Place | None, mount: str, action: Action) -> Passage:
        bearer = await self._believed(presented, place)
        if place is None or place.mount_id is None:
            await self._record_unknown_mount(bearer, action)
            raise PassageRefused
        grant_id = place.grant_id or await self._granted(bearer, place.mount_id, action)
        return Passage(bearer, place.mount_id, mount, action, grant_id)

    async def _granted(self, bearer: Bearer, mount_id: UUID, action: Action) -> UUID:
        request = AccessRequest(
            _subject(bearer), mount_id, frozenset({action}), bearer.source, not_after=bearer.token.expires_at
        )
        try:
            grant = await self._administrator.request_access(request)
        except (Denied, NotFound):  # the denial is on record; a mount that was just removed is as good as unknown
            raise PassageRefused from None
        if action not in grant.actions:
            raise PassageRefused
        return grant.id

    async def _record_refusal(self, presented: Presented, place: Place) -> None:
        token = place.standing.token
        # Whoever does not know the secret is a stranger, whatever the id says.
        known = tokens.same_secret(place.standing, presented.digest)
        actor = Actor(ActorKind(token.subject_kind), token.subject_id) if known else Actor(ActorKind.ANONYMOUS)
        event = AuditEvent(
            action="vault.token.refuse",
            outcome=Outcome.DENIED,
            actor=replace(actor, source=presented.source),
            object_kind="token",
            object_id=token.id,
            detail={"accessor": token.accessor},
        )
        await self._ledger.settle(token.tenant_id, event)

    async def _record_unknown_mount(self, bearer: Bearer, action: Action) -> None:
        event = AuditEvent(
            action="vault.mount.refuse",
            outcome=Outcome.DENIED,
            actor=bearer.actor,
            object_kind="token",
            object_id=bearer.token.id,
            detail={"action": str(action), "reason": "no such mount"},
        )
        await self._ledger.settle(bearer.token.tenant_id, event)


def _subject(bearer: Bearer) -> Subject:
    token = bearer.token
    return Subject(token.tenant_id, token.subject_kind, token.subject_id, credential_id=token.id)
