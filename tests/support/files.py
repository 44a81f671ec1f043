"""The files room over a real database, and the file door joined to it by real messages."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from limen.control.devices.model import Agent, AgentState
from limen.control.devices.service import AgentHub, AgentSession
from limen.control.files.agents import FileAgents
from limen.control.files.model import Connection, Place, Provider, SftpUser
from limen.control.files.service import ConnectionService, FileSignIn, SftpUserService
from limen.control.grants.feed import ChangeFeed
from limen.crypto import sealing
from limen.db.database import Database
from limen.edge.sftp.door import Door
from limen.edge.sftp.ssh import listen
from limen.edge.sftp.storage.connect import StorageConnector, StorageSettings
from limen.engine.model import Effect
from limen.kernel.errors import Denied, Unavailable
from limen.kernel.ids import new_id
from limen.wire.agent import PROTOCOL, AgentKind, FromAgent, Hello, ToAgent
from limen.wire.codec import decode, encode
from tests.support.identity import IdentityWorld, TenantWorld
from tests.support.sftp_door import HOST_KEYS


class MemoryCustody:
    """``files.ports.StorageCustody`` with real sealing and keys in memory; agents are enrolled by ``agents``."""

    def __init__(self) -> None:
        self.private: dict[UUID, bytes] = {}
        self.agents: dict[UUID, bytes] = {}
        self.stored: dict[bytes, tuple[UUID, UUID, bytes]] = {}
        self.down = False

    async def intake_key(self, tenant_id: UUID) -> bytes:
        """A key per tenant."""
        if tenant_id not in self.private:
            self.private[tenant_id] = sealing.generate_keypair()[0]
        return sealing.public_of(self.private[tenant_id])

    async def accept_storage_credential(self, tenant_id: UUID, connection_id: UUID, sealed: bytes) -> bytes:
        """Opens only what was sealed for this tenant and connection."""
        await self.intake_key(tenant_id)
        context = sealing.context("intake", tenant_id, connection_id)
        plain = sealing.open_sealed(self.private[tenant_id], sealed, context)
        blob = b"stored" + new_id().bytes
        self.stored[blob] = (tenant_id, connection_id, plain)
        return blob

    async def reseal_storage_credential(
        self, tenant_id: UUID, connection_id: UUID, grant_id: UUID, agent_id: UUID, blob: bytes
    ) -> bytes:
        """To enrolled agents only, and only from the same place."""
        if self.down:
            raise Unavailable("custody is down")
        owner, connection, plain = self.stored[blob]
        if (owner, connection) != (tenant_id, connection_id) or agent_id not in self.agents:
            raise Denied("not for you")
        context = sealing.context("storage", tenant_id, connection_id, grant_id)
        return sealing.seal_to(self.agents[agent_id], plain, context)


class FilesWorld(IdentityWorld):
    """One platform with the files room and one enrolled file agent."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.custody = MemoryCustody()
        self.connections = ConnectionService(database, self.resources, self.custody, self.clock)
        self.users = SftpUserService(database, self.identity, self.clock)
        self.sign_in = FileSignIn(database, self.identity, self.administrator, self.ledger, self.custody, self.clock)
        self.agents = FileAgents(database, self.sign_in, self.ledger, self.clock)
        self.feed = ChangeFeed(database)
        self.hub = AgentHub(lambda: True)
        self.feed.subscribe(self.hub.dispatch)
        self.agent_key, public = sealing.generate_keypair()
        self.agent = Agent(
            id=new_id(),
            tenant_id=None,
            kind=AgentKind.SFTP,
            name="files",
            spki_sha256=bytes(32),
            sealing_key=public,
            state=AgentState.ACTIVE,
            enrolled_at=self.clock.now(),
        )
        self.custody.agents[self.agent.id] = public

    async def connect(self, tenant: TenantWorld, name: str, place: Place | None = None) -> Connection:
        """A connection, a local folder unless told otherwise."""
        place = place or Place(Provider.LOCAL, root="share")
        return await self.connections.create(tenant.id, tenant.owner.actor, name, place)

    async def give_credential(self, tenant: TenantWorld, connection: Connection, key_id: str, secret: str) -> None:
        """As the command line tool does it."""
        plain = json.dumps({"access_key_id": key_id, "secret_access_key": secret}).encode()
        public = await self.connections.intake_key(tenant.id)
        sealed = sealing.seal_to(public, plain, sealing.context("intake", tenant.id, connection.id))
        await self.connections.set_credential(tenant.id, tenant.owner.actor, connection.id, sealed)

    async def user(
        self, tenant: TenantWorld, connection: Connection, person: UUID, username: str, **options: object
    ) -> SftpUser:
        """An SFTP user."""
        return await self.users.create(
            tenant.id,
            tenant.owner.actor,
            connection_id=connection.id,
            person_id=person,
            username=username,
            **options,  # type: ignore[arg-type]
        )

    async def allow(self, tenant: TenantWorld, who: UUID, resource: UUID, *actions: str) -> None:
        """A policy."""
        async with self.database.transaction(tenant.id) as tx:
            await self.policies.create(
                tx,
                tenant.owner.actor,
                name=f"policy {new_id()}",
                effect=Effect.ALLOW,
                principals=[who],
                resources=[resource],
                actions=actions or ["read", "write", "list", "delete"],
            )

    async def actions_of(self, tenant: TenantWorld, prefix: str = "files.") -> list[tuple[str, str]]:
        """(action, outcome) of the audit trail, oldest first."""
        async with self.database.transaction(tenant.id) as tx:
            rows = await tx.fetch(
                "SELECT action, outcome FROM audit_leaves WHERE tenant_id = %s ORDER BY at, id", [tenant.id]
            )
        return [(row["action"], row["outcome"]) for row in rows if row["action"].startswith(prefix)]


