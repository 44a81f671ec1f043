"""Every use case and store function of the devices room, asked by one tenant for what is another's."""

from dataclasses import replace
from uuid import UUID

import pytest

from limen.control.devices.model import AgentState
from limen.control.devices.store import tenant as store
from limen.kernel.errors import NotFound
from limen.kernel.ids import new_id
from limen.kernel.principal import Role
from limen.wire.agent import AgentKind
from limen.wire.enrolment import parse_token
from tests.support.agent_plane import Plane
from tests.support.agents import an_agent
from tests.support.postgres import Tenants

pytestmark = pytest.mark.row("T1")


async def test_agents_of_another_tenant_are_not_there(plane: Plane, tenants: Tenants) -> None:
    mine, theirs = await plane.agent(tenants.a), await plane.agent(tenants.b)
    owner = await plane.person(tenants.a, Role.OWNER)
    assert [agent.id for agent in await plane.registry.list_agents(owner)] == [mine.agent_id]
    assert await plane.registry.find(tenants.a, theirs.agent_id) is None
    assert await plane.registry.find(None, theirs.agent_id) is None
    with pytest.raises(NotFound):
        await plane.registry.remove_agent(owner, theirs.agent_id)
    found = await plane.registry.find(tenants.b, theirs.agent_id)
    assert found is not None
    assert found.state is AgentState.ACTIVE


async def test_over_http_another_tenants_agent_looks_like_none(plane: Plane, tenants: Tenants) -> None:
    theirs = await plane.agent(tenants.b)
    owner = await plane.person(tenants.a)
    async with plane.client(owner) as http:
        foreign = await http.delete(f"/api/v1/agents/{theirs.agent_id}")
        unknown = await http.delete(f"/api/v1/agents/{UUID(int=7)}")
        assert (foreign.status_code, foreign.json()) == (unknown.status_code, unknown.json())
        assert foreign.status_code == 404
        assert (await http.get("/api/v1/agents")).json() == {"agents": []}


async def test_operators_do_not_see_agents_of_tenants_nor_owners_those_of_the_platform(
    plane: Plane, tenants: Tenants
) -> None:
    await plane.agent(tenants.a)
    files = await plane.agent(None, AgentKind.SFTP)
    operator, owner = await plane.operator(), await plane.person(tenants.a)
    assert [agent.id for agent in await plane.registry.list_agents(operator)] == [files.agent_id]
    with pytest.raises(NotFound):
        await plane.registry.remove_agent(owner, files.agent_id)
    mine = (await plane.registry.list_agents(owner))[0]
    with pytest.raises(NotFound):
        await plane.registry.remove_agent(operator, mine.id)


async def test_store_functions_keep_to_their_tenant(plane: Plane, tenants: Tenants) -> None:
    theirs = await plane.agent(tenants.b)
    token = parse_token(await plane.token(tenants.b))
    now = plane.clock.now()
    async with plane.database.transaction(tenants.a) as tx:
        assert await store.find_agent(tx, theirs.agent_id) is None
        assert await store.list_agents(tx, None) == []
        assert not await store.mark_removed(tx, theirs.agent_id, now)
        await store.mark_seen(tx, theirs.agent_id, "forged", now)
        assert await store.find_token(tx, token.token_id) is None
        assert await store.spend_token(tx, token.token_id, token.kind, token.secret_hash, now) is None
        assert await store.take_tunnel_host(tx) == 1  # its own pool
    async with plane.database.transaction(tenants.b) as tx:
        found = await store.find_agent(tx, theirs.agent_id)
        assert found is not None
        assert found.software != "forged"
        assert await store.spend_token(tx, token.token_id, token.kind, token.secret_hash, now) is not None


async def test_the_database_refuses_a_person_of_another_tenant(plane: Plane, tenants: Tenants) -> None:
    """Composite keys: no agent of one tenant can belong to a person of another."""
    person = await plane.person(tenants.b)
    agent = replace(an_agent(AgentKind.CLIENT), id=new_id(), tenant_id=tenants.a, person_id=person.person_id)
    with pytest.raises(Exception, match=r"(?i)constraint|refers|foreign|not possible|database"):
        async with plane.database.transaction(tenants.a) as tx:
            await store.insert_agent(tx, agent, 7)
    async with plane.database.transaction(tenants.a) as tx:
        assert await store.find_agent(tx, agent.id) is None


async def test_a_token_with_another_tenants_name_on_it(plane: Plane, tenants: Tenants) -> None:
    import msgspec

    from limen.edge.channel import enrol

    text = await plane.token(tenants.a)
    forged = msgspec.structs.replace(parse_token(text), tenant_id=tenants.b).text()
    with pytest.raises(NotFound):
        await enrol(forged, plane.directory / "forged", AgentKind.GATEWAY)
    await enrol(text, plane.directory / "good", AgentKind.GATEWAY)
    assert await plane.audit_actions(tenants.b) == []
