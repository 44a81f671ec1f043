"""The hub: who hears of what, and who replaces whom."""

import asyncio
from uuid import UUID

import pytest

from limen.control.devices.service import AgentHub, AgentSession
from limen.control.devices.service import hub as hub_module
from limen.kernel.errors import Unavailable
from limen.kernel.facts import Fact, FactKind
from limen.wire.agent import AgentKind, RefuseCode
from tests.support.agents import OTHER_TENANT, TENANT, a_change, an_agent, hello_of

GATEWAY, CLIENT, SFTP = AgentKind.GATEWAY, AgentKind.CLIENT, AgentKind.SFTP
GRANT = UUID(int=40)


def make(kind: AgentKind, number: int, tenant_id: UUID = TENANT) -> AgentSession:
    agent = an_agent(kind, tenant_id=tenant_id, agent_id=UUID(int=number))
    return AgentSession(agent, hello_of(agent))


async def entered(hub: AgentHub, *sessions: AgentSession) -> None:
    for session in sessions:
        await hub.enter(session)


def heard(session: AgentSession) -> list[int]:
    return [change.version for change in session._changes]


@pytest.mark.row("T1")
async def test_changes_go_to_their_tenant_and_to_the_platform_agents_they_cut() -> None:
    hub = AgentHub(lambda: True)
    gateway, client, foreign = make(GATEWAY, 1), make(CLIENT, 2), make(GATEWAY, 3, OTHER_TENANT)
    files, idle = make(SFTP, 4), make(SFTP, 5)
    await entered(hub, gateway, client, foreign, files, idle)
    hub.dispatch(a_change(1))
    hub.dispatch(a_change(2, ended=[(GRANT, gateway.agent.id), (GRANT, files.agent.id)]))
    hub.dispatch(a_change(7, tenant_id=OTHER_TENANT, ended=[(GRANT, files.agent.id), (GRANT, gateway.agent.id)]))
    assert heard(gateway) == [1, 2]
    assert heard(client) == [1, 2]
    assert heard(foreign) == [7]
    assert heard(files) == [2, 7]
    assert heard(idle) == []


async def test_a_changed_device_is_looked_at_again_in_its_own_tenant_only() -> None:
    hub, seen = AgentHub(lambda: True), []
    hub.on_device_changed(seen.append)
    mine, foreign = make(GATEWAY, 1), make(GATEWAY, 3, OTHER_TENANT)
    await entered(hub, mine, foreign)
    devices = [Fact(FactKind.DEVICE, mine.agent.id), Fact(FactKind.DEVICE, foreign.agent.id)]
    hub.dispatch(a_change(1, facts=[*devices, Fact(FactKind.PERSON, UUID(int=1))]))
    assert seen == [mine]


async def test_lookups_are_by_kind_and_tenant_and_live_only() -> None:
    hub = AgentHub(lambda: True)
    second, first, client, files = make(GATEWAY, 2), make(GATEWAY, 1), make(CLIENT, 3), make(SFTP, 4)
    await entered(hub, second, first, client, files)
    assert hub.sessions(GATEWAY, TENANT) == [first, second]
    assert hub.sessions(SFTP, None) == [files]
    assert hub.sessions(SFTP, TENANT) == []
    assert hub.sessions(GATEWAY, OTHER_TENANT) == []
    first.finish()
    assert hub.session(first.agent.id) is None
    assert hub.sessions(GATEWAY, TENANT) == [second]


async def test_the_newer_waits_until_the_older_is_done() -> None:
    hub = AgentHub(lambda: True)
    old, new = make(GATEWAY, 1), make(GATEWAY, 1)
    await hub.enter(old)
    entering = asyncio.create_task(hub.enter(new))
    await asyncio.sleep(0)
    assert hub.session(old.agent.id) is new  # changes are queued for it from now on
    assert old.refusal is not None
    assert old.refusal.code == RefuseCode.REPLACED
    assert not entering.done()
    hub.dispatch(a_change(3))
    hub.leave(old)
    old.ended.set()
    await entering
    assert heard(new) == [3]
    assert heard(old) == []
    assert hub.session(new.agent.id) is new


async def test_an_older_one_that_hangs_does_not_let_two_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "REPLACE_WAIT_SECONDS", 0.01)
    hub = AgentHub(lambda: True)
    await hub.enter(make(GATEWAY, 1))
    with pytest.raises(Unavailable):
        await hub.enter(make(GATEWAY, 1))


async def test_leaving_does_not_put_the_successor_out() -> None:
    hub = AgentHub(lambda: True)
    old, new = make(GATEWAY, 1), make(GATEWAY, 1)
    await hub.enter(old)
    old.ended.set()
    await hub.enter(new)
    hub.leave(old)
    hub.leave(old)
    assert hub.session(new.agent.id) is new
    hub.leave(new)
    assert hub._by_tenant == {}


async def test_no_lease_without_the_feed_or_after_the_end() -> None:
    current = True
    hub = AgentHub(lambda: current)
    assert hub.may_renew()
    current = False
    assert not hub.may_renew()
    current = True
    await hub.shut()
    assert not hub.may_renew()
    with pytest.raises(Unavailable):
        await hub.enter(make(GATEWAY, 1))


def test_one_room_per_kind() -> None:
    hub = AgentHub(lambda: True)
    with pytest.raises(Unavailable):
        hub.handler(GATEWAY)
    room = object()
    hub.register(GATEWAY, room)  # type: ignore[arg-type]
    assert hub.handler(GATEWAY) is room
    with pytest.raises(ValueError, match="already"):
        hub.register(GATEWAY, room)  # type: ignore[arg-type]


async def test_disconnecting_who_is_not_there() -> None:
    hub = AgentHub(lambda: True)
    hub.disconnect(UUID(int=1), RefuseCode.REMOVED, "gone")
    session = make(GATEWAY, 1)
    await hub.enter(session)
    hub.disconnect(session.agent.id, RefuseCode.REMOVED, "gone")
    assert session.over.is_set()
