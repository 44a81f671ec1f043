"""Session set-up at the control plane: gateway first, then the client; and who is told when something ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import msgspec
import pytest

import limen.control.network.service as service
from limen.db.database import Database
from limen.kernel.access import GrantState, Subject
from limen.kernel.errors import Malformed, Unavailable
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM
from limen.wire.agent import (
    AccessAnswer,
    AgentKind,
    CloseGrants,
    GrantEnded,
    Opened,
    OpenGrant,
    Reachable,
    Receipt,
    RequestAccess,
    Sync,
)
from tests.support.network_plane import NetworkPlane, PlayedAgent, network_plane
from tests.support.postgres import Tenants


@pytest.fixture
async def plane(database: Database) -> AsyncIterator[NetworkPlane]:
    async with network_plane(database) as found:
        yield found


@dataclass
class Scene:
    """A person with a device, a gateway, and a resource that a policy allows."""

    plane: NetworkPlane
    tenant: UUID
    subject: Subject
    resource: UUID
    gateway: PlayedAgent
    client: PlayedAgent

    async def ask(self, resource: UUID | None = None) -> None:
        await self.client.say(RequestAccess(request_id=7, resource_id=resource or self.resource))

    async def open(self) -> tuple[OpenGrant, AccessAnswer]:
        """Ask, open at the gateway, hear the answer."""
        await self.ask()
        pushed = await self.gateway.hear(OpenGrant)
        await self.gateway.say(Opened(tenant_id=self.tenant, grant_id=pushed.tunnel.id))
        return pushed, await self.client.hear(AccessAnswer)

    async def state(self, grant_id: UUID) -> GrantState:
        async with self.plane.world.database.transaction(self.tenant) as tx:
            return (await self.plane.world.ledger.get(tx, grant_id)).state


async def set_scene(plane: NetworkPlane, tenant: UUID) -> Scene:
    subject = plane.person(tenant)
    resource = await plane.world.resource(tenant, "wiki")
    await plane.world.policy(tenant, "wiki for one", subject.id, resource.id)
    gateway = await plane.connect(plane.enrol(tenant, AgentKind.GATEWAY, host=1))
    client = await plane.connect(plane.enrol(tenant, AgentKind.CLIENT, person=subject.id))
    return Scene(plane, tenant, subject, resource.id, gateway, client)


async def test_the_gateway_has_opened_before_the_client_is_answered(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    await scene.ask()
    pushed = await scene.gateway.hear(OpenGrant)
    assert await scene.client.silent(AccessAnswer)
    await scene.gateway.say(Opened(tenant_id=tenants.a, grant_id=pushed.tunnel.id))
    answer = await scene.client.hear(AccessAnswer)
    assert (answer.request_id, answer.allowed, answer.grant_id) == (7, True, pushed.tunnel.id)
    assert answer.expires_at == pushed.tunnel.expires_at > time.time()
    assert answer.peer is not None
    assert answer.peer.public_key == scene.gateway.session.hello.wireguard_public_key
    assert (answer.peer.endpoint, answer.peer.address) == ("192.0.2.1:51820", "100.64.0.1")
    assert pushed.tunnel.peer_public_key == scene.client.session.hello.wireguard_public_key
    assert pushed.tunnel.peer_address == "100.64.0.2"
    assert (pushed.tunnel.resource.id, pushed.tunnel.resource.cidr) == (scene.resource, "10.9.8.7/32")


async def test_asking_again_gives_the_same_grant(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    first, _ = await scene.open()
    again, answer = await scene.open()
    assert again.tunnel == first.tunnel
    assert answer.grant_id == first.tunnel.id


async def test_what_no_policy_allows_is_denied_with_its_reason(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    other = await plane.world.resource(tenants.a, "payroll")
    await scene.ask(other.id)
    answer = await scene.client.hear(AccessAnswer)
    assert (answer.allowed, answer.code) == (False, "denied")
    assert answer.reason
    assert answer.fix
    reachable = [message for message in scene.client.heard if isinstance(message, Reachable)]
    assert all([one.id for one in message.resources] == [scene.resource] for message in reachable)


async def test_without_gateway_the_failure_has_a_name(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    await scene.gateway.leave()
    await scene.ask()
    answer = await scene.client.hear(AccessAnswer)
    assert (answer.allowed, answer.code) == (False, "no-gateway-online")


async def test_a_silent_gateway_is_named_and_the_grant_ends(
    plane: NetworkPlane, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "OPEN_SECONDS", 0.1)
    scene = await set_scene(plane, tenants.a)
    await scene.ask()
    pushed = await scene.gateway.hear(OpenGrant)
    answer = await scene.client.hear(AccessAnswer)
    assert (answer.allowed, answer.code) == (False, "gateway-silent")
    assert "did not open" in answer.reason
    assert await scene.state(pushed.tunnel.id) is GrantState.ENDED


@pytest.mark.row("N3")
async def test_suspension_reaches_gateway_and_client(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    pushed, _ = await scene.open()
    await plane.administrator.suspend_person(SYSTEM, tenants.a, scene.subject.id, "left")
    close = await scene.gateway.hear(CloseGrants)
    assert [one.id for one in close.grants] == [pushed.tunnel.id]
    ended = await scene.client.hear(GrantEnded)
    assert ended.grant_id == pushed.tunnel.id
    assert (await scene.client.hear(Reachable)).resources == ()
    await scene.ask()
    assert (await scene.client.hear(AccessAnswer)).code == "denied"


async def test_every_change_moves_the_gateways_version(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    await plane.world.resource(tenants.a, "another")
    first = await scene.gateway.hear(CloseGrants)
    assert first.grants == ()
    await plane.world.resource(tenants.a, "and another")
    assert (await scene.gateway.hear(CloseGrants)).version == first.version + 1


async def test_a_restarted_gateway_is_synced_and_its_clients_ask_again(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    pushed, _ = await scene.open()
    await scene.gateway.leave()
    back = await plane.connect(scene.gateway.session.agent)
    synced = await back.hear(Sync)
    assert synced.tunnels == (pushed.tunnel,)
    assert (await scene.client.hear(GrantEnded)).grant_id == pushed.tunnel.id
    scene.gateway = back
    _, answer = await scene.open()
    assert answer.grant_id == pushed.tunnel.id
    assert answer.peer is not None
    assert answer.peer.public_key == back.session.hello.wireguard_public_key


async def test_a_gateway_that_only_lost_its_connection_changes_nothing_for_clients(
    plane: NetworkPlane, tenants: Tenants
) -> None:
    scene = await set_scene(plane, tenants.a)
    await scene.open()
    key = scene.gateway.session.hello.wireguard_public_key
    await scene.gateway.leave()
    await plane.connect(scene.gateway.session.agent, key=key)
    assert await scene.client.silent(GrantEnded)


async def test_the_grant_of_a_client_that_is_away_is_synced_without_a_key(
    plane: NetworkPlane, tenants: Tenants
) -> None:
    scene = await set_scene(plane, tenants.a)
    pushed, _ = await scene.open()
    await scene.client.leave()
    await scene.gateway.leave()
    synced = await (await plane.connect(scene.gateway.session.agent)).hear(Sync)
    assert [(one.id, one.peer_public_key) for one in synced.tunnels] == [(pushed.tunnel.id, "")]


async def test_a_gateway_that_stays_away_ends_its_grants(database: Database, tenants: Tenants) -> None:
    async with network_plane(database, offline_seconds=0.2) as plane:
        scene = await set_scene(plane, tenants.a)
        pushed, _ = await scene.open()
        await scene.gateway.leave()
        ended = await scene.client.hear(GrantEnded)
        assert (ended.grant_id, ended.reason) == (pushed.tunnel.id, "gateway-offline")
        assert await scene.state(pushed.tunnel.id) is GrantState.ENDED


async def test_the_gateway_that_carries_the_device_already_is_chosen_again(
    plane: NetworkPlane, tenants: Tenants
) -> None:
    scene = await set_scene(plane, tenants.a)
    await scene.open()
    await plane.connect(plane.enrol(tenants.a, AgentKind.GATEWAY, host=9))
    second = await plane.world.resource(tenants.a, "second")
    await plane.world.policy(tenants.a, "second for one", scene.subject.id, second.id)
    await scene.ask(second.id)
    assert (await scene.gateway.hear(OpenGrant)).tunnel.resource.id == second.id


async def test_receipts_are_recorded_once_and_from_the_right_gateway(plane: NetworkPlane, tenants: Tenants) -> None:
    scene, other = await set_scene(plane, tenants.a), await set_scene(plane, tenants.b)
    pushed, _ = await scene.open()
    now = time.time()
    receipt = Receipt(
        tenant_id=tenants.a, grant_id=pushed.tunnel.id, reason="expired", cut_at=now, last_byte_at=now, bytes_in=5
    )
    for _ in range(2):
        await scene.gateway.say(receipt)  # that it returns is what the channel acknowledges
    foreign = Receipt(tenant_id=tenants.b, grant_id=pushed.tunnel.id, reason="expired", cut_at=now)
    await other.gateway.say(foreign)
    async with plane.world.database.transaction(tenants.a) as tx:
        (count,) = await tx.fetch("SELECT count(*) AS n FROM receipts WHERE tenant_id = %s", (tenants.a,))
    async with plane.world.database.transaction(tenants.b) as tx:
        (none,) = await tx.fetch("SELECT count(*) AS n FROM receipts WHERE tenant_id = %s", (tenants.b,))
    assert (count["n"], none["n"]) == (1, 0)


@pytest.mark.row("N10")
async def test_tenants_do_not_meet(plane: NetworkPlane, tenants: Tenants) -> None:
    left, right = await set_scene(plane, tenants.a), await set_scene(plane, tenants.b)
    # The other tenant's resource looks like none at all.
    await left.ask(right.resource)
    foreign = await left.client.hear(AccessAnswer)
    await left.ask(new_id())
    unknown = await left.client.hear(AccessAnswer)
    assert (foreign.code, foreign.reason) == (unknown.code, unknown.reason) == ("not-found", unknown.reason)
    # The other tenant's gateway is never chosen, even when it is the only one.
    await left.gateway.leave()
    await left.ask()
    assert (await left.client.hear(AccessAnswer)).code == "no-gateway-online"
    assert await right.gateway.silent(OpenGrant)
    # A cut in one tenant reaches nobody in the other.
    pushed, _ = await right.open()
    await plane.administrator.suspend_person(SYSTEM, tenants.b, right.subject.id, "left")
    assert (await right.client.hear(GrantEnded)).grant_id == pushed.tunnel.id
    assert await left.client.silent(GrantEnded)


async def test_agents_that_say_too_little_are_turned_away(plane: NetworkPlane, tenants: Tenants) -> None:
    scene = await set_scene(plane, tenants.a)
    hello = scene.gateway.session.hello
    for lacking in ({"wireguard_public_key": ""}, {"listen_port": 0}, {"addresses": ()}):
        with pytest.raises(Malformed):
            await plane.gateways.connected(scene.gateway.session, msgspec.structs.replace(hello, **lacking))


async def test_a_client_cannot_ask_without_end(
    plane: NetworkPlane, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_SET_UPS", 1)
    scene = await set_scene(plane, tenants.a)
    await scene.ask()
    with pytest.raises(Unavailable):
        await scene.ask()
    await asyncio.sleep(0)
