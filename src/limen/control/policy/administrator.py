"""The policy administrator: decide, issue, decide again, revoke.

How a grant is issued without ever resting on stale facts: the tenant's version row is locked ``FOR SHARE`` first;
every fact is read after that; the grant is written; commit. A change of facts takes the same row ``FOR UPDATE``
before it decides again, so it either waits and then sees the new grant, or goes first and is seen by the decision.
Both run at READ COMMITTED, where each statement sees all that committed before it.
"""

from datetime import datetime, timedelta
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.grants.model import GrantRecord
from limen.control.grants.rules import block_reason
from limen.control.grants.service import GrantLedger
from limen.control.policy import store
from limen.control.policy.errors import AccessDenied
from limen.control.policy.model import AccessRequest, Suspension
from limen.control.policy.ports import CredentialEnder, SubjectSource
from limen.control.resources.model import Resource
from limen.control.resources.service import ResourcesService
from limen.db.database import Database, Tx
from limen.engine.conditions import Environment
from limen.engine.decide import decide, permitted
from limen.engine.index import PolicyIndex
from limen.engine.model import Request, SubjectFacts
from limen.kernel.access import ACTIONS_OF_KIND, Action, Decision, Grant, ResourceKind, Subject
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind

REUSE_SECONDS = 30.0
"""A live grant is handed out again when at least this much of it is left."""

_WIDE = frozenset({FactKind.POLICY, FactKind.GROUP, FactKind.TENANT})


