"""Use cases of the ledger, each inside the caller's tenant transaction."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.grants import rules, store
from limen.control.grants.model import Block, CutReceipt, GrantRecord
from limen.db.database import Tx
from limen.kernel.access import Grant, GrantState, Subject
from limen.kernel.clock import Clock
from limen.kernel.errors import NotFound, Unavailable
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor, ActorKind

_NUMBER_TRIES = 8


class GrantLedger:
    """Issue, find, revoke, expire and receipt grants; set and lift blocks.

    ``watchers`` hear, after the commit, in whose tenant a grant was issued or ran out by itself: what the change feed
    does not carry, because no enforcement point needs it. They are for views of this process and may miss nothing
    but what another process did.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.watchers: list[Callable[[UUID], None]] = []

    async def issue(self, tx: Tx, grant: Grant, source: str) -> Grant:
        """Write a decided grant under a fresh number. The caller holds the version row (shared).

        Raises:
            Unavailable: when no free number was found.
        """
        sealed = await tx.seal("grants", "source", grant.id, source) if source else None
        for _ in range(_NUMBER_TRIES):
            numbered = replace(grant, number=rules.random_number())
            if await store.insert(tx, numbered, sealed):
                self._tell_watchers(tx)
                return numbered
        raise Unavailable("no free grant number", fix="try again")

    async def source_of(self, tx: Tx, grant: Grant) -> str:
        """The address that the access came from; empty when unknown."""
        sealed = await store.source_of(tx, grant.id)
        return (await tx.open("grants", "source", grant.id, sealed)).decode() if sealed else ""

    async def reusable(
        self, tx: Tx, subject: Subject, resource_id: UUID, agent_id: UUID | None, until: datetime
    ) -> list[Grant]:
        """Live grants for the very same subject, resource and enforcement point that last beyond ``until``."""
        twins = await store.live_twin(tx, subject, resource_id, agent_id)
        return [twin.grant for twin in twins if twin.grant.expires_at > until]

    async def get(self, tx: Tx, grant_id: UUID) -> GrantRecord:
        """One grant.

        Raises:
            NotFound: when there is no such grant in this tenant.
        """
        found = await store.find(tx, grant_id)
        if found is None:
            raise NotFound("no such grant", fix="list them with 'limen grant list'")
        return found

    async def live(
        self,
        tx: Tx,
        *,
        subjects: Sequence[UUID] | None = None,
        credentials: Sequence[UUID] | None = None,
        devices: Sequence[UUID] | None = None,
        resources: Sequence[UUID] | None = None,
    ) -> list[GrantRecord]:
        """Live grants matching any filter; all of the tenant without one."""
        return await store.live(tx, subjects=subjects, credentials=credentials, devices=devices, resources=resources)

    async def live_of_agent(self, tx: Tx, agent_id: UUID) -> list[Grant]:
        """The unexpired live grants of an enforcement point."""
        return [entry.grant for entry in await store.live_of_agent(tx, agent_id, self._clock.now())]

    async def newest(self, tx: Tx, limit: int = 100, *, live_only: bool = False) -> list[GrantRecord]:
        """The newest grants of the tenant."""
        return await store.newest(tx, limit, live_only=live_only)

    async def revoke(self, tx: Tx, entry: GrantRecord, reason: str, actor: Actor = SYSTEM) -> bool:
        """Revoke one live grant and put it into this transaction's outbox row; False when it was over already."""
        if not await store.finish(tx, entry.grant.id, GrantState.REVOKED, reason, self._clock.now()):
            return False
        tx.revoked(rules.as_revoked(entry, reason))
        await self._record(tx, "revoke", entry.grant.id, actor, {"reason": reason})
        return True

    async def end(self, tx: Tx, grant_id: UUID, agent_id: UUID, reason: str) -> bool:
        """The subject closed its access at ``agent_id`` by itself.

        Raises:
            NotFound: when the grant is not one of this agent's.
        """
        entry = await self.get(tx, grant_id)
        if entry.grant.agent_id != agent_id:
            raise NotFound("no such grant", fix="")
        if not await store.finish(tx, grant_id, GrantState.ENDED, reason, self._clock.now()):
            return False
        await self._record(tx, "end", grant_id, Actor(ActorKind.AGENT, agent_id), {"reason": reason})
        self._tell_watchers(tx)
        return True

    async def expire_overdue(self, tx: Tx) -> list[Grant]:
        """Mark the tenant's overdue grants as expired; enforcement points closed them by the clock already."""
        expired = []
        for entry in await store.overdue(tx, self._clock.now()):
            if await store.finish(tx, entry.grant.id, GrantState.EXPIRED, "expired", self._clock.now()):
                expired.append(entry.grant)
                await self._record(tx, "expire", entry.grant.id, SYSTEM, {})
        if expired:
            self._tell_watchers(tx)
        return expired

    async def take_receipt(self, tx: Tx, receipt: CutReceipt) -> bool:
        """Record an enforcement point's receipt; False when it was recorded before. A grant that is live in the
        ledger ends with it: there is nothing open any more.

        Raises:
            NotFound: when the grant is not one of this agent's.
        """
        entry = await self.get(tx, receipt.grant_id)
        if entry.grant.agent_id != receipt.agent_id:
            raise NotFound("no such grant", fix="")
        if not await store.insert_receipt(tx, receipt, self._clock.now()):
            return False
        await store.finish(tx, receipt.grant_id, GrantState.ENDED, receipt.reason, self._clock.now())
        detail: dict[str, str | int | bool | None] = {
            "reason": receipt.reason,
            "cut_at": receipt.cut_at.isoformat(),
            "last_byte_at": receipt.last_byte_at.isoformat() if receipt.last_byte_at else None,
            "bytes_in": receipt.bytes_in,
            "bytes_out": receipt.bytes_out,
        }
        await self._record(tx, "receipt", receipt.grant_id, Actor(ActorKind.AGENT, receipt.agent_id), detail)
        self._tell_watchers(tx)
        return True

    async def blocks_on(self, tx: Tx, subject_id: UUID) -> list[Block]:
        """Blocks in force on a subject."""
        return await store.blocks_on(tx, subject_id)

    async def all_blocks(self, tx: Tx) -> list[Block]:
        """Blocks in force in the tenant."""
        return await store.all_blocks(tx)

    async def set_block(self, tx: Tx, actor: Actor, subject_id: UUID, resource_id: UUID | None, reason: str) -> bool:
        """Block a subject from everything or from one resource; False when it is blocked so already."""
        block = Block(new_id(), subject_id, resource_id, reason, self._clock.now())
        if not await store.insert_block(tx, block, actor.id):
            return False
        tx.fact_changed(Fact(FactKind.BLOCK, subject_id))
        await self._record_block(tx, "set", actor, subject_id, resource_id, reason)
        return True

    async def lift_block(self, tx: Tx, actor: Actor, subject_id: UUID, resource_id: UUID | None) -> bool:
        """Lift a block; False when there was none."""
        if not await store.lift_blocks(tx, subject_id, actor.id, self._clock.now(), resource_id=resource_id):
            return False
        tx.fact_changed(Fact(FactKind.BLOCK, subject_id))
        await self._record_block(tx, "lift", actor, subject_id, resource_id, "")
        return True

    def _tell_watchers(self, tx: Tx) -> None:
        for watcher in self.watchers:
            tx.after_commit(partial(watcher, tx.tenant_id))

    async def _record(
        self, tx: Tx, verb: str, grant_id: UUID, actor: Actor, detail: dict[str, str | int | bool | None]
    ) -> None:
        event = AuditEvent(f"grants.grant.{verb}", Outcome.OK, actor, "grant", grant_id, detail)
        await record(tx, event, self._clock.now())

    async def _record_block(
        self, tx: Tx, verb: str, actor: Actor, subject_id: UUID, resource_id: UUID | None, reason: str
    ) -> None:
        detail = {"resource": str(resource_id) if resource_id else "everything", "reason": reason}
        event = AuditEvent(f"grants.block.{verb}", Outcome.OK, actor, "subject", subject_id, detail)
        await record(tx, event, self._clock.now())
