"""The agent channel over real mutual TLS: both of our ends, and a bare socket that says what no agent would."""

import asyncio
import socket as sockets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from limen.api.agents import agent_door
from limen.control.devices.service import session as session_module
from limen.db.database import Database
from limen.edge.channel import AgentRefused, BadIdentity, Identity, driver, load_identity, machine
from limen.kernel.errors import NotFound, Unavailable
from limen.kernel.facts import Fact, FactKind
from limen.runtime.tls import agent_client_context, client_context
from limen.wire.agent import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    AgentKind,
    Applied,
    AppliedVersion,
    Authenticate,
    EventsAck,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Opened,
    Receipt,
    RefuseCode,
    Renew,
    RequestAccess,
    Sync,
    Welcome,
)
from limen.wire.codec import encode
from tests.support.agent_plane import (
    Edge,
    MovableClock,
    Plane,
    hear,
    hello_from,
    raw_channel,
    refusal,
    running_channel,
    running_plane,
    say,
    until,
    welcomed,
)
from tests.support.agents import a_change
from tests.support.postgres import Tenants

GATEWAY, CLIENT, SFTP = AgentKind.GATEWAY, AgentKind.CLIENT, AgentKind.SFTP
GRANT = UUID(int=40)


def receipt(tenant_id: UUID, n: int = 0) -> Receipt:
    return Receipt(tenant_id=tenant_id, grant_id=UUID(int=40 + n), reason="suspended", cut_at=1.0)


@pytest.fixture
async def brisk(database: Database) -> AsyncIterator[Plane]:
    """A control plane with short beats and leases."""
    async with running_plane(database, heartbeat_seconds=0.2, lease_seconds=1.0) as running:
        yield running


# --- the ordinary life ------------------------------------------------------------------------------------


