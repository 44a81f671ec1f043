"""HTTP routes of policies, grants, suspension and explanation."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from pydantic import Field

from limen.control.grants.model import GrantRecord
from limen.control.grants.service import GrantLedger
from limen.control.policy.administrator import PolicyAdministrator
from limen.control.policy.model import AccessRequest, StoredPolicy
from limen.control.policy.ports import SubjectSource
from limen.control.policy.rules import dump_conditions
from limen.control.policy.service import PolicyService
from limen.control.resources.service import ResourcesService
from limen.db.database import Database, Tx
from limen.engine.model import Effect
from limen.kernel.access import Action, Subject, SubjectKind
from limen.kernel.principal import Permission, Principal
from limen.runtime.http import Body, SecureRouter, View, principal, tenant_of

Caller = Annotated[Principal, Depends(principal)]


class NewPolicy(Body):
    """A policy to create. ``principals`` are ids of groups, people or workloads."""

    name: str = Field(max_length=96)
    effect: Literal["allow", "deny"] = "allow"
    principals: list[UUID] = Field(max_length=1000)
    resources: list[UUID] = Field(max_length=1000)
    actions: list[str] = Field(max_length=16)
    conditions: list[dict[str, Any]] = Field([], max_length=16)


class PolicyView(View):
    """A policy as the API shows it."""

    id: UUID
    name: str
    effect: str
    principals: list[UUID]
    resources: list[UUID]
    actions: list[str]
    conditions: list[dict[str, Any]]
    builtin: bool


class PolicyList(View):
    """Policies, by name."""

    policies: list[PolicyView]


class GrantView(View):
    """A grant as the API shows it, with the names that people know."""

    id: UUID
    number: int
    state: str
    door: str
    subject_id: UUID
    subject: str
    resource_id: UUID
    resource: str
    actions: list[str]
    policy_id: UUID
    version: int
    device_id: UUID | None
    credential_id: UUID | None
    issued_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


class GrantList(View):
    """Grants, newest first."""

    grants: list[GrantView]


class Reason(Body):
    """Why; written to the audit trail."""

    reason: str = Field("", max_length=500)


class Question(Body):
    """Would this subject be allowed, now?"""

    subject_id: UUID
    subject_kind: Literal["person", "workload"] = "person"
    resource_id: UUID
    actions: list[Action] = Field(max_length=16)
    source: str = Field("", max_length=64)
    device_id: UUID | None = None


class ConditionView(View):
    """How one condition came out."""

    kind: str
    holds: bool
    detail: str
    fix: str


class Answer(View):
    """A decision, explained."""

    allowed: bool
    reason: str
    policy_id: UUID | None
    conditions: list[ConditionView]
    expires_at: datetime | None
    version: int


class BlockView(View):
    """A block in force. ``resource_id`` null: suspended from everything."""

    subject_id: UUID
    resource_id: UUID | None
    reason: str
    set_at: datetime


class BlockList(View):
    """Blocks in force, newest first."""

    blocks: list[BlockView]


class Changed(View):
    """Whether anything was to be done."""

    changed: bool


class Suspended(Changed):
    """When the suspension was committed (UTC)."""

    committed_at: datetime


def _policy_view(stored: StoredPolicy) -> PolicyView:
    policy = stored.policy
    return PolicyView(
        id=policy.id,
        name=policy.name,
        effect=policy.effect,
        principals=sorted(policy.principals),
        resources=sorted(policy.resources),
        actions=sorted(policy.actions),
        conditions=dump_conditions(policy.conditions),
        builtin=stored.builtin,
    )


def policy_router(database: Database, policies: PolicyService, administrator: PolicyAdministrator) -> SecureRouter:
    """The routes under ``/policies``."""
    routes = SecureRouter(prefix="/policies", tags=["policies"])

    @routes.read("", Permission.READ_POLICIES)
    async def list_policies(who: Caller) -> PolicyList:
        async with database.transaction(tenant_of(who)) as tx:
            return PolicyList(policies=[_policy_view(stored) for stored in await policies.list_all(tx)])

    @routes.act("", Permission.MANAGE_POLICIES, status_code=201)
    async def create_policy(who: Caller, body: NewPolicy) -> PolicyView:
        async with database.transaction(tenant_of(who)) as tx:
            stored = await policies.create(
                tx,
                who.actor,
                name=body.name,
                effect=Effect(body.effect),
                principals=body.principals,
                resources=body.resources,
                actions=body.actions,
                conditions=body.conditions,
            )
            return _policy_view(stored)

    @routes.remove("/{policy_id}", Permission.MANAGE_POLICIES, status_code=204)
    async def delete_policy(who: Caller, policy_id: UUID) -> None:
        async with database.transaction(tenant_of(who)) as tx:
            await policies.remove(tx, who.actor, policy_id)

    @routes.act("/explain", Permission.READ_POLICIES)
    async def explain(who: Caller, body: Question) -> Answer:
        subject = Subject(tenant_of(who), SubjectKind(body.subject_kind), body.subject_id, body.device_id)
        request = AccessRequest(subject, body.resource_id, frozenset(body.actions), body.source)
        async with database.transaction(tenant_of(who)) as tx:
            decision = await administrator.explain(tx, request)
        results = [
            ConditionView(kind=one.kind, holds=one.holds, detail=one.detail, fix=one.fix) for one in decision.conditions
        ]
        return Answer(
            allowed=decision.allowed,
            reason=decision.reason,
            policy_id=decision.policy_id,
            conditions=results,
            expires_at=decision.expires_at,
            version=decision.version,
        )

    return routes


def grants_router(
    database: Database,
    ledger: GrantLedger,
    administrator: PolicyAdministrator,
    resources: ResourcesService,
    subjects: SubjectSource,
) -> SecureRouter:
    """The routes of ``/grants``, ``/blocks`` and the suspension of people."""
    routes = SecureRouter(tags=["grants"])
    shown = GrantNames(resources, subjects)

    @routes.read("/grants", Permission.READ_GRANTS)
    async def list_grants(
        who: Caller, live: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> GrantList:
        async with database.transaction(tenant_of(who)) as tx:
            return GrantList(grants=await shown.views(await ledger.newest(tx, limit, live_only=live), tx))

    @routes.act("/grants/{grant_id}/revoke", Permission.REVOKE, status_code=204)
    async def revoke_grant(who: Caller, grant_id: UUID, body: Reason) -> None:
        await administrator.revoke_grant(who.actor, tenant_of(who), grant_id, body.reason or "revoked")

    @routes.act("/people/{person_id}/suspend", Permission.REVOKE)
    async def suspend(who: Caller, person_id: UUID, body: Reason) -> Suspended:
        reason = body.reason or "suspended"
        done = await administrator.suspend_person(who.actor, tenant_of(who), person_id, reason)
        return Suspended(changed=done.fresh, committed_at=done.committed_at)

    @routes.act("/people/{person_id}/lift", Permission.REVOKE)
    async def lift(who: Caller, person_id: UUID) -> Changed:
        return Changed(changed=await administrator.lift_person(who.actor, tenant_of(who), person_id))

    @routes.read("/blocks", Permission.READ_GRANTS)
    async def list_blocks(who: Caller) -> BlockList:
        async with database.transaction(tenant_of(who)) as tx:
            found = [
                BlockView(
                    subject_id=block.subject_id,
                    resource_id=block.resource_id,
                    reason=block.reason,
                    set_at=block.set_at,
                )
                for block in await ledger.all_blocks(tx)
            ]
        return BlockList(blocks=found)

    @routes.remove("/blocks/{subject_id}/{resource_id}", Permission.REVOKE)
    async def lift_denial(who: Caller, subject_id: UUID, resource_id: UUID) -> Changed:
        lifted = await administrator.lift_denial(who.actor, tenant_of(who), subject_id, resource_id)
        return Changed(changed=lifted)

    return routes


class GrantNames:
    """Grants rendered with the names of their subjects and resources; used by the API and the console."""

    def __init__(self, resources: ResourcesService, subjects: SubjectSource) -> None:
        self._resources = resources
        self._subjects = subjects

    async def views(self, records: list[GrantRecord], tx: Tx) -> list[GrantView]:
        """Render, with one query for all names of a kind."""
        named = await self._resources.many(tx, {record.grant.resource_id for record in records})
        resource_names = {resource.id: resource.name for resource in named}
        subject_ids = frozenset(record.grant.subject.id for record in records)
        subject_names = await self._subjects.names(tx, subject_ids)
        return [
            GrantView(
                id=record.grant.id,
                number=record.grant.number,
                state=record.state,
                door=record.grant.resource_kind,
                subject_id=record.grant.subject.id,
                subject=subject_names.get(record.grant.subject.id, "(removed)"),
                resource_id=record.grant.resource_id,
                resource=resource_names.get(record.grant.resource_id, "(removed)"),
                actions=sorted(record.grant.actions),
                policy_id=record.grant.policy_id,
                version=record.grant.version,
                device_id=record.grant.subject.device_id,
                credential_id=record.grant.subject.credential_id,
                issued_at=record.grant.issued_at,
                expires_at=record.grant.expires_at,
                ended_at=record.ended_at,
                ended_reason=record.ended_reason,
            )
            for record in records
        ]