@dataclass
class Bridge:
    """A door and the files room joined by encoded messages, without sockets in between."""

    world: FilesWorld
    session: AgentSession
    door: Door | None = None
    port: int = 0
    root: Path = Path()
    sent: list[object] = field(default_factory=list)

    async def send(self, message: object) -> None:
        """From the agent: through the codec, to the room."""
        self.sent.append(message)
        await self.world.agents.received(self.session, decode(encode(message), FromAgent))

    async def deliver(self) -> None:
        """From the room: through the codec, to the agent."""
        assert self.door is not None
        while (data := await self.session.next_outgoing()) is not None:
            await self.door.received(decode(data, ToAgent))

    async def relay_changes(self) -> None:
        """What the change feed and the hub do."""
        while True:
            await self.world.agents.changed(self.session, await self.session.next_change())


def hello(agent: Agent) -> Hello:
    """What an agent says first."""
    return Hello(protocol=PROTOCOL, kind=agent.kind, agent_id=agent.id, software="test", now=0.0)


@contextlib.asynccontextmanager
async def joined_door(world: FilesWorld, root: Path) -> AsyncIterator[Bridge]:
    """A listening door whose control plane is ``world``."""
    world.clock.instant = datetime.now(UTC)
    bridge = Bridge(world, AgentSession(world.agent, hello(world.agent)), root=root)

    def open_sealed(tenant_id: UUID, connection_id: UUID, grant_id: UUID, blob: bytes) -> bytes:
        context = sealing.context("storage", tenant_id, connection_id, grant_id)
        return sealing.open_sealed(world.agent_key, blob, context)

    connector = StorageConnector(StorageSettings(root, private_endpoints=True), open_sealed)
    bridge.door = Door(bridge, connector)
    acceptor = await listen(bridge.door, HOST_KEYS, "127.0.0.1", 0)
    bridge.port = acceptor.get_port()
    await bridge.door.lease(3600)
    await world.agents.connected(bridge.session, bridge.session.hello)
    await world.hub.enter(bridge.session)
    tasks = [
        asyncio.create_task(work()) for work in (bridge.door.run, bridge.deliver, bridge.relay_changes, world.feed.run)
    ]
    try:
        yield bridge
    finally:
        acceptor.close()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await world.agents.disconnected(bridge.session)
        bridge.session.finish()
        world.hub.leave(bridge.session)
