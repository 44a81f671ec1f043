"""The control plane's side of the channel to file agents.

Rules:

1. A file agent serves all tenants, so its messages are believed about nothing but the grants it was given: every grant
   that a message names must exist in the tenant that the message names, with this agent as its enforcement point.
   Anything else is ``NotFound``, which ends the channel as a violation.
2. Sign-ins run side by side, since a password takes long to hash; at most :data:`MAX_SIGN_INS` per agent. Releases,
   receipts and events are taken strictly in order, so that a grant which is released before a sign-in is asked for is
   over before that is decided.
3. After ``Welcome`` comes a ``Sync`` for each tenant in which the agent has live grants. What the agent still holds
   in other tenants it cuts by itself when no ``Sync`` names it.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record_many
from limen.control.devices.service import AgentSession
from limen.control.files import rules, store
from limen.control.files.model import SignInClaim
from limen.control.files.service.sign_in import FileSignIn, SignInAnswer
from limen.control.grants.model import CutReceipt, GrantRecord
from limen.control.grants.service import GrantLedger
from limen.db.database import Database, SystemRole, Tx
from limen.kernel.access import SubjectKind
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, Malformed, NotFound, Unavailable
from limen.kernel.facts import Change
from limen.kernel.principal import Actor, ActorKind
from limen.wire.agent import (
    Applied,
    Authenticate,
    AuthenticateAnswer,
    ClosedGrant,
    CloseGrants,
    DoorEvent,
    Events,
    EventsAck,
    Hello,
    Receipt,
    Release,
    Sync,
)

log = structlog.get_logger(__name__)

MAX_SIGN_INS: Final = 64
OLDEST_EVENT_SECONDS: Final = 24 * 3600.0
SKEW_SECONDS: Final = 60.0
ACTIONS: Final = frozenset(
    {
        "files.session.open",
        "files.object.put",
        "files.object.get",
        "files.object.rename",
        "files.object.remove",
        "files.directory.make",
        "files.directory.remove",
        "files.directory.list",
        "files.path.stat",
        "files.path.resolve",
    }
)


class FileAgents:
    """The ``AgentHandler`` for agents of kind ``sftp``."""

    def __init__(self, database: Database, sign_in: FileSignIn, ledger: GrantLedger, clock: Clock) -> None:
        self._database = database
        self._sign_in = sign_in
        self._ledger = ledger
        self._clock = clock
        self._asking: dict[AgentSession, set[asyncio.Task[None]]] = {}

    async def connected(self, session: AgentSession, hello: Hello) -> None:
        """See ``AgentHandler``."""
        self._asking[session] = set()
        async with self._database.system(SystemRole.DIRECTORY) as system:
            tenants = await store.tenants_with_live_grants(system, session.agent.id, self._clock.now())
        for tenant_id in tenants:
            async with self._database.transaction(tenant_id) as tx:
                version = await tx.lock_version(share=True)
                live = await self._ledger.live_of_agent(tx, session.agent.id)
            await session.send(Sync(tenant_id=tenant_id, version=version, files=tuple(grant.id for grant in live)))

    async def received(self, session: AgentSession, message: Any) -> None:
        """See ``AgentHandler``."""
        match message:
            case Authenticate():
                await self._start_sign_in(session, message)
            case Events():
                await self._take_events(session, message)
            case Release():
                async with self._database.transaction(message.tenant_id) as tx:
                    await self._ledger.end(tx, message.grant_id, session.agent.id, "closed")
            case Receipt():
                await self._take_receipt(session, message)
            case Applied():
                pass  # the hub reads what is applied from the heartbeats
            case _:
                raise Malformed("this message is not a file agent's", fix="run the same release on both ends")

    async def changed(self, session: AgentSession, change: Change) -> None:
        """See ``AgentHandler``."""
        closed = tuple(
            ClosedGrant(id=grant.id, number=grant.number, reason=grant.reason)
            for grant in change.revoked
            if grant.agent_id == session.agent.id
        )
        await session.send(CloseGrants(tenant_id=change.tenant_id, version=change.version, grants=closed))

    async def disconnected(self, session: AgentSession) -> None:
        """See ``AgentHandler``."""
        asking = self._asking.pop(session, set())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # --- sign-in ----------------------------------------------------------------------------------------------

    async def _start_sign_in(self, session: AgentSession, asked: Authenticate) -> None:
        if bool(asked.password) == bool(asked.public_key) or (asked.probe and not asked.public_key):
            raise Malformed("a sign-in has either a password or a key", fix="run the same release on both ends")
        asking = self._asking.setdefault(session, set())
        if len(asking) >= MAX_SIGN_INS:
            await session.send(AuthenticateAnswer(request_id=asked.request_id, allowed=False, retry_after=1.0))
            return
        task = asyncio.create_task(self._answer(session, asked))
        asking.add(task)
        task.add_done_callback(asking.discard)

    async def _answer(self, session: AgentSession, asked: Authenticate) -> None:
        claim = SignInClaim(
            slug=asked.connection,
            username=asked.user,
            source=asked.source,
            password=asked.password,
            public_key=asked.public_key,
            probe=asked.probe,
        )
        answer = SignInAnswer(allowed=False)
        try:
            answer = await self._sign_in.authenticate(session.agent.id, claim)
        except LimenError as exc:
            log.warning("a sign-in could not be decided", code=exc.code)
        except Exception:
            log.exception("a sign-in failed inside")
        # When the agent is gone, its next Sync names a grant that it does not know, and it releases that.
        with contextlib.suppress(Unavailable):
            await session.send(
                AuthenticateAnswer(
                    request_id=asked.request_id,
                    allowed=answer.allowed,
                    tenant_id=answer.tenant_id,
                    grant=answer.grant,
                    retry_after=answer.retry_after,
                )
            )

    # --- what the agent reports -------------------------------------------------------------------------------

    async def _take_receipt(self, session: AgentSession, receipt: Receipt) -> None:
        agent_id = session.agent.id
        cut = CutReceipt(
            grant_id=receipt.grant_id,
            agent_id=agent_id,
            reason=receipt.reason[:64],
            cut_at=rules.moment(receipt.cut_at),
            last_byte_at=rules.moment(receipt.last_byte_at) if receipt.last_byte_at else None,
            bytes_in=max(0, receipt.bytes_in),
            bytes_out=max(0, receipt.bytes_out),
        )
        async with self._database.transaction(receipt.tenant_id) as tx:
            await self._ledger.take_receipt(tx, cut)
            if cut.reason != "expired":
                # The agent ended it on its own (lease, shutdown): it must not be handed out again. Over already: fine.
                await self._ledger.end(tx, receipt.grant_id, agent_id, cut.reason)

    async def _take_events(self, session: AgentSession, batch: Events) -> None:
        for event in batch.events:
            if event.action not in ACTIONS or event.outcome not in list(Outcome):
                raise Malformed("a door event is not one of the file door's", fix="run the same release on both ends")
        async with self._database.transaction(batch.tenant_id) as tx:
            grants = await self._grants_of(tx, session.agent.id, batch.events)
            now = self._clock.now()
            await record_many(tx, [self._audited(event, *grants[event.grant_id], now) for event in batch.events])
        await session.send(EventsAck(batch=batch.batch))

    async def _grants_of(
        self, tx: Tx, agent_id: UUID, events: Sequence[DoorEvent]
    ) -> dict[UUID, tuple[GrantRecord, str]]:
        """The grants that events name, each with the address it came from; all must be this agent's (rule 1)."""
        found = {}
        for grant_id in {event.grant_id for event in events}:
            entry = await self._ledger.get(tx, grant_id)
            if entry.grant.agent_id != agent_id:
                raise NotFound("no such grant", fix="")
            found[grant_id] = (entry, await self._ledger.source_of(tx, entry.grant))
        return found

    def _audited(self, event: DoorEvent, entry: GrantRecord, source: str, now: datetime) -> tuple[AuditEvent, datetime]:
        subject = entry.grant.subject
        kind = ActorKind.PERSON if subject.kind is SubjectKind.PERSON else ActorKind.WORKLOAD
        audited = AuditEvent(
            action=event.action,
            outcome=Outcome(event.outcome),
            actor=Actor(kind, subject.id, source),
            object_kind="connection",
            object_id=entry.grant.resource_id,
            detail={"bytes": event.bytes, "detail": event.detail[:200], "grant": str(event.grant_id)},
            personal={"path": event.path} if event.path else {},
        )
        at = rules.event_time(event.at, now, oldest_seconds=OLDEST_EVENT_SECONDS, skew_seconds=SKEW_SECONDS)
        return audited, at
