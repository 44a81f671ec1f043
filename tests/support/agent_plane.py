"""A control plane for agents, real in every part: keyd on a Unix socket, PostgreSQL, the HTTP API and the agents'
door on loopback with TLS 1.3. Only the rooms behind the kinds of agents are recorders.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect

from limen.api.access import Authenticated
from limen.api.agents import CHANNEL_PATH, agent_door
from limen.api.app import AppSettings, create_app
from limen.api.hosts import HostRules
from limen.api.server import HttpServer
from limen.control.audit.model import AuditFilter
from limen.control.audit.service import search
from limen.control.custody.service import KeydClient
from limen.control.devices.endpoints import authorities_route, router
from limen.control.devices.service import (
    AgentHub,
    AgentRegistry,
    AgentSession,
    ChannelServer,
    EnrolmentService,
    ServerAddress,
)
from limen.control.identity.model import SessionKind
from limen.db.database import Database, SystemRole
from limen.edge.channel import Channel, Identity, enrol
from limen.edge.channel.identity import spki
from limen.edge.channel.ports import HelloFields
from limen.kernel.errors import Unauthenticated
from limen.kernel.facts import Change
from limen.kernel.ids import new_id
from limen.kernel.principal import Principal, Role
from limen.keyd.calllog import CallLog
from limen.keyd.daemon import open_backend
from limen.keyd.keystore import Keystore
from limen.keyd.server import KeydServer
from limen.keyd.service import Custodian
from limen.runtime.tls import agent_client_context, agent_server_context, client_context, server_context
from limen.wire import keyd as keyd_wire
from limen.wire.agent import (
    PROTOCOL,
    AgentKind,
    AppliedVersion,
    CloseGrants,
    Hello,
    Reachable,
    Refuse,
    Sync,
    ToAgent,
    Welcome,
)
from limen.wire.codec import decode, encode
from tests.support.agents import close_of

HOST = "127.0.0.1"


class MovableClock:
    """The machine's clock, moved by an offset."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


class BearerNames:
    """``api.access.Authenticator``: the credential is the key of a principal in a table."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}

    async def authenticate(self, credential: str, kind: SessionKind, source: str) -> Authenticated:
        if credential not in self.known:
            raise Unauthenticated("nobody")
        return Authenticated(self.known[credential])

    async def belongs_to(self, principal: Principal, slug: str) -> bool:
        return True


class Room:
    """``AgentHandler`` that records; it syncs and closes as a real room does."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.version = 1
        self.fail: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def connected(self, session: AgentSession, hello: Hello) -> None:
        self.log.append(("connected", session.agent.id))
        if session.agent.tenant_id is not None:
            await session.send(Sync(tenant_id=session.agent.tenant_id, version=self.version))

    async def received(self, session: AgentSession, message: Any) -> None:
        if self.fail is not None:
            raise self.fail
        self.log.append(("received", message))

    async def changed(self, session: AgentSession, change: Change) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.log.append(("changed", change.version))
        await session.send(close_of(change))

    async def disconnected(self, session: AgentSession) -> None:
        self.log.append(("disconnected", session.agent.id))

    def messages(self) -> list[Any]:
        return [what for kind, what in self.log if kind == "received"]


