"""Use cases of enrolled agents: find, list, remove, and note their comings and goings."""

from uuid import UUID

import structlog

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.devices import rules
from limen.control.devices.model import Agent, AgentState, PeerCertificate
from limen.control.devices.ports import AgentAuthority
from limen.control.devices.service.enrolment import renewal_event
from limen.control.devices.service.hub import AgentHub
from limen.control.devices.store import platform, tenant
from limen.db.database import Database, SystemRole, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.principal import Actor, ActorKind, Permission, Principal
from limen.wire.agent import RefuseCode
from limen.wire.keyd import Certificate

_log = structlog.get_logger(__name__)


class AgentRegistry:
    """The agents on record. ``tenant_id`` None means the platform's own."""

    def __init__(self, database: Database, authority: AgentAuthority, hub: AgentHub, clock: Clock) -> None:
        self._database = database
        self._authority = authority
        self._hub = hub
        self._clock = clock

    async def find(self, tenant_id: UUID | None, agent_id: UUID) -> Agent | None:
        """One agent, removed or not; None when this tenant has no such agent."""
        if tenant_id is None:
            async with self._database.system(SystemRole.PLATFORM) as system:
                return await platform.find_agent(system, agent_id)
        async with self._database.transaction(tenant_id) as tx:
            return await tenant.find_agent(tx, agent_id)

    async def active_agent(self, tx: Tx, agent_id: UUID) -> Agent | None:
        """An agent of the transaction's tenant if it may act, for the policy's facts; None otherwise."""
        agent = await tenant.find_agent(tx, agent_id)
        return agent if agent is not None and agent.state is AgentState.ACTIVE else None

    async def list_agents(self, who: Principal) -> list[Agent]:
        """The active agents of the caller's tenant; without ``agents.read`` only the caller's own devices."""
        if who.operator_id is not None:
            async with self._database.system(SystemRole.PLATFORM) as system:
                return await platform.list_agents(system)
        tenant_id, only = _scope(who, Permission.READ_AGENTS)
        async with self._database.transaction(tenant_id) as tx:
            return await tenant.list_agents(tx, only)

    async def remove_agent(self, who: Principal, agent_id: UUID) -> None:
        """Remove an agent: its session ends, its certificate opens nothing, grants that rest on it end.

        A caller without ``agents.manage`` can remove their own devices.

        Raises:
            NotFound: no such active agent that the caller may remove.
        """
        if who.operator_id is not None:
            await self._remove_platform(who, agent_id)
            return
        tenant_id, only = _scope(who, Permission.MANAGE_AGENTS)
        now = self._clock.now()
        async with self._database.transaction(tenant_id) as tx:
            agent = await tenant.find_agent(tx, agent_id)
            if agent is None or (only is not None and agent.person_id != only):
                raise _no_such_agent()
            if not await tenant.mark_removed(tx, agent_id, now):
                raise _no_such_agent()
            tx.fact_changed(Fact(FactKind.DEVICE, agent_id))
            event = AuditEvent(
                "devices.agent.remove",
                Outcome.OK,
                who.actor,
                "agent",
                agent_id,
                {"kind": str(agent.kind), "name": agent.name},
            )
            await record(tx, event, now)
            tx.after_commit(lambda: self._disconnect(agent_id))
        await self._withdraw(agent_id)

    async def admit(self, peer: PeerCertificate, software: str, source: str) -> Agent:
        """Compare a certificate with the record it names, and note the connection.

        Raises:
            Refused: when the two do not fit, or the agent was removed. The attempt is audited.
            Unavailable: when the database does not answer.
        """
        agent = await self.find(peer.tenant_id, peer.agent_id)
        rules.check_agent(agent, peer)
        assert agent is not None
        now = self._clock.now()
        if agent.tenant_id is None:
            async with self._database.system(SystemRole.PLATFORM) as system:
                await platform.mark_seen(system, agent.id, software, now)
            return agent
        async with self._database.transaction(agent.tenant_id) as tx:
            await tenant.mark_seen(tx, agent.id, software, now)
            await record(tx, self._event("connect", Outcome.OK, agent.id, source), now)
        return agent

    async def record_refusal(self, peer: PeerCertificate, code: RefuseCode, source: str) -> None:
        """Audit that a certified agent was not let in. Never raises: the refusal stands in any case."""
        if peer.tenant_id is None:
            _log.warning("platform agent refused", agent_id=str(peer.agent_id), code=str(code))
            return
        event = self._event("refuse", Outcome.DENIED, peer.agent_id, source, code)
        try:
            async with self._database.transaction(peer.tenant_id) as tx:
                await record(tx, event, self._clock.now())
        except LimenError as exc:
            _log.warning("refusal of an agent not recorded", error=exc.message)

    async def left(self, agent: Agent, software: str, why: str) -> None:
        """Note that a session ended. Never raises."""
        now = self._clock.now()
        try:
            if agent.tenant_id is None:
                async with self._database.system(SystemRole.PLATFORM) as system:
                    await platform.mark_seen(system, agent.id, software, now)
                return
            async with self._database.transaction(agent.tenant_id) as tx:
                await tenant.mark_seen(tx, agent.id, software, now)
                await record(tx, self._event("disconnect", Outcome.OK, agent.id, "", why), now)
        except LimenError as exc:
            _log.warning("end of an agent's session not recorded", error=exc.message)

    async def renew(self, agent: Agent) -> Certificate:
        """A fresh certificate for a connected agent.

        Raises:
            NotFound: keyd does not know the agent any more.
            Unavailable: keyd or the database does not answer.
        """
        certificate = await self._authority.renew_agent(agent.id)
        if agent.tenant_id is not None:
            async with self._database.transaction(agent.tenant_id) as tx:
                await record(tx, renewal_event(agent), self._clock.now())
        return certificate

    def _event(self, act: str, outcome: Outcome, agent_id: UUID, source: str, reason: str = "") -> AuditEvent:
        detail = {"reason": reason} if reason else {}
        actor = Actor(ActorKind.AGENT, agent_id, source)
        return AuditEvent(f"devices.agent.{act}", outcome, actor, "agent", agent_id, detail)

    async def _remove_platform(self, who: Principal, agent_id: UUID) -> None:
        async with self._database.system(SystemRole.PLATFORM) as system:
            if not await platform.mark_removed(system, agent_id, self._clock.now()):
                raise _no_such_agent()
            system.after_commit(lambda: self._disconnect(agent_id))
        _log.info("platform agent removed", agent_id=str(agent_id), operator_id=str(who.operator_id))
        await self._withdraw(agent_id)

    def _disconnect(self, agent_id: UUID) -> None:
        refusal = rules.removed()
        self._hub.disconnect(agent_id, refusal.reason, refusal.message, fix=refusal.fix)

    async def _withdraw(self, agent_id: UUID) -> None:
        """Tell keyd. The agent is out already; keyd's own record only closes the second door."""
        try:
            await self._authority.remove_agent(agent_id)
        except LimenError as exc:
            _log.warning("keyd still knows a removed agent", agent_id=str(agent_id), error=exc.message)


def _scope(who: Principal, permission: Permission) -> tuple[UUID, UUID | None]:
    """The caller's tenant, and the person to whose devices the caller is limited."""
    if who.tenant_id is None:
        raise _no_such_agent()
    return who.tenant_id, None if who.may(permission) else who.person_id


def _no_such_agent() -> NotFound:
    return NotFound("no such agent", fix="list them with 'limen agent list'")