class PolicyAdministrator:
    """Decides with the engine, and keeps the ledger true to what the engine says."""

    def __init__(
        self,
        database: Database,
        ledger: GrantLedger,
        resources: ResourcesService,
        subjects: SubjectSource,
        clock: Clock,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._resources = resources
        self._subjects = subjects
        self._clock = clock
        self._enders: list[CredentialEnder] = []
        self._indexes: dict[UUID, tuple[int, PolicyIndex]] = {}

    def add_ender(self, ender: CredentialEnder) -> None:
        """Register a room whose credentials end when their subject is suspended."""
        self._enders.append(ender)

    # --- ask ----------------------------------------------------------------------------------------------

    async def request_access(self, request: AccessRequest) -> Grant:
        """Decide, and issue the grant (or hand out the live one that covers the request).

        Raises:
            AccessDenied: when the engine says no; the denial is in the audit trail by then.
            NotFound: when the resource does not exist in the subject's tenant.
        """
        async with self._database.transaction(request.subject.tenant_id) as tx:
            answer = await self.issue(tx, request)
        if isinstance(answer, Decision):
            raise AccessDenied(answer)
        return answer

    async def issue(self, tx: Tx, request: AccessRequest) -> Grant | Decision:
        """The same inside the caller's transaction; a denial is returned, since raising would roll back its
        audit record.

        Raises:
            NotFound: when the resource does not exist in this tenant.
        """
        version = await tx.lock_version(share=True)
        now = self._clock.now()
        resource = await self._resources.get(tx, request.resource_id)
        asked = request.actions & ACTIONS_OF_KIND[resource.kind]
        twins = await self._ledger.reusable(
            tx, request.subject, resource.id, request.agent_id, now + timedelta(seconds=REUSE_SECONDS)
        )
        index = await self._index(tx, version)
        question = await self._question(tx, request.subject, resource.id, asked, request.source)
        if request.partial:
            part = permitted(question, index, version)
            asked = part or asked
            question = Request(question.subject, question.resource_id, asked, question.environment)
        for twin in twins:
            if asked and asked <= twin.actions:
                return twin
        decision = decide(question, index, version)
        if not decision.allowed or decision.expires_at is None or decision.policy_id is None or not asked:
            await self._record_decision(tx, request, resource, decision, None)
            return decision
        expires_at = min(decision.expires_at, request.not_after or decision.expires_at)
        grant = Grant(
            id=new_id(),
            number=1,
            subject=request.subject,
            resource_id=resource.id,
            resource_kind=resource.kind,
            actions=asked,
            policy_id=decision.policy_id,
            version=version,
            issued_at=now,
            expires_at=expires_at,
            agent_id=request.agent_id,
        )
        grant = await self._ledger.issue(tx, grant, request.source)
        await self._record_decision(tx, request, resource, decision, grant)
        return grant

    async def explain(self, tx: Tx, request: AccessRequest) -> Decision:
        """Decide without issuing anything and without a record.

        Raises:
            NotFound: when the subject or the resource does not exist in this tenant.
        """
        version = await tx.lock_version(share=True)
        await self._require_subject(tx, request.subject.id)
        resource = await self._resources.get(tx, request.resource_id)
        question = await self._question(tx, request.subject, resource.id, request.actions, request.source)
        return decide(question, await self._index(tx, version), version)

    async def reachable(self, tenant_id: UUID, subject: Subject, kind: ResourceKind, source: str) -> list[Resource]:
        """The resources of one kind on which the policy would allow this subject some action now."""
        async with self._database.transaction(tenant_id) as tx:
            version = await tx.lock_version(share=True)
            index = await self._index(tx, version)
            question = await self._question(tx, subject, subject.id, ACTIONS_OF_KIND[kind], source)
            named = index.named_resources(question.subject.id, question.subject.groups)
            found = await self._resources.many(tx, named)
        return [
            resource
            for resource in found
            if resource.kind is kind
            and permitted(
                Request(question.subject, resource.id, ACTIONS_OF_KIND[kind], question.environment),
                index,
                version,
            )
        ]

    # --- change -------------------------------------------------------------------------------------------

    async def suspend_person(self, actor: Actor, tenant_id: UUID, person_id: UUID, reason: str) -> Suspension:
        """Suspend a subject: its sessions, tokens and grants end now, and it stays denied until lifted.

        Raises:
            NotFound: when there is no such person or workload in this tenant.
            Denied: when the actor may not: oneself, and an owner unless by another owner.
        """
        committed: list[datetime] = []
        async with self._database.transaction(tenant_id) as tx:
            await self._require_subject(tx, person_id)
            if reason_against := await self._subjects.shielded(tx, person_id, actor):
                raise Denied(reason_against, fix="ask another owner of your tenant")
            fresh = await self._ledger.set_block(tx, actor, person_id, None, reason)
            for ender in self._enders:
                await ender.end_credentials(tx, person_id, "suspended")
            tx.after_commit(lambda: committed.append(self._clock.now()))
        return Suspension(fresh, committed[0])

    async def lift_person(self, actor: Actor, tenant_id: UUID, person_id: UUID) -> bool:
        """Lift a suspension. What ended stays ended; new requests are decided again.

        Raises:
            NotFound: when there is no such person or workload in this tenant.
        """
        async with self._database.transaction(tenant_id) as tx:
            await self._require_subject(tx, person_id)
            return await self._ledger.lift_block(tx, actor, person_id, None)

    async def revoke_grant(self, actor: Actor, tenant_id: UUID, grant_id: UUID, reason: str) -> None:
        """Revoke one grant, and deny its subject the resource until lifted.

        A console grant ends its session instead of blocking the console for good: whoever is locked out of the
        console altogether is to be suspended.

        Raises:
            NotFound: when there is no such grant in this tenant.
        """
        async with self._database.transaction(tenant_id) as tx:
            await tx.lock_version(share=False)
            entry = await self._ledger.get(tx, grant_id)
            await self._ledger.revoke(tx, entry, reason, actor)
            if entry.grant.resource_kind is not ResourceKind.CONSOLE:
                subject = entry.grant.subject.id
                await self._ledger.set_block(tx, actor, subject, entry.grant.resource_id, reason)

    async def lift_denial(self, actor: Actor, tenant_id: UUID, subject_id: UUID, resource_id: UUID) -> bool:
        """Lift the denial of one resource that a revocation left behind.

        Raises:
            NotFound: when this tenant has no such subject or resource.
        """
        async with self._database.transaction(tenant_id) as tx:
            await self._require_subject(tx, subject_id)
            await self._resources.get(tx, resource_id)
            return await self._ledger.lift_block(tx, actor, subject_id, resource_id)

    async def redecide(self, tx: Tx, facts: frozenset[Fact]) -> None:
        """The fact hook: decide every live grant again that rests on a changed fact; revoke what no longer holds.

        Runs while the version row is locked, before the version moves.
        """
        concerned = await self._concerned(tx, facts)
        if not concerned:
            return
        ended = {fact.id for fact in facts if fact.kind is FactKind.CREDENTIAL}
        index = PolicyIndex(stored.policy for stored in await store.all_policies(tx))
        for entry in concerned:
            if entry.grant.subject.credential_id in ended:
                await self._ledger.revoke(tx, entry, "credential ended")
                continue
            decision = await self._again(tx, entry.grant, index)
            if not decision.allowed:
                await self._ledger.revoke(tx, entry, decision.reason)
            elif decision.expires_at is not None and decision.expires_at < entry.grant.expires_at:
                await self._ledger.revoke(tx, entry, "the policy now ends it earlier")

    # --- parts --------------------------------------------------------------------------------------------

    async def _concerned(self, tx: Tx, facts: frozenset[Fact]) -> list[GrantRecord]:
        if any(fact.kind in _WIDE for fact in facts):
            return await self._ledger.live(tx)
        subjects = [fact.id for fact in facts if fact.kind in (FactKind.PERSON, FactKind.BLOCK)]
        return await self._ledger.live(
            tx,
            subjects=subjects,
            credentials=[fact.id for fact in facts if fact.kind is FactKind.CREDENTIAL],
            devices=[fact.id for fact in facts if fact.kind is FactKind.DEVICE],
            resources=[fact.id for fact in facts if fact.kind is FactKind.RESOURCE],
        )

    async def _again(self, tx: Tx, grant: Grant, index: PolicyIndex) -> Decision:
        if not await self._resources.many(tx, [grant.resource_id]):
            return Decision(False, "the resource was removed", None, (), None, 0)
        source = await self._ledger.source_of(tx, grant)
        question = await self._question(tx, grant.subject, grant.resource_id, grant.actions, source, grant)
        return decide(question, index, grant.version)

    async def _question(
        self,
        tx: Tx,
        subject: Subject,
        resource_id: UUID,
        actions: frozenset[Action],
        source: str,
        grant: Grant | None = None,
    ) -> Request:
        state = await self._subjects.state(tx, subject)
        blocked = block_reason(await self._ledger.blocks_on(tx, subject.id), resource_id)
        facts = SubjectFacts(subject.id, state.groups, state.active, blocked)
        environment = Environment(
            now=self._clock.now(),
            source=source,
            device_verified=subject.device_id is not None and state.device_verified,
            since=grant.issued_at if grant else None,
        )
        return Request(facts, resource_id, actions, environment)

    async def _index(self, tx: Tx, version: int) -> PolicyIndex:
        """The index at ``version``, which the caller holds locked, so a cached one of that version is exact."""
        cached = self._indexes.get(tx.tenant_id)
        if cached is not None and cached[0] == version:
            return cached[1]
        index = PolicyIndex(stored.policy for stored in await store.all_policies(tx))
        self._indexes[tx.tenant_id] = (version, index)
        return index

    async def _require_subject(self, tx: Tx, subject_id: UUID) -> None:
        if await self._subjects.principal_kind(tx, subject_id) not in ("person", "workload"):
            raise NotFound("no such person", fix="list them with 'limen person list'")

    async def _record_decision(
        self, tx: Tx, request: AccessRequest, resource: Resource, decision: Decision, grant: Grant | None
    ) -> None:
        event = AuditEvent(
            action="policy.access.decide",
            outcome=Outcome.OK if decision.allowed else Outcome.DENIED,
            actor=Actor(ActorKind(request.subject.kind), request.subject.id, request.source),
            object_kind="resource",
            object_id=resource.id,
            detail={
                "resource": resource.name,
                "actions": ",".join(sorted(request.actions)),
                "reason": decision.reason,
                "policy": str(decision.policy_id) if decision.policy_id else None,
                "grant": str(grant.id) if grant else None,
                "version": decision.version,
                "expires_at": grant.expires_at.isoformat() if grant else None,
            },
        )
        await record(tx, event, self._clock.now())