@dataclass
class Edge:
    """``ChannelHandler`` that applies what it is told, and records."""

    log: list[tuple[str, Any]] = field(default_factory=list)
    versions: dict[UUID, int] = field(default_factory=dict)
    apply: bool = True

    def hello(self) -> HelloFields:
        return HelloFields(software="limen/test", wireguard_public_key="k", listen_port=51820)

    def applied(self) -> tuple[AppliedVersion, ...]:
        return tuple(AppliedVersion(tenant_id=t, version=v) for t, v in self.versions.items())

    async def welcomed(self, welcome: Welcome) -> None:
        self.log.append(("welcomed", welcome))

    async def received(self, message: Any) -> None:
        self.log.append(("received", message))
        if self.apply and isinstance(message, Sync | CloseGrants | Reachable):
            self.versions[message.tenant_id] = message.version

    async def lease(self, seconds: float) -> None:
        self.log.append(("lease", seconds))

    async def lapsed(self) -> None:
        self.log.append(("lapsed", None))

    async def lost(self) -> None:
        self.log.append(("lost", None))

    def count(self, kind: str) -> int:
        return sum(1 for entry, _ in self.log if entry == kind)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Plane:
    """The running control plane, and the ways to use it."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.clock = MovableClock()
        self.feed_current = True
        self.hub = AgentHub(lambda: self.feed_current)
        self.rooms = {kind: Room() for kind in AgentKind}
        for kind, room in self.rooms.items():
            self.hub.register(kind, room)
        self.people = BearerNames()
        self.people_ids: dict[UUID, UUID] = {}
        self.custodian: Custodian
        self.keyd: KeydClient
        self.authorities: keyd_wire.Authorities
        self.registry: AgentRegistry
        self.enrolment: EnrolmentService
        self.server: ChannelServer
        self.channel_url = ""
        self.url = ""

    async def person(self, tenant_id: UUID, role: Role = Role.OWNER) -> Principal:
        """A new person of a tenant, signed in as ``str(person_id)``."""
        person_id = new_id()
        async with self.database.transaction(tenant_id) as tx:
            await tx.execute(
                "INSERT INTO people (tenant_id, id, email_tag, email_sealed, name_sealed, role, state, created_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'active', now())",
                [tenant_id, person_id, person_id.bytes, b"e", b"n", role],
            )
        who = Principal(tenant_id, person_id, new_id(), role, HOST)
        self.people.known[str(person_id)] = who
        return who

    async def operator(self) -> Principal:
        """A new platform operator."""
        operator_id = new_id()
        async with self.database.system(SystemRole.PLATFORM) as system:
            await system.execute(
                "INSERT INTO operators (id, name, token_hash) VALUES (%s, %s, %s)",
                [operator_id, str(operator_id), b"h" * 32],
            )
        who = Principal(None, None, None, None, HOST, operator_id=operator_id)
        self.people.known[str(operator_id)] = who
        return who

    async def token(self, tenant_id: UUID, kind: AgentKind = AgentKind.GATEWAY, name: str = "one") -> str:
        """A fresh enrolment token."""
        made = await self.enrolment.create_enrolment_token(await self.person(tenant_id), kind, name)
        return made.text

    async def agent(self, tenant_id: UUID | None, kind: AgentKind = AgentKind.GATEWAY) -> Identity:
        """A freshly enrolled agent with a state directory of its own."""
        if tenant_id is None:
            made = await self.enrolment.create_platform_token(await self.operator(), kind, "files")
            text = made.text
        else:
            text = await self.token(tenant_id, kind)
        return await enrol(text, self.directory / f"agent-{new_id()}", kind)

    def client(self, who: Principal | None = None) -> httpx.AsyncClient:
        """An HTTP client that trusts this plane, signed in as ``who``."""
        headers = {}
        if who is not None:
            headers["authorization"] = f"Bearer {who.person_id or who.operator_id}"
        context = client_context(self.authorities.server_ca_pem)
        return httpx.AsyncClient(base_url=self.url, verify=context, headers=headers, trust_env=False)

    async def audit_actions(self, tenant_id: UUID) -> list[tuple[str, str]]:
        """(action, outcome) of every audit record of a tenant, oldest first."""
        async with self.database.transaction(tenant_id) as tx:
            found = await search(tx, AuditFilter(limit=1000), open_personal=False)
        return [(entry.action, str(entry.outcome)) for entry in reversed(found)]


class _Late:
    """An ASGI application that is named after its server has a port."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@asynccontextmanager
