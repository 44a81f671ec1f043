"""The network room over a real database and change feed, with agents that a test plays through their sessions."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from limen.control.devices.model import Agent
from limen.control.devices.service import AgentHandler, AgentHub, AgentSession
from limen.control.grants.feed import ChangeFeed
from limen.control.network.service import ClientHandler, GatewayHandler, Openings
from limen.control.policy.service import PolicyAdministrator
from limen.db.database import Database, Tx
from limen.edge.wireguard.keys import generate_private_key, key_text, public_key
from limen.kernel.access import Subject
from limen.kernel.clock import SystemClock
from limen.kernel.ids import new_id
from limen.wire.agent import PROTOCOL, AgentKind, Hello, ToAgent
from limen.wire.codec import decode
from tests.support.agents import an_agent
from tests.support.policy import PolicyWorld

M = TypeVar("M")


class KnownAgents:
    """The one look-up of the registry that the room needs, over the agents of a test."""

    def __init__(self) -> None:
        self.agents: dict[tuple[UUID, UUID], Agent] = {}

    async def active_agent(self, tx: Tx, agent_id: UUID) -> Agent | None:
        return self.agents.get((tx.tenant_id, agent_id))


class PlayedAgent:
    """One connected agent: what the handlers sent it, and a way to speak."""

    def __init__(self, plane: "NetworkPlane", handler: AgentHandler, session: AgentSession) -> None:
        self.plane = plane
        self.handler = handler
        self.session = session
        self.heard: list[Any] = []
        self._changes = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await self.handler.changed(self.session, await self.session.next_change())

    async def hear(self, kind: type[M], seconds: float = 5.0) -> M:
        """The next message of a kind; what came before it is in ``heard``."""
        async with asyncio.timeout(seconds):
            while True:
                data = await self.session.next_outgoing()
                assert data is not None, "the session is over"
                message = decode(data, ToAgent)
                self.heard.append(message)
                if isinstance(message, kind):
                    return message

    async def silent(self, kind: type, seconds: float = 0.3) -> bool:
        """Whether no message of a kind comes for a while."""
        with contextlib.suppress(TimeoutError):
            await self.hear(kind, seconds)
            return False
        return True

    async def say(self, message: Any) -> None:
        """As if the agent had sent it."""
        await self.handler.received(self.session, message)

    async def leave(self) -> None:
        """The connection is gone."""
        self._changes.cancel()
        self.session.finish()
        self.plane.hub.leave(self.session)
        await self.handler.disconnected(self.session)
        self.session.ended.set()


class NetworkPlane:
    """Handlers, hub, feed and policy for any number of tenants."""

    def __init__(self, database: Database, offline_seconds: float) -> None:
        self.world = PolicyWorld(database)
        self.world.clock = clock = SystemClock()  # type: ignore[assignment]
        for part in (self.world.ledger, self.world.resources, self.world.policies):
            part._clock = clock
        self.administrator = PolicyAdministrator(
            database, self.world.ledger, self.world.resources, self.world.directory, clock
        )
        database.fact_hook = self.administrator.redecide
        self.feed = ChangeFeed(database)
        self.hub = AgentHub(self.feed.is_current)
        self.known = KnownAgents()
        openings = Openings()
        rooms = (database, self.world.ledger, self.world.resources)
        self.gateways = GatewayHandler(*rooms, self.known, self.hub, openings, offline_seconds)  # type: ignore[arg-type]
        self.clients = ClientHandler(
            database, self.administrator, self.world.ledger, self.world.resources, self.hub, openings
        )
        self.feed.subscribe(self.hub.dispatch)
        self.played: list[PlayedAgent] = []

    def enrol(self, tenant: UUID, kind: AgentKind, *, person: UUID | None = None, host: int = 2) -> Agent:
        """An agent on record."""
        agent = replace(
            an_agent(kind, tenant_id=tenant, agent_id=new_id()),
            person_id=person,
            tunnel_address=f"100.64.0.{host}/11",
        )
        self.known.agents[tenant, agent.id] = agent
        self.world.directory.devices.add(agent.id)
        return agent

    async def connect(self, agent: Agent, *, key: str = "") -> PlayedAgent:
        """Open its channel."""
        handler: AgentHandler = self.gateways if agent.kind is AgentKind.GATEWAY else self.clients
        hello = Hello(
            protocol=PROTOCOL,
            kind=agent.kind,
            agent_id=agent.id,
            software="test",
            now=time.time(),
            wireguard_public_key=key or key_text(public_key(generate_private_key())),
            listen_port=51820 if agent.kind is AgentKind.GATEWAY else 0,
            addresses=("192.0.2.1",) if agent.kind is AgentKind.GATEWAY else (),
        )
        session = AgentSession(agent, hello, "192.0.2.9")
        await self.hub.enter(session)
        await handler.connected(session, hello)
        found = PlayedAgent(self, handler, session)
        self.played.append(found)
        return found

    def person(self, tenant: UUID) -> Subject:
        """A person."""
        return self.world.person(tenant)


@asynccontextmanager
async def network_plane(database: Database, offline_seconds: float = 60.0) -> AsyncIterator[NetworkPlane]:
    """A plane with its feed running."""
    plane = NetworkPlane(database, offline_seconds)
    feeding = asyncio.create_task(plane.feed.run())
    await plane.feed.ready.wait()
    try:
        yield plane
    finally:
        for agent in plane.played:
            if not agent.session.over.is_set():
                await agent.leave()
        for absence in list(plane.gateways._absent.values()):
            absence.cancel()
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
