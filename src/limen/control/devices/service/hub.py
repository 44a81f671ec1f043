"""The hub: all agent sessions of this process, and the change feed spread over them.

Rules:

1. One session per agent. A newer connection replaces the older one, which is told so and whose handler is done
   before the newer one's begins.
2. A session is in the hub *before* its handler reads what to sync: a change that commits meanwhile is queued
   for it, so that nothing falls between the two.
3. :meth:`AgentHub.dispatch` is called by the change feed in version order per tenant. It does not wait.
4. Changes reach: every agent of the tenant; of the platform agents those named by a grant that ended.
5. No lease is renewed while ``feed_is_current`` says that this process itself may be missing changes.
"""

import asyncio
from collections.abc import Callable, Iterable
from uuid import UUID

from limen.control.devices.service.handler import AgentHandler
from limen.control.devices.service.session import AgentSession
from limen.kernel.errors import Unavailable
from limen.kernel.facts import Change, FactKind
from limen.wire.agent import AgentKind, RefuseCode

REPLACE_WAIT_SECONDS = 10.0


class AgentHub:
    """Registry and fan-out. All methods belong to the event loop's thread."""

    def __init__(self, feed_is_current: Callable[[], bool]) -> None:
        self._feed_is_current = feed_is_current
        self._handlers: dict[AgentKind, AgentHandler] = {}
        self._sessions: dict[UUID, AgentSession] = {}
        self._by_tenant: dict[UUID | None, set[AgentSession]] = {}
        self._recheck: Callable[[AgentSession], None] = lambda _session: None
        self._shut = False

    def register(self, kind: AgentKind, handler: AgentHandler) -> None:
        """Name the room behind a kind of agent; once per kind, by the process main."""
        if kind in self._handlers:
            raise ValueError(f"a handler for {kind} agents is registered already")
        self._handlers[kind] = handler

    def handler(self, kind: AgentKind) -> AgentHandler:
        """The room behind a kind.

        Raises:
            Unavailable: when this process serves none of that kind.
        """
        try:
            return self._handlers[kind]
        except KeyError:
            raise Unavailable(f"this control plane serves no {kind} agents") from None

    def session(self, agent_id: UUID) -> AgentSession | None:
        """The live session of an agent, if it is connected to this process."""
        session = self._sessions.get(agent_id)
        return None if session is None or session.over.is_set() else session

    def sessions(self, kind: AgentKind, tenant_id: UUID | None) -> list[AgentSession]:
        """The live sessions of one kind in a tenant; ``None`` for platform agents. Oldest agent first."""
        found = (s for s in self._by_tenant.get(tenant_id, ()) if s.agent.kind is kind)
        return sorted((s for s in found if not s.over.is_set()), key=lambda s: s.agent.id)

    def dispatch(self, change: Change) -> None:
        """Hand one change to all sessions that it concerns. Callback of the change feed."""
        for session in list(self._by_tenant.get(change.tenant_id, ())):
            session.enqueue(change)
        ended_at = {grant.agent_id for grant in change.revoked}
        for session in self._named(ended_at):
            if session.agent.tenant_id is None:
                session.enqueue(change)
        for session in self._named(fact.id for fact in change.facts if fact.kind is FactKind.DEVICE):
            if session.agent.tenant_id == change.tenant_id:
                self._recheck(session)

    def disconnect(self, agent_id: UUID, code: RefuseCode, message: str, *, fix: str = "") -> None:
        """End the session of an agent, if there is one."""
        session = self._sessions.get(agent_id)
        if session is not None:
            session.close(code, message, fix=fix)

    def may_renew(self) -> bool:
        """Whether leases may be renewed at all (rule 5)."""
        return self._feed_is_current() and not self._shut

    def on_device_changed(self, recheck: Callable[[AgentSession], None]) -> None:
        """What to do with a session whose own agent is among the changed facts (the channel's server)."""
        self._recheck = recheck

    async def enter(self, session: AgentSession) -> None:
        """Put a session in (rule 2), and wait until the one it replaces is done (rule 1).

        Raises:
            Unavailable: when the hub is shut down, or the former session does not end.
        """
        if self._shut:
            raise Unavailable("the control plane is stopping", fix="the agent reconnects by itself")
        former = self._sessions.get(session.agent.id)
        self._sessions[session.agent.id] = session
        self._by_tenant.setdefault(session.agent.tenant_id, set()).add(session)
        if former is None:
            return
        former.close(
            RefuseCode.REPLACED,
            "another process connected with the identity of this agent",
            fix="run one agent per state directory",
        )
        try:
            async with asyncio.timeout(REPLACE_WAIT_SECONDS):
                await former.ended.wait()
        except TimeoutError:
            raise Unavailable("the agent's former session does not end") from None

    def leave(self, session: AgentSession) -> None:
        """Take a session out. Idempotent."""
        if self._sessions.get(session.agent.id) is session:
            del self._sessions[session.agent.id]
        peers = self._by_tenant.get(session.agent.tenant_id)
        if peers is not None:
            peers.discard(session)
            if not peers:
                del self._by_tenant[session.agent.tenant_id]

    async def shut(self) -> None:
        """End every session and take no more; returns when all handlers are done."""
        self._shut = True
        sessions = list(self._sessions.values())
        for session in sessions:
            session.close(RefuseCode.SHUTDOWN, "the control plane is stopping")
        for session in sessions:
            await session.ended.wait()

    def _named(self, agent_ids: Iterable[UUID | None]) -> list[AgentSession]:
        found = (self._sessions.get(agent_id) for agent_id in set(agent_ids) if agent_id is not None)
        return [session for session in found if session is not None]