@pytest.mark.row("T5")
async def test_an_agent_connects_syncs_and_gets_its_lease_at_once(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    async with running_channel(identity, edge) as (channel, task):
        # Beats are 10 s apart: the lease after so short a time is the one of rule 4.
        await until(lambda: edge.count("lease") >= 1, 5.0)
        kinds = [kind for kind, _ in edge.log]
        assert kinds[:3] == ["welcomed", "received", "lease"]
        assert 55.0 < edge.log[2][1] <= 60.0
        session = plane.hub.session(identity.agent_id)
        assert session is not None
        assert session.hello.listen_port == 51820
        assert plane.hub.sessions(GATEWAY, tenants.a) == [session]
        assert plane.hub.sessions(GATEWAY, tenants.b) == []
        assert plane.hub.sessions(CLIENT, tenants.a) == []
        channel.stop()
        await task
    await until(lambda: ("disconnected", identity.agent_id) in plane.rooms[GATEWAY].log)
    assert plane.hub.session(identity.agent_id) is None
    await until(lambda: plane.hub.sessions(GATEWAY, tenants.a) == [])
    for _ in range(200):
        actions = [action for action, _ in await plane.audit_actions(tenants.a)]
        if actions[-2:] == ["devices.agent.connect", "devices.agent.disconnect"]:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not audited: {actions}")


@pytest.mark.row("T5")
async def test_an_agent_with_nothing_to_sync_gets_its_lease_at_once(plane: Plane) -> None:
    identity, edge = await plane.agent(None, SFTP), Edge()
    async with running_channel(identity, edge):
        # Beats are 10 s apart; a file agent without sessions must not refuse sign-ins for so long.
        await until(lambda: edge.count("lease") >= 1, 5.0)


async def test_welcome_carries_the_tunnel(plane: Plane, tenants: Tenants) -> None:
    gateway, files = await plane.agent(tenants.a), await plane.agent(None, SFTP)
    async with raw_channel(gateway) as socket:
        await say(socket, hello_from(gateway))
        welcome = await hear(socket)
        assert isinstance(welcome, Welcome)
        assert welcome.tunnel_address == "100.64.0.1/11"
        assert welcome.tunnel_network == "100.64.0.0/11"
        assert welcome.tenant_id == tenants.a
        assert await hear(socket) == Sync(tenant_id=tenants.a, version=1)
    async with raw_channel(files) as socket:
        await say(socket, hello_from(files))
        welcome = await hear(socket)
        assert (welcome.tenant_id, welcome.tunnel_address, welcome.tunnel_network) == (None, "", "")


async def test_changes_arrive_in_order_and_only_what_is_newer_than_the_sync(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    plane.rooms[GATEWAY].version = 3
    async with running_channel(identity, edge):
        await until(lambda: edge.count("lease") >= 1)
        for version in range(2, 40):
            plane.hub.dispatch(a_change(version, tenant_id=tenants.a))
        plane.hub.dispatch(a_change(99, tenant_id=tenants.b, ended=[(GRANT, identity.agent_id)]))
        await until(lambda: edge.versions.get(tenants.a) == 39)
        changed = [what for kind, what in plane.rooms[GATEWAY].log if kind == "changed"]
        assert changed == list(range(4, 40))
        assert edge.versions == {tenants.a: 39}


async def test_platform_agents_hear_only_of_their_own_grants(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(None, SFTP), Edge()
    async with running_channel(identity, edge):
        await until(lambda: edge.count("welcomed") == 1)
        await until(lambda: plane.hub.session(identity.agent_id) is not None)
        plane.hub.dispatch(a_change(2, tenant_id=tenants.a))
        plane.hub.dispatch(a_change(3, tenant_id=tenants.a, ended=[(GRANT, identity.agent_id)]))
        plane.hub.dispatch(a_change(9, tenant_id=tenants.b, ended=[(GRANT, UUID(int=1))]))
        plane.hub.dispatch(a_change(10, tenant_id=tenants.b, ended=[(GRANT, identity.agent_id)]))
        await until(lambda: edge.versions == {tenants.a: 3, tenants.b: 10})
        assert [what for kind, what in plane.rooms[SFTP].log if kind == "changed"] == [3, 10]


# --- leases -----------------------------------------------------------------------------------------------


async def test_an_agent_that_is_behind_loses_its_lease(brisk: Plane, tenants: Tenants) -> None:
    identity, edge = await brisk.agent(tenants.a), Edge()
    async with running_channel(identity, edge):
        await until(lambda: edge.count("lease") >= 3)
        edge.apply = False
        brisk.hub.dispatch(a_change(2, tenant_id=tenants.a, ended=[(GRANT, identity.agent_id)]))
        await until(lambda: edge.count("lapsed") == 1, 5.0)
        leases = edge.count("lease")
        await asyncio.sleep(0.6)
        assert edge.count("lease") == leases
        edge.apply = True
        brisk.hub.dispatch(a_change(3, tenant_id=tenants.a, ended=[(UUID(int=41), identity.agent_id)]))
        await until(lambda: edge.count("lease") > leases)
        assert edge.count("lost") == 0


async def test_a_cut_that_its_room_cannot_write_stops_the_lease(brisk: Plane, tenants: Tenants) -> None:
    """The room hangs (its database, say): from the dispatch on, the agent is behind."""
    identity, edge = await brisk.agent(tenants.a), Edge()
    async with running_channel(identity, edge):
        await until(lambda: edge.count("lease") >= 1)
        brisk.rooms[GATEWAY].hold = asyncio.Event()
        brisk.hub.dispatch(a_change(2, tenant_id=tenants.a, ended=[(GRANT, identity.agent_id)]))
        await until(lambda: edge.count("lapsed") == 1, 5.0)
        brisk.rooms[GATEWAY].hold.set()
        leases = edge.count("lease")
        await until(lambda: edge.count("lease") > leases)


async def test_a_control_plane_that_misses_changes_renews_nothing(brisk: Plane, tenants: Tenants) -> None:
    identity, edge = await brisk.agent(tenants.a), Edge()
    async with running_channel(identity, edge):
        await until(lambda: edge.count("lease") >= 1)
        brisk.feed_current = False
        await until(lambda: edge.count("lapsed") == 1, 5.0)
        brisk.feed_current = True
        leases = edge.count("lease")
        await until(lambda: edge.count("lease") > leases)


async def test_lease_lapses_when_the_control_plane_is_gone(database: Database, tenants: Tenants) -> None:
    edge = Edge()
    async with running_plane(database, heartbeat_seconds=0.2, lease_seconds=1.0) as running:
        identity = await running.agent(tenants.a)
        running.directory = running.directory  # the identity lives in there and goes with it
        channel = running_channel(identity, edge)
        _, task = await channel.__aenter__()
        await until(lambda: edge.count("lease") >= 1)
    try:
        await until(lambda: edge.count("lost") == 1)
        await until(lambda: edge.count("lapsed") == 1, 5.0)
        assert not task.done()
    finally:
        await channel.__aexit__(None, None, None)


# --- disconnections ---------------------------------------------------------------------------------------


async def test_receipts_reach_the_room_over_a_disconnection(brisk: Plane, tenants: Tenants) -> None:
    identity, edge = await brisk.agent(tenants.a), Edge()
    room = brisk.rooms[GATEWAY]
    async with running_channel(identity, edge) as (channel, _):
        await until(lambda: edge.count("lease") >= 1)
        room.fail = Unavailable("the database is away")
        await channel.send(receipt(tenants.a, 1))
        await until(lambda: edge.count("lost") >= 1)
        await channel.send(receipt(tenants.a, 2))
        room.fail = None
        await until(lambda: {m.grant_id for m in room.messages()} == {UUID(int=41), UUID(int=42)})
        await until(lambda: channel._machine.unacknowledged == 0)
        assert edge.count("lapsed") == 0


async def test_a_dead_network_is_noticed_and_left(
    brisk: Plane, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets vanish without a reset: no answer, so both ends hang up, although nothing can be written any more."""
    monkeypatch.setattr(machine, "MIN_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(driver, "CLOSE_SECONDS", 0.2)
    identity, edge = await brisk.agent(tenants.a), Edge()
    async with swallowing_relay(brisk.channel_url) as (url, swallow):
        moved = replace(identity, agent=msgspec.structs.replace(identity.agent, channel_url=url))
        async with running_channel(moved, edge) as (channel, _):
            await until(lambda: edge.count("lease") >= 1)
            swallow()
            ended = [(UUID(int=1000 + n), identity.agent_id) for n in range(1000)]
            for version in range(2, 60):
                brisk.hub.dispatch(a_change(version, tenant_id=tenants.a, ended=ended))
            brisk.rooms[GATEWAY].version = 60
            with suppress(Unavailable):
                for _ in range(200):  # fill every buffer on the way
                    await channel.send(Authenticate(request_id=1, connection="x" * 100_000, user="u", source=""))
            await until(lambda: edge.count("lost") == 1)
            await until(lambda: edge.count("welcomed") == 2)


@asynccontextmanager
async def swallowing_relay(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A TCP relay to ``url``; what is called stops all connections made so far, without closing them."""
    port = urlsplit(url).port
    pumps: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, far_writer))
        pumps.update((asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))))

    def swallow() -> None:
        for task in list(pumps):
            task.cancel()
        pumps.clear()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield url.replace(f":{port}/", f":{server.sockets[0].getsockname()[1]}/"), swallow
    finally:
        server.close()
        swallow()
        for writer in writers:
            writer.transport.abort()


