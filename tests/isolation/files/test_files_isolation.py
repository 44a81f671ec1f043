"""Two tenants: every store method, every service, every message of the file agent."""

import asyncio
import json
from dataclasses import dataclass
from uuid import UUID

import asyncssh
import pytest

from limen.control.devices.service import AgentSession
from limen.control.files import store
from limen.control.files.model import Connection, Place, Provider, SftpUser, SignInClaim, SshKey
from limen.crypto import sealing
from limen.crypto.errors import Unreadable
from limen.db.database import Database
from limen.kernel.errors import LimenError, Malformed, NotFound
from limen.wire.agent import (
    Authenticate,
    AuthenticateAnswer,
    DoorEvent,
    Events,
    FileGrant,
    Opened,
    Receipt,
    Release,
    Sync,
    ToAgent,
)
from limen.wire.codec import decode
from tests.support.files import FilesWorld, hello
from tests.support.identity import TenantWorld

pytestmark = pytest.mark.row("T1")
KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode().strip()


@dataclass
class Side:
    """One tenant with one of everything; both tenants use the same names and the same key."""

    tenant: TenantWorld
    person: UUID
    connection: Connection
    user: SftpUser
    key: SshKey
    password: str


async def side(world: FilesWorld, slug: str) -> Side:
    tenant = await world.tenant(slug)
    person = await tenant.person("ana")
    connection = await world.connect(tenant, "share")
    user = await world.user(tenant, connection, person, "ana", jail="home")
    await world.allow(tenant, person, connection.id)
    actor = tenant.owner.actor
    key = await world.users.add_key(tenant.id, actor, user.id, KEY)
    password = await world.users.set_password(tenant.id, actor, user.id, None)
    return Side(tenant, person, connection, user, key, password)


@pytest.fixture
async def world(database: Database) -> FilesWorld:
    return FilesWorld(database)


@pytest.fixture
async def a(world: FilesWorld) -> Side:
    return await side(world, "acme")


@pytest.fixture
async def b(world: FilesWorld, a: Side) -> Side:
    return await side(world, "bolt")


async def grant_of(world: FilesWorld, one: Side) -> FileGrant:
    claim = SignInClaim(one.connection.slug, "ana", "192.0.2.1", public_key=KEY)
    answer = await world.sign_in.authenticate(world.agent.id, claim)
    assert answer.grant is not None
    assert answer.tenant_id == one.tenant.id
    return answer.grant


async def test_every_store_method_sees_its_own_tenant_only(world: FilesWorld, a: Side, b: Side) -> None:
    async with world.database.transaction(a.tenant.id) as tx:
        assert [one.id for one in await store.connections(tx)] == [a.connection.id]
        assert await store.connection(tx, b.connection.id) is None
        assert await store.credential(tx, b.connection.id) is None
        assert not await store.set_credential(tx, b.connection.id, b"stolen")
        assert [one.id for one in await store.users(tx)] == [a.user.id]
        assert await store.users(tx, b.connection.id) == []
        assert await store.user(tx, b.user.id) is None
        assert await store.user_named(tx, b.connection.id, "ana") is None
        assert not await store.set_password(tx, b.user.id, None)
        assert await store.keys(tx, b.user.id) == []
        assert await store.key(tx, b.user.id, b.key.fingerprint) is None
        assert not await store.delete_key(tx, b.user.id, b.key.id)
        assert not await store.delete_user(tx, b.user.id)
    async with world.database.transaction(b.tenant.id) as tx:
        found = await store.user(tx, b.user.id)
        assert found is not None
        assert found.password_hash is not None
        assert len(await store.keys(tx, b.user.id)) == 1


