"""Policies as data: create, list, delete; and what a new tenant starts with. Shows the administrator to others."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.policy import rules, store
from limen.control.policy.administrator import PolicyAdministrator
from limen.control.policy.model import AccessRequest, StoredPolicy, SubjectState
from limen.control.policy.ports import CredentialEnder, SubjectSource
from limen.control.resources.service import CONSOLE_NAME, ResourcesService
from limen.db.database import Tx
from limen.engine.model import Effect, Policy
from limen.kernel.access import Action, ResourceKind
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, Malformed, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor

__all__ = [
    "AccessRequest",
    "CredentialEnder",
    "PolicyAdministrator",
    "PolicyService",
    "SubjectSource",
    "SubjectState",
]


class PolicyService:
    """Policies of a tenant. Every change is a change of a fact, so live grants are decided again at once."""

    def __init__(self, resources: ResourcesService, subjects: SubjectSource, clock: Clock) -> None:
        self._resources = resources
        self._subjects = subjects
        self._clock = clock

    async def create(
        self,
        tx: Tx,
        actor: Actor,
        *,
        name: str,
        effect: Effect,
        principals: Sequence[UUID],
        resources: Sequence[UUID],
        actions: Sequence[str],
        conditions: Sequence[Mapping[str, Any]] = (),
        builtin: bool = False,
    ) -> StoredPolicy:
        """Create a policy.

        Raises:
            Malformed: when it names nothing, a wrong action or a wrong condition.
            NotFound: when it names a principal or a resource that this tenant does not have.
            Conflict: when the name is taken.
        """
        if not principals or not resources:
            raise Malformed(
                "a policy needs at least one group, person or workload and at least one resource",
                fix="name who may reach what",
            )
        kinds = await self._principal_kinds(tx, principals)
        found = await self._resources.many(tx, resources)
        if len(found) != len(set(resources)):
            raise NotFound("the policy names an unknown resource", fix="list them with 'limen resource list'")
        policy = Policy(
            id=new_id(),
            name=rules.checked_name(name),
            effect=effect,
            principals=frozenset(principals),
            resources=frozenset(resources),
            actions=rules.checked_actions(actions, frozenset(resource.kind for resource in found)),
            conditions=rules.load_conditions(conditions, effect),
        )
        stored = StoredPolicy(policy, builtin, self._clock.now())
        if not await store.insert(tx, stored, kinds):
            raise Conflict(f"a policy named '{name}' exists", fix="choose another name")
        await self._record(tx, actor, "create", policy)
        tx.fact_changed(Fact(FactKind.POLICY, policy.id))
        return stored

    async def remove(self, tx: Tx, actor: Actor, policy_id: UUID) -> None:
        """Delete a policy; grants that no other policy allows end with this transaction.

        Raises:
            NotFound: when there is no such policy in this tenant.
        """
        stored = await store.find(tx, policy_id)
        if stored is None:
            raise NotFound("no such policy", fix="list them with 'limen policy list'")
        await store.delete(tx, policy_id)
        await self._record(tx, actor, "delete", stored.policy)
        tx.fact_changed(Fact(FactKind.POLICY, policy_id))

    async def list_all(self, tx: Tx) -> list[StoredPolicy]:
        """All policies of the tenant, by name."""
        return await store.all_policies(tx)

    async def set_up_tenant(self, tx: Tx, everyone: UUID) -> None:
        """Give a new tenant its console and the policy by which everyone may sign in to it."""
        console = await self._resources.create(tx, SYSTEM, ResourceKind.CONSOLE, CONSOLE_NAME, {}, builtin=True)
        await self.create(
            tx,
            SYSTEM,
            name="Everyone may sign in",
            effect=Effect.ALLOW,
            principals=[everyone],
            resources=[console.id],
            actions=[Action.SIGN_IN],
            builtin=True,
        )

    async def _principal_kinds(self, tx: Tx, principals: Sequence[UUID]) -> dict[UUID, str]:
        kinds = {}
        for principal in principals:
            kind = await self._subjects.principal_kind(tx, principal)
            if kind is None:
                raise NotFound(
                    "the policy names an unknown group, person or workload",
                    fix="list them with 'limen group list' and 'limen person list'",
                )
            kinds[principal] = kind
        return kinds

    async def _record(self, tx: Tx, actor: Actor, verb: str, policy: Policy) -> None:
        detail = {
            "name": policy.name,
            "effect": str(policy.effect),
            "actions": ",".join(sorted(policy.actions)),
            "principals": ",".join(sorted(map(str, policy.principals))),
            "resources": ",".join(sorted(map(str, policy.resources))),
        }
        event = AuditEvent(f"policy.policy.{verb}", Outcome.OK, actor, "policy", policy.id, detail)
        await record(tx, event, self._clock.now())
