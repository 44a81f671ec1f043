"""Workloads: programs that hold grants through vault tokens of their own."""

import re
from collections.abc import Iterable
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.vault.model import Workload, WorkloadState
from limen.control.vault.store import tokens as token_store
from limen.control.vault.store import workloads as store
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, Malformed, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class WorkloadService:
    """Create, list, remove; and what the policy administrator asks about a workload."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, tenant_id: UUID, name: str, actor: Actor) -> Workload:
        """Create a workload.

        Raises:
            Malformed: when the name is not 1 to 63 letters, digits, ``.``, ``_`` or ``-``.
            Conflict: when an active workload has the name.
        """
        if not _NAME.fullmatch(name):
            raise Malformed("a workload's name is 1 to 63 letters, digits, '.', '_' or '-'", fix="choose another name")
        new = Workload(new_id(), name, WorkloadState.ACTIVE, self._clock.now())
        async with self._database.transaction(tenant_id) as tx:
            if not await store.insert(tx, new):
                raise Conflict(f"a workload named '{name}' exists", fix="choose another name")
            await self._record(tx, "create", new.id, actor, name)
        return new

    async def list_active(self, tenant_id: UUID) -> list[Workload]:
        """The active workloads by name."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_active(tx)

    async def remove(self, tenant_id: UUID, workload_id: UUID, actor: Actor) -> None:
        """Remove a workload; its tokens and grants end in the same transaction.

        Raises:
            NotFound: when there is no such active workload in this tenant.
        """
        async with self._database.transaction(tenant_id) as tx:
            now = self._clock.now()
            if not await store.remove(tx, workload_id, now):
                raise NotFound("no such workload", fix="list them with 'limen workload list'")
            for token_id in await token_store.revoke_of(tx, workload_id, now):
                tx.fact_changed(Fact(FactKind.CREDENTIAL, token_id))
            # A workload is a subject like a person; the policy administrator finds its grants by this fact.
            tx.fact_changed(Fact(FactKind.PERSON, workload_id))
            await self._record(tx, "remove", workload_id, actor, None)

    async def state(self, tx: Tx, workload_id: UUID) -> WorkloadState | None:
        """The workload's state; None when this tenant has no such workload."""
        found = await store.find(tx, workload_id)
        return found.state if found else None

    async def names(self, tx: Tx, ids: Iterable[UUID]) -> dict[UUID, str]:
        """Names of the workloads among ``ids``."""
        return {found.id: found.name for found in await store.find_many(tx, ids)}

    async def _record(self, tx: Tx, verb: str, workload_id: UUID, actor: Actor, name: str | None) -> None:
        event = AuditEvent(
            action=f"vault.workload.{verb}",
            outcome=Outcome.OK,
            actor=actor,
            object_kind="workload",
            object_id=workload_id,
            detail={"name": name},
        )
        await record(tx, event, self._clock.now())