async def test_every_service_answers_not_found_for_the_other_tenant(world: FilesWorld, a: Side, b: Side) -> None:
    mine, actor = a.tenant.id, a.tenant.owner.actor
    for attempt in (
        world.connections.set_credential(mine, actor, b.connection.id, b"x"),
        world.connections.remove(mine, actor, b.connection.id),
        world.user(a.tenant, b.connection, a.person, "eve"),
        world.user(a.tenant, a.connection, b.person, "eve"),
        world.users.remove(mine, actor, b.user.id),
        world.users.set_password(mine, actor, b.user.id, None),
        world.users.clear_password(mine, actor, b.user.id),
        world.users.add_key(mine, actor, b.user.id, KEY),
        world.users.keys(mine, b.user.id),
        world.users.remove_key(mine, actor, b.user.id, b.key.id),
        world.users.remove_key(mine, actor, a.user.id, b.key.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [one.id for one in await world.connections.list_all(mine)] == [a.connection.id]
    assert await world.users.list_all(mine, b.connection.id) == []


@pytest.mark.row("F4")
async def test_the_same_user_name_and_key_lead_each_to_its_own_tenant(world: FilesWorld, a: Side, b: Side) -> None:
    assert a.connection.slug != b.connection.slug
    first, second = await grant_of(world, a), await grant_of(world, b)
    assert first.id != second.id
    assert first.target.connection_id == a.connection.id
    assert second.target.connection_id == b.connection.id
    wrong = SignInClaim(b.connection.slug, "ana", "192.0.2.1", password=a.password)
    assert not (await world.sign_in.authenticate(world.agent.id, wrong)).allowed
    right = SignInClaim(b.connection.slug, "ana", "192.0.2.1", password=b.password)
    assert (await world.sign_in.authenticate(world.agent.id, right)).tenant_id == b.tenant.id


async def test_messages_about_another_tenants_grant_are_a_violation(world: FilesWorld, a: Side, b: Side) -> None:
    grant = await grant_of(world, b)
    session = AgentSession(world.agent, hello(world.agent))
    await world.agents.connected(session, session.hello)
    event = DoorEvent(grant_id=grant.id, action="files.object.put", outcome="ok", at=0.0, path="/x")
    for message in (
        Release(tenant_id=a.tenant.id, grant_id=grant.id),
        Receipt(tenant_id=a.tenant.id, grant_id=grant.id, reason="closed", cut_at=1.0),
        Events(tenant_id=a.tenant.id, batch=1, events=(event,)),
    ):
        with pytest.raises(NotFound):
            await world.agents.received(session, message)
    with pytest.raises(Malformed):
        await world.agents.received(session, Opened(tenant_id=b.tenant.id, grant_id=grant.id))
    assert ("files.object.put", "ok") not in await world.actions_of(a.tenant)
    assert ("files.object.put", "ok") not in await world.actions_of(b.tenant)
    await world.agents.received(session, Events(tenant_id=b.tenant.id, batch=2, events=(event,)))
    assert ("files.object.put", "ok") in await world.actions_of(b.tenant)
    await world.agents.disconnected(session)


async def test_another_agent_cannot_speak_for_a_grant(world: FilesWorld, a: Side) -> None:
    grant = await grant_of(world, a)
    other = FilesWorld(world.database).agent
    session = AgentSession(other, hello(other))
    await world.agents.connected(session, session.hello)
    event = DoorEvent(grant_id=grant.id, action="files.object.put", outcome="ok", at=0.0)
    for message in (
        Release(tenant_id=a.tenant.id, grant_id=grant.id),
        Receipt(tenant_id=a.tenant.id, grant_id=grant.id, reason="closed", cut_at=1.0),
        Events(tenant_id=a.tenant.id, batch=1, events=(event,)),
    ):
        with pytest.raises(NotFound):
            await world.agents.received(session, message)
    await world.agents.disconnected(session)


@pytest.mark.parametrize("action", ["vault.secret.read", "files.session.sign-in", "x", ""])
async def test_an_agent_cannot_write_other_events(world: FilesWorld, a: Side, action: str) -> None:
    grant = await grant_of(world, a)
    session = AgentSession(world.agent, hello(world.agent))
    await world.agents.connected(session, session.hello)
    event = DoorEvent(grant_id=grant.id, action=action, outcome="ok", at=0.0)
    with pytest.raises(Malformed):
        await world.agents.received(session, Events(tenant_id=a.tenant.id, batch=1, events=(event,)))
    await world.agents.disconnected(session)


async def test_sync_names_the_live_grants_of_each_tenant(world: FilesWorld, a: Side, b: Side) -> None:
    first, second = await grant_of(world, a), await grant_of(world, b)
    await world.administrator.revoke_grant(b.tenant.owner.actor, b.tenant.id, second.id, "test")
    session = AgentSession(world.agent, hello(world.agent))
    await world.agents.connected(session, session.hello)
    sync = decode(await session.next_outgoing() or b"", ToAgent)
    assert isinstance(sync, Sync)
    assert (sync.tenant_id, sync.files) == (a.tenant.id, (first.id,))
    await world.agents.received(
        session,
        Authenticate(request_id=9, connection=a.connection.slug, user="ana", source="192.0.2.1", public_key=KEY),
    )
    answer = decode(await asyncio.wait_for(session.next_outgoing(), 5) or b"", ToAgent)
    assert isinstance(answer, AuthenticateAnswer)
    assert answer.grant is not None
    assert answer.grant.id == first.id  # the live grant is handed out again
    await world.agents.disconnected(session)


@pytest.mark.row("F3")
async def test_a_credential_opens_for_its_own_place_only(world: FilesWorld, a: Side, b: Side) -> None:
    bucket = await world.connect(a.tenant, "bucket", Place(Provider.S3, bucket="my-bucket"))
    plain = json.dumps({"access_key_id": "AK", "secret_access_key": "SECRET"}).encode()
    public = await world.connections.intake_key(a.tenant.id)
    for wrong in (
        sealing.context("intake", b.tenant.id, bucket.id),
        sealing.context("intake", a.tenant.id, a.connection.id),
    ):
        with pytest.raises(LimenError):
            await world.connections.set_credential(
                a.tenant.id, a.tenant.owner.actor, bucket.id, sealing.seal_to(public, plain, wrong)
            )
    await world.give_credential(a.tenant, bucket, "AK", "SECRET")
    user = await world.user(a.tenant, bucket, a.person, "ana")
    await world.users.add_key(a.tenant.id, a.tenant.owner.actor, user.id, KEY)
    await world.allow(a.tenant, a.person, bucket.id)
    claim = SignInClaim(bucket.slug, "ana", "192.0.2.1", public_key=KEY)
    grant = (await world.sign_in.authenticate(world.agent.id, claim)).grant
    assert grant is not None
    assert grant.target.credential is not None
    blob = grant.target.credential.blob
    right = sealing.context("storage", a.tenant.id, bucket.id, grant.id)
    assert sealing.open_sealed(world.agent_key, blob, right) == plain
    for wrong in (
        sealing.context("storage", b.tenant.id, bucket.id, grant.id),
        sealing.context("storage", a.tenant.id, bucket.id, a.connection.id),
    ):
        with pytest.raises(Unreadable):
            sealing.open_sealed(world.agent_key, blob, wrong)


async def test_removing_a_connection_takes_its_users_and_its_slug(world: FilesWorld, a: Side, b: Side) -> None:
    await grant_of(world, a)
    await world.connections.remove(a.tenant.id, a.tenant.owner.actor, a.connection.id)
    assert await world.users.list_all(a.tenant.id) == []
    claim = SignInClaim(a.connection.slug, "ana", "192.0.2.1", public_key=KEY)
    assert not (await world.sign_in.authenticate(world.agent.id, claim)).allowed
    async with world.database.transaction(a.tenant.id) as tx:
        assert await world.ledger.live(tx, resources=[a.connection.id]) == []
    await grant_of(world, b)


@pytest.mark.row("T6")
async def test_no_name_jail_password_or_network_lies_in_clear(world: FilesWorld, a: Side) -> None:
    await world.user(a.tenant, a.connection, a.person, "marguerite", jail="private-folder", sources=["203.0.113.0/24"])
    async with world.database.transaction(a.tenant.id) as tx:
        rows = [
            *await tx.fetch("SELECT * FROM sftp_users WHERE tenant_id = %s", [a.tenant.id]),
            *await tx.fetch("SELECT * FROM ssh_keys WHERE tenant_id = %s", [a.tenant.id]),
        ]
    text = repr(rows)
    for planted in ("marguerite", "private-folder", "203.0.113", a.password):
        assert planted not in text