async def running_plane(
    database: Database, *, heartbeat_seconds: float = 10.0, lease_seconds: float = 60.0
) -> AsyncIterator[Plane]:
    """Start everything; stop everything, also after a failure."""
    directory = Path(tempfile.mkdtemp(prefix="limen-agents-", dir="/tmp"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        plane = Plane(database, directory)
        await _start_keyd(plane, stack)
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = await plane.keyd.issue_server_certificate((HOST,), spki(key))
        plane.registry = AgentRegistry(database, plane.keyd, plane.hub, plane.clock)
        plane.server = ChannelServer(
            plane.hub,
            plane.registry,
            plane.clock,
            heartbeat_seconds=heartbeat_seconds,
            lease_seconds=lease_seconds,
        )
        late = _Late()
        http = HttpServer(late, HOST, 0, server_context(certificate.pem, pem), stop_seconds=1)
        await http.start()
        stack.push_async_callback(http.stop)
        context = agent_server_context(certificate.pem, pem, plane.authorities.agent_ca_pem)
        port = await stack.enter_async_context(agent_door(plane.server, context, HOST, 0))
        plane.url = f"https://{HOST}:{http.port}"
        plane.channel_url = f"wss://{HOST}:{port}{CHANNEL_PATH}"
        address = ServerAddress(plane.url, plane.channel_url, plane.authorities.server_ca_pem)
        plane.enrolment = EnrolmentService(database, plane.keyd, address, plane.clock)
        late.app = create_app(
            AppSettings(HostRules(base_domain="limen.test")),
            plane.people,
            [router(plane.enrolment, plane.registry, plane.hub)],
            health={},
            routes=[authorities_route(plane.authorities.server_ca_pem)],
        )
        yield plane


async def _start_keyd(plane: Plane, stack: AsyncExitStack) -> None:
    keystore = Keystore(plane.directory / "keystore")
    stack.callback(keystore.close)
    calls = CallLog(plane.directory / "calls")
    stack.callback(calls.close)
    backend = open_backend(plane.directory / "kek.json", keystore)
    plane.custodian = await Custodian.open(keystore, backend, calls, plane.clock)
    socket = plane.directory / "keyd.sock"
    server = KeydServer(plane.custodian, socket, frozenset({os.geteuid()}))
    await server.start()
    stack.push_async_callback(server.close)
    plane.keyd = KeydClient(socket)
    stack.push_async_callback(plane.keyd.close)
    plane.authorities = await plane.keyd.authorities()


@asynccontextmanager
async def running_channel(
    identity: Identity, edge: Edge, **options: Any
) -> AsyncIterator[tuple[Channel, "asyncio.Task[None]"]]:
    """Run the agent's side in the background; it is stopped at the end, whatever happened to it."""
    options.setdefault("jitter", lambda: 0.01)
    channel = Channel(identity, **options)
    task = asyncio.create_task(channel.run(edge))
    try:
        yield channel, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


@asynccontextmanager
async def raw_channel(identity: Identity) -> AsyncIterator[ClientConnection]:
    """A bare WebSocket with the agent's certificate, for saying what no agent would."""
    tls = agent_client_context(identity.certificate_path, identity.key_path, identity.authorities_path)
    async with connect(identity.agent.channel_url, ssl=tls, proxy=None, compression=None, ping_interval=None) as socket:
        yield socket


async def say(socket: ClientConnection, message: Any) -> None:
    """Send one message."""
    await socket.send(encode(message), text=True)


async def hear(socket: ClientConnection) -> Any:
    """The next message of the control plane."""
    async with asyncio.timeout(10):
        return decode(await socket.recv(decode=False), ToAgent)


async def refusal(socket: ClientConnection) -> Refuse:
    """Read on until the refusal, and see that the connection ends after it."""
    while not isinstance(message := await hear(socket), Refuse):
        pass
    async with asyncio.timeout(10):
        await socket.wait_closed()
    return message


def hello_from(identity: Identity, now: datetime | None = None, **changes: Any) -> Hello:
    """What ``identity`` says first."""
    fields: dict[str, Any] = {
        "protocol": PROTOCOL,
        "kind": identity.kind,
        "agent_id": identity.agent_id,
        "software": "limen/test",
        "now": (now or datetime.now(UTC)).timestamp(),
    }
    return Hello(**(fields | changes))


async def welcomed(socket: ClientConnection, identity: Identity) -> None:
    """Say hello properly and be let in."""
    await say(socket, hello_from(identity))
    assert isinstance(await hear(socket), Welcome)


@pytest.fixture
async def plane(database: Database) -> AsyncIterator[Plane]:
    """A running control plane with the defaults of production."""
    async with running_plane(database) as running:
        yield running
