"""One session: order, bounds, no resurrection, one tenant."""

import asyncio
from uuid import UUID

import pytest

from limen.control.devices.errors import Refused
from limen.control.devices.service import session as session_module
from limen.control.devices.service.session import AgentSession
from limen.kernel.errors import Conflict, Unavailable
from limen.wire.agent import (
    AgentKind,
    AppliedVersion,
    AuthenticateAnswer,
    BucketTarget,
    CloseGrants,
    FileGrant,
    HeartbeatAck,
    ReceiptAck,
    RefuseCode,
    Sync,
    ToAgent,
)
from limen.wire.codec import decode
from tests.support.agents import (
    OTHER_TENANT,
    TENANT,
    a_change,
    an_agent,
    close_of,
    hello_of,
    open_of,
)

GRANT = UUID(int=40)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(kind: AgentKind = AgentKind.GATEWAY, clock: Clock | None = None) -> AgentSession:
    agent = an_agent(kind)
    return AgentSession(agent, hello_of(agent), steady=clock or Clock())


async def outgoing(session: AgentSession, count: int) -> list[object]:
    found = []
    for _ in range(count):
        data = await session.next_outgoing()
        assert data is not None
        found.append(decode(data, ToAgent))
    return found


async def test_messages_leave_in_order() -> None:
    session = make()
    sent = [Sync(tenant_id=TENANT, version=1), open_of(GRANT, 1), CloseGrants(tenant_id=TENANT, version=2)]
    for message in sent:
        await session.send(message)
    assert await outgoing(session, 3) == sent


async def test_waiting_writer_wakes() -> None:
    session = make()
    waiting = asyncio.create_task(session.next_outgoing())
    await asyncio.sleep(0)
    await session.send(HeartbeatAck(now=0.0, lease_seconds=1.0))
    assert await waiting is not None


async def test_closing_discards_the_queue_and_says_why() -> None:
    session = make()
    await session.send(Sync(tenant_id=TENANT, version=1))
    session.close(RefuseCode.REMOVED, "gone", fix="enrol")
    session.close(RefuseCode.SLOW, "later reasons do not count")
    assert await session.next_outgoing() is None
    assert session.refusal is not None
    assert session.refusal.code == "removed"
    with pytest.raises(Unavailable):
        await session.send(Sync(tenant_id=TENANT, version=2))


async def test_an_agent_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_QUEUED_MESSAGES", 3)
    session = make()
    for _ in range(3):
        await session.send(HeartbeatAck(now=0.0, lease_seconds=1.0))
    with pytest.raises(Unavailable):
        await session.send(HeartbeatAck(now=0.0, lease_seconds=1.0))
    assert session.refusal is not None
    assert session.refusal.code == "slow"


async def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_QUEUED_BYTES", 100)
    session = make()
    await session.send(HeartbeatAck(now=0.0, lease_seconds=1.0))
    with pytest.raises(Unavailable):
        await session.send(HeartbeatAck(now=0.0, lease_seconds=1.0))
    assert session.over.is_set()


@pytest.mark.row("T1")
async def test_no_message_of_another_tenant_leaves() -> None:
    session = make()
    for message in (
        Sync(tenant_id=OTHER_TENANT, version=1),
        CloseGrants(tenant_id=OTHER_TENANT, version=1),
        open_of(GRANT, 1, OTHER_TENANT),
        ReceiptAck(tenant_id=OTHER_TENANT, grant_id=GRANT),
    ):
        with pytest.raises(Refused):
            await session.send(message)
    assert session.is_current(())


async def test_a_platform_agent_is_told_of_many_tenants() -> None:
    session = make(AgentKind.SFTP)
    await session.send(Sync(tenant_id=TENANT, version=1))
    await session.send(Sync(tenant_id=OTHER_TENANT, version=5))
    assert len(await outgoing(session, 2)) == 2


async def test_an_ended_grant_cannot_be_opened_late() -> None:
    """The request decided on version 4, the suspension committed as 5 and arrived first."""
    session = make()
    await session.send(Sync(tenant_id=TENANT, version=4))
    session.enqueue(a_change(5, ended=[(GRANT, session.agent.id)]))
    with pytest.raises(Conflict):
        await session.send(open_of(GRANT, 4))
    await session.send(open_of(UUID(int=41), 4))


async def test_a_sign_in_with_an_ended_grant_is_refused_late() -> None:
    session = make(AgentKind.SFTP)
    grant = FileGrant(
        id=GRANT,
        number=1,
        expires_at=1.0,
        actions=(),
        jail="",
        target=BucketTarget(connection_id=GRANT, provider="local"),
    )
    answer = AuthenticateAnswer(request_id=3, allowed=True, tenant_id=TENANT, grant=grant)
    await session.send(answer)
    session.enqueue(a_change(5, ended=[(GRANT, session.agent.id)]))
    await session.send(answer)
    assert await outgoing(session, 2) == [answer, AuthenticateAnswer(request_id=3, allowed=False)]


async def test_ended_grants_are_forgotten_after_a_while() -> None:
    clock = Clock()
    session = make(clock=clock)
    session.enqueue(a_change(5, ended=[(GRANT, session.agent.id)]))
    clock.now = session_module.CLOSED_GRANTS_REMEMBERED_SECONDS - 1
    session.enqueue(a_change(6, ended=[(UUID(int=41), session.agent.id)]))
    with pytest.raises(Conflict):
        await session.send(open_of(GRANT, 4))
    clock.now += 1
    session.enqueue(a_change(7, ended=[(UUID(int=42), session.agent.id)]))
    await session.send(open_of(GRANT, 4))


async def test_a_cut_counts_before_it_is_written() -> None:
    """From the moment the change is known, the agent is behind, however slow the handler is."""
    session = make()
    await session.send(Sync(tenant_id=TENANT, version=4))
    assert session.is_current((AppliedVersion(tenant_id=TENANT, version=4),))
    change = a_change(5, ended=[(GRANT, session.agent.id)])
    session.enqueue(change)
    assert not session.is_current((AppliedVersion(tenant_id=TENANT, version=4),))
    assert not session.is_current((AppliedVersion(tenant_id=TENANT, version=5),))
    await session.send(close_of(change))
    assert session.is_current((AppliedVersion(tenant_id=TENANT, version=5),))


async def test_a_change_for_other_agents_does_not_hold_this_one_up() -> None:
    session = make()
    await session.send(Sync(tenant_id=TENANT, version=4))
    session.enqueue(a_change(5, ended=[(GRANT, UUID(int=77))]))
    assert session.is_current((AppliedVersion(tenant_id=TENANT, version=4),))


async def test_changes_within_the_sync_are_not_handled_again() -> None:
    session = make()
    for version in (3, 4, 5):
        session.enqueue(a_change(version))
    await session.send(Sync(tenant_id=TENANT, version=4))
    assert (await session.next_change()).version == 5
    waiting = asyncio.create_task(session.next_change())
    await asyncio.sleep(0)
    session.enqueue(a_change(6))
    assert (await waiting).version == 6


async def test_too_many_changes_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_QUEUED_CHANGES", 2)
    session = make()
    for version in range(3):
        session.enqueue(a_change(version))
    assert session.refusal is not None
    assert session.refusal.code == "slow"
