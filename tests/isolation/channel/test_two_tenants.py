"""Every agent message against two tenants, over the real channel; and certificates that say another name."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from limen.edge.channel import AgentRefused, Identity, load_identity
from limen.edge.channel.identity import write_private
from limen.wire import agent as wire
from limen.wire.agent import AgentKind, AppliedVersion, RefuseCode, Sync
from tests.support.agent_plane import (
    Edge,
    Plane,
    hear,
    hello_from,
    raw_channel,
    refusal,
    running_channel,
    say,
    until,
    welcomed,
)
from tests.support.agents import a_change
from tests.support.postgres import Tenants

pytestmark = pytest.mark.row("T1")

GATEWAY, CLIENT, SFTP = AgentKind.GATEWAY, AgentKind.CLIENT, AgentKind.SFTP
GRANT = UUID(int=40)


def naming(tenant_id: UUID) -> list[Any]:
    """Every message of agents that names a tenant."""
    return [
        wire.Heartbeat(now=_now(), applied=(AppliedVersion(tenant_id=tenant_id, version=1),)),
        wire.Opened(tenant_id=tenant_id, grant_id=GRANT),
        wire.Applied(tenant_id=tenant_id, version=1),
        wire.Receipt(tenant_id=tenant_id, grant_id=GRANT, reason="expired", cut_at=1.0),
        wire.Events(tenant_id=tenant_id, batch=1, events=()),
        wire.Release(tenant_id=tenant_id, grant_id=GRANT),
    ]


def _now() -> float:
    from datetime import UTC, datetime

    return datetime.now(UTC).timestamp()


def test_the_list_is_complete() -> None:
    named = {
        kind
        for kind in wire.FromAgent.__args__  # type: ignore[attr-defined]
        if "tenant_id" in kind.__struct_fields__ or "applied" in kind.__struct_fields__
    }
    assert {type(message) for message in naming(GRANT)} == named


@pytest.mark.parametrize("kind", [GATEWAY, CLIENT])
async def test_no_message_reaches_another_tenant(plane: Plane, tenants: Tenants, kind: AgentKind) -> None:
    """One connection for each message; in the other tenant an agent is connected and hears nothing."""
    identity, theirs, edge = await plane.agent(tenants.a, kind), await plane.agent(tenants.b, kind), Edge()
    async with running_channel(theirs, edge):
        await until(lambda: edge.count("lease") >= 1)
        heard = len(edge.log)
        for message in naming(tenants.b):
            async with raw_channel(identity) as socket:
                await welcomed(socket, identity)
                await say(socket, message)
                answer = await refusal(socket)
                assert answer.code == RefuseCode.DENIED, message
                assert str(tenants.b) not in answer.message
            await until(lambda: plane.hub.session(identity.agent_id) is None)
        assert plane.rooms[kind].messages() == []
        assert len(edge.log) == heard


async def test_changes_of_another_tenant_are_not_told(plane: Plane, tenants: Tenants) -> None:
    """Not even a change that (wrongly) names this tenant's agent."""
    identity = await plane.agent(tenants.a)
    async with raw_channel(identity) as socket:
        await welcomed(socket, identity)
        assert isinstance(await hear(socket), Sync)
        plane.hub.dispatch(a_change(5, tenant_id=tenants.b, ended=[(GRANT, identity.agent_id)]))
        plane.hub.dispatch(a_change(2, tenant_id=tenants.a))
        message = await hear(socket)
        assert (message.tenant_id, message.version) == (tenants.a, 2)


@pytest.mark.parametrize("what", ["tenant", "agent", "kind", "key", "platform"])
async def test_a_certificate_opens_only_what_it_was_made_for(plane: Plane, tenants: Tenants, what: str) -> None:
    """Certificates that our own authority really signed, for the wrong tenant, agent, kind or key: what a
    compromised caller of keyd could get. The record decides."""
    identity, other = await plane.agent(tenants.a), await plane.agent(tenants.b)
    await plane.keyd.remove_agent(identity.agent_id)
    forged = await _certificate(plane, tenants, identity, other, what)
    write_private(identity.certificate_path, forged)
    claimed = {
        "agent": hello_from(identity, agent_id=other.agent_id),
        "kind": hello_from(identity, kind=CLIENT),
        "platform": hello_from(identity, kind=SFTP),
    }.get(what, hello_from(identity))
    for hello in (claimed, hello_from(identity)):
        async with raw_channel(identity) as socket:
            await say(socket, hello)
            assert (await refusal(socket)).code == RefuseCode.IDENTITY
    assert all(room.log == [] for room in plane.rooms.values())


async def _certificate(plane: Plane, tenants: Tenants, identity: Identity, other: Identity, what: str) -> bytes:
    """Issued by the real authority, past keyd's own records."""
    tenant_id, kind, agent_id = tenants.a, GATEWAY, identity.agent_id
    key = identity.public_key
    if what == "tenant":
        tenant_id = tenants.b
    elif what == "agent":
        tenant_id, agent_id = tenants.b, other.agent_id
    elif what == "kind":
        kind = CLIENT
    elif what == "platform":
        issued = plane.custodian._agents.issue_agent(None, SFTP, agent_id, key, plane.clock.now())
        return issued.pem
    else:
        fresh = await plane.agent(tenants.a)
        write_private(identity.key_path, fresh.key_path.read_bytes())
        key = fresh.public_key
    return plane.custodian._agents.issue_agent(tenant_id, kind, agent_id, key, plane.clock.now()).pem


async def test_a_stolen_name_does_not_help(plane: Plane, tenants: Tenants) -> None:
    """An agent that says it is another one, with its own good certificate."""
    identity, other = await plane.agent(tenants.a), await plane.agent(tenants.b)
    thief = replace(load_identity(identity.directory), agent=other.agent)
    async with running_channel(thief, Edge()) as (_, task):
        with pytest.raises(AgentRefused, match="does not belong") as caught:
            await task
    assert caught.value.reason == RefuseCode.IDENTITY
    actions = await plane.audit_actions(tenants.a)
    assert actions[-1] == ("devices.agent.refuse", "denied")
    assert ("devices.agent.refuse", "denied") not in await plane.audit_actions(tenants.b)