async def test_a_message_too_large_to_send_is_not_kept(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with running_channel(identity, Edge()) as (channel, _):
        huge = msgspec.structs.replace(receipt(tenants.a), reason="x" * MAX_MESSAGE_BYTES)
        with pytest.raises(ValueError, match="larger"):
            await channel.send(huge)
        assert channel._machine.unacknowledged == 0


async def test_messages_that_cannot_wait_are_refused_while_offline(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with running_channel(identity, Edge()) as (channel, _):
        with pytest.raises(Unavailable, match="not connected"):
            await channel.send(Opened(tenant_id=tenants.a, grant_id=GRANT))


async def test_a_failing_enforcement_point_gets_a_new_sync(brisk: Plane, tenants: Tenants) -> None:
    class Brittle(Edge):
        failed = False

        async def received(self, message: object) -> None:
            if not self.failed:
                self.failed = True
                raise RuntimeError("nft said no")
            await super().received(message)

    identity, edge = await brisk.agent(tenants.a), Brittle()
    async with running_channel(identity, edge):
        await until(lambda: edge.count("lease") >= 1)
        assert edge.count("lost") == 1
        assert edge.count("welcomed") == 2


async def test_a_room_that_fails_does_not_take_others_down(plane: Plane, tenants: Tenants) -> None:
    # Not the brisk plane: on a busy machine its short leases end by themselves.
    one, other = await plane.agent(tenants.a), await plane.agent(tenants.b, CLIENT)
    first, second = Edge(), Edge()
    async with running_channel(one, first) as (channel, _), running_channel(other, second):
        await until(lambda: first.count("lease") >= 1 and second.count("lease") >= 1)
        plane.rooms[GATEWAY].fail = RuntimeError("defect")
        await channel.send(Applied(tenant_id=tenants.a, version=1))
        await until(lambda: first.count("lost") >= 1)
        assert second.count("lost") == 0


async def test_the_second_connection_replaces_the_first(plane: Plane, tenants: Tenants) -> None:
    identity, first, second = await plane.agent(tenants.a), Edge(), Edge()
    async with running_channel(identity, first) as (_, old):
        await until(lambda: first.count("lease") >= 1)
        async with running_channel(load_identity(identity.directory), second):
            with pytest.raises(AgentRefused, match="another process") as caught:
                await old
            assert caught.value.reason == RefuseCode.REPLACED
            assert first.log[-1][0] == "lapsed"
            await until(lambda: second.count("lease") >= 1)
            log = [kind for kind, _ in plane.rooms[GATEWAY].log]
            assert log == ["connected", "disconnected", "connected"]
            assert len(plane.hub.sessions(GATEWAY, tenants.a)) == 1


async def test_shutting_down_is_no_refusal(database: Database, tenants: Tenants) -> None:
    async with running_plane(database) as running:
        identity = await running.agent(tenants.a)
        async with raw_channel(identity) as socket:
            await welcomed(socket, identity)
            assert isinstance(await hear(socket), Sync)
            shutting = asyncio.create_task(running.hub.shut())
            assert (await refusal(socket)).code == RefuseCode.SHUTDOWN
            await shutting
        async with raw_channel(identity) as socket:
            await say(socket, hello_from(identity))
            assert (await refusal(socket)).code == RefuseCode.UNAVAILABLE


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_an_hour_off_is_refused_in_words(plane: Plane, tenants: Tenants, hours: int) -> None:
    identity, edge, wrong = await plane.agent(tenants.a), Edge(), MovableClock()
    wrong.offset = timedelta(hours=hours)
    async with running_channel(identity, edge, clock=wrong) as (_, task):
        with pytest.raises(AgentRefused, match=r"3600 s (ahead|behind)") as caught:
            await task
    assert "set the clock" in caught.value.fix
    assert edge.log == []
    assert ("devices.agent.refuse", "denied") in await plane.audit_actions(tenants.a)


async def test_a_removed_agent_is_cut_at_once_and_stays_out(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    owner = await plane.person(tenants.a)
    changes = []
    plane.database.fact_hook = _remember(changes)
    async with running_channel(identity, edge) as (_, task):
        await until(lambda: edge.count("lease") >= 1)
        await plane.registry.remove_agent(owner, identity.agent_id)
        async with asyncio.timeout(2):
            with pytest.raises(AgentRefused, match="removed") as caught:
                await task
        assert caught.value.reason == RefuseCode.REMOVED
        assert edge.log[-1][0] == "lapsed"
    assert changes == [frozenset({Fact(FactKind.DEVICE, identity.agent_id)})]
    async with running_channel(load_identity(identity.directory), Edge()) as (_, task):
        with pytest.raises(AgentRefused, match="removed"):
            await task
    with pytest.raises(NotFound):
        await plane.keyd.renew_agent(identity.agent_id)


def _remember(changes: list[frozenset[Fact]]):  # type: ignore[no-untyped-def]
    async def hook(_tx: object, facts: frozenset[Fact]) -> None:
        changes.append(facts)

    return hook


async def test_removal_by_another_process_arrives_by_the_feed(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        assert isinstance(await hear(socket), Sync)
        fact = Fact(FactKind.DEVICE, identity.agent_id)
        plane.hub.dispatch(a_change(2, tenant_id=tenants.a, facts=[fact]))
        await hear(socket)  # still on record: only told of the version
        await plane.database.query(
            tenants.a,
            "UPDATE agents SET state = 'removed', removed_at = now(), tunnel_host = NULL WHERE tenant_id = %s",
            [tenants.a],
        )
        plane.hub.dispatch(a_change(3, tenant_id=tenants.a, facts=[fact]))
        assert (await refusal(socket)).code == RefuseCode.REMOVED


async def test_removed_between_the_check_and_the_hub(plane: Plane, tenants: Tenants) -> None:
    """The removal finds no session to close; the connection must notice by itself."""
    identity = await plane.agent(tenants.a)
    owner = await plane.person(tenants.a)
    enter = plane.hub.enter

    async def removed_just_now(session: object) -> None:
        await plane.registry.remove_agent(owner, identity.agent_id)
        await enter(session)  # type: ignore[arg-type]

    plane.hub.enter = removed_just_now  # type: ignore[method-assign]
    async with raw_channel(identity) as socket:
        await say(socket, hello_from(identity))
        assert (await refusal(socket)).code == RefuseCode.REMOVED
    assert plane.rooms[GATEWAY].log == []


async def test_another_protocol(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await say(socket, hello_from(identity, protocol=PROTOCOL + 1))
        answer = await refusal(socket)
        assert answer.code == RefuseCode.VERSION
        assert "install the release" in answer.fix


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b'{"type":"hello"}',
        b'{"type":"made-up"}',
        b'{"type":"welcome"}',
        encode(Heartbeat(now=0.0)),
        encode(Goodbye()),
    ],
)
async def test_a_first_message_that_is_no_hello(plane: Plane, tenants: Tenants, data: bytes) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await socket.send(data, text=True)
        assert (await refusal(socket)).code == RefuseCode.MALFORMED
    assert plane.rooms[GATEWAY].log == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not json", RefuseCode.MALFORMED),
        (b'{"type":"made-up"}', RefuseCode.MALFORMED),
        (b'{"type":"goodbye","more":1}', RefuseCode.MALFORMED),
        (encode(HeartbeatAck(now=0.0, lease_seconds=9.0)), RefuseCode.MALFORMED),
        (encode(EventsAck(batch=1)), RefuseCode.MALFORMED),
        (encode(RequestAccess(request_id=1, resource_id=GRANT)), RefuseCode.DENIED),
    ],
)
async def test_messages_out_of_the_protocol_end_the_channel(
    plane: Plane, tenants: Tenants, data: bytes, code: RefuseCode
) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        await socket.send(data, text=True)
        answer = await refusal(socket)
        assert answer.code == code
        assert "made-up" not in answer.message
    await until(lambda: plane.hub.session(identity.agent_id) is None)
    assert plane.rooms[GATEWAY].messages() == []


async def test_a_message_too_large_ends_the_channel(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        await socket.send(b" " * (MAX_MESSAGE_BYTES + 1), text=True)
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 1009
    await until(lambda: plane.hub.session(identity.agent_id) is None)


async def test_a_silent_agent_is_disconnected(brisk: Plane, tenants: Tenants) -> None:
    identity = await brisk.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        assert (await refusal(socket)).code == RefuseCode.SLOW


async def test_an_agent_that_does_not_read_holds_nobody_up(
    plane: Plane, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MAX_QUEUED_BYTES", 400_000)
    deaf, identity, edge = await plane.agent(tenants.a), await plane.agent(tenants.a), Edge()
    async with connect(
        deaf.agent.channel_url,
        sock=_small_socket(plane.channel_url),
        ssl=ssl_of(deaf),
        proxy=None,
        compression=None,
        ping_interval=None,
        max_queue=1,
        close_timeout=0.1,
    ) as socket:
        await welcomed(socket, deaf)
        socket.transport.pause_reading()
        session = plane.hub.session(deaf.agent_id)
        assert session is not None
        async with running_channel(identity, edge):
            await until(lambda: edge.count("lease") >= 1)
            ended = [(UUID(int=1000 + n), deaf.agent_id) for n in range(1000)]
            for version in range(2, 300):
                plane.hub.dispatch(a_change(version, tenant_id=tenants.a, ended=ended))
                await until(lambda version=version: edge.versions.get(tenants.a) == version)  # type: ignore[misc]
                if session.over.is_set():
                    break
            assert session.refusal is not None
            assert session.refusal.code == RefuseCode.SLOW
            assert edge.count("lost") == 0


def _small_socket(url: str) -> sockets.socket:
    """Connected, with little room for what is not read."""
    small = sockets.socket()
    small.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8192)
    small.connect(("127.0.0.1", urlsplit(url).port))
    small.setblocking(False)
    return small


def ssl_of(identity: Identity) -> ssl.SSLContext:
    return agent_client_context(identity.certificate_path, identity.key_path, identity.authorities_path)


async def test_a_stale_beat_ends_the_connection_but_not_the_agent(plane: Plane, tenants: Tenants) -> None:
    """The host slept with the beat in its buffers."""
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        await say(socket, Heartbeat(now=datetime.now(UTC).timestamp() - 3600))
        assert (await refusal(socket)).code == RefuseCode.SLOW


# --- certificates -----------------------------------------------------------------------------------------


async def test_certificates_renew_over_the_channel(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    before = identity.certificate_path.read_bytes()
    plane.clock.offset = timedelta(hours=16)  # two thirds of a life of 26 hours, of which 2 were before issue
    async with running_channel(identity, edge, clock=plane.clock):
        await until(lambda: identity.certificate_path.read_bytes() != before)
        assert identity.certificate_path.stat().st_mode & 0o777 == 0o600
        assert edge.count("lost") == 0
    load_identity(identity.directory)
    assert ("devices.certificate.renew", "ok") in await plane.audit_actions(tenants.a)


async def test_a_fresh_certificate_is_not_renewed(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    before = identity.certificate_path.read_bytes()
    plane.clock.offset = timedelta(hours=15)
    async with running_channel(identity, edge, clock=plane.clock):
        await until(lambda: edge.count("lease") >= 1)
        await asyncio.sleep(0.1)
    assert identity.certificate_path.read_bytes() == before


async def test_a_certificate_that_ran_out_is_renewed_before_dialling(plane: Plane, tenants: Tenants) -> None:
    identity, edge = await plane.agent(tenants.a), Edge()
    before = identity.certificate_path.read_bytes()
    plane.clock.offset = timedelta(hours=24)
    async with running_channel(identity, edge, clock=plane.clock):
        await until(lambda: identity.certificate_path.read_bytes() != before)


async def test_a_channel_does_not_outlive_its_certificate(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        plane.clock.offset = timedelta(hours=25)
        await say(socket, Heartbeat(now=plane.clock.now().timestamp()))
        assert (await refusal(socket)).code == RefuseCode.CERTIFICATE


async def test_renewing_extends_the_channel_and_is_limited(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        assert isinstance(await hear(socket), Sync)
        plane.clock.offset = timedelta(hours=20)
        await say(socket, Renew())
        renewed = await hear(socket)
        assert renewed.not_after > plane.clock.now().timestamp() + 20 * 3600
        plane.clock.offset = timedelta(hours=25)
        applied = (AppliedVersion(tenant_id=tenants.a, version=1),)
        await say(socket, Heartbeat(now=plane.clock.now().timestamp(), applied=applied))
        assert (await hear(socket)).lease_seconds == 60.0
        await say(socket, Renew())
        assert (await refusal(socket)).code == RefuseCode.DENIED


async def test_identity_files_are_checked(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    directory = identity.directory
    identity.key_path.chmod(0o640)
    with pytest.raises(BadIdentity, match="others may read"):
        load_identity(directory)
    identity.key_path.chmod(0o600)
    good = identity.key_path.read_bytes()
    for damage in (b"", good[:40], good.replace(b"M", b"!")):
        identity.key_path.write_bytes(damage)
        with pytest.raises(BadIdentity, match="damaged"):
            load_identity(directory)
    other = await plane.agent(tenants.a)
    identity.key_path.write_bytes(other.key_path.read_bytes())
    with pytest.raises(BadIdentity, match="do not belong together"):
        load_identity(directory)
    identity.key_path.write_bytes(good)
    load_identity(directory)
    (directory / "agent.json").write_text("{")
    with pytest.raises(BadIdentity, match="damaged"):
        load_identity(directory)
    (directory / "agent.json").unlink()
    with pytest.raises(BadIdentity, match="no agent yet"):
        load_identity(directory)


# --- the TLS door -----------------------------------------------------------------------------------------


@pytest.mark.row("T5")
async def test_the_door_needs_a_certificate_of_the_agents_authority(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    bare = client_context(plane.authorities.server_ca_pem)
    old = ssl_of(identity)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    key, forged = _certified_by_a_stranger(identity)
    stranger = agent_client_context(forged, key, identity.authorities_path)
    for context in (bare, old, stranger):
        with pytest.raises((OSError, EOFError, WebSocketException)):
            async with connect(plane.channel_url, ssl=context, proxy=None) as socket:
                await socket.recv()
    with pytest.raises((OSError, EOFError, WebSocketException)):
        await connect(plane.channel_url.replace("wss:", "ws:"), proxy=None)
    assert plane.rooms[GATEWAY].log == []


def _certified_by_a_stranger(identity: Identity) -> tuple[bytes, bytes]:
    """A certificate that says the same as ``identity``'s, signed by its own key."""
    real = x509.load_pem_x509_certificate(identity.certificate_path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        real.issuer,
        real.subject,
        key.public_key(),
        real.serial_number,
        real.not_valid_before_utc,
        real.not_valid_after_utc,
        list(real.extensions),
    )
    forged = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, forged.public_bytes(serialization.Encoding.PEM)


@pytest.mark.row("T5")
async def test_only_the_channel_answers_behind_the_door(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    with pytest.raises(InvalidStatus) as caught:
        await connect(plane.channel_url + "/else", ssl=ssl_of(identity), proxy=None)
    assert caught.value.response.status_code == 404
    async with httpx.AsyncClient(verify=ssl_of(identity), trust_env=False) as http:
        answer = await http.get(plane.channel_url.replace("wss:", "https:"))
        assert answer.status_code == 426


async def test_a_taken_port_is_named(plane: Plane) -> None:
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(Unavailable, match="taken by another process"):
            async with agent_door(plane.server, context, "127.0.0.1", taken.getsockname()[1]):
                pass


async def test_the_door_is_never_opened_without_client_certificates(plane: Plane) -> None:
    with pytest.raises(ValueError, match="client certificates"):
        async with agent_door(plane.server, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "127.0.0.1", 0):
            pass
