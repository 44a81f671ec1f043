"""Row I2: one test per cause that ends a session. Each first shows that the session works."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import pytest

from limen.control.identity.errors import SessionEnded
from limen.control.identity.model import IssuedSession
from limen.control.identity.rules import SESSION_LIFETIME
from limen.db.database import Database
from limen.kernel.errors import NotFound, Unauthenticated
from limen.kernel.principal import Principal, Role
from tests.support.identity import PASSWORD, SOURCE, IdentityWorld, TenantWorld


class Scene(NamedTuple):
    """Ada, a member of acme, with two sessions; bystanders in acme and in another tenant."""

    acme: TenantWorld
    ada: UUID
    session: IssuedSession
    other: IssuedSession
    bystanders: tuple[IssuedSession, IssuedSession]

    @property
    def who(self) -> Principal:
        return Principal(self.acme.id, self.ada, self.session.session_id, Role.MEMBER, SOURCE)

    async def alive(self, session: IssuedSession) -> bool:
        try:
            await self.acme.world.identity.check_session(session.token, SOURCE)
        except SessionEnded:
            return False
        return True


@pytest.fixture
async def scene(database: Database) -> Scene:
    world = IdentityWorld(database)
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    ada = await acme.person("ada")
    await acme.person("bob")
    await globex.person("ada")
    scene = Scene(
        acme,
        ada,
        await acme.sign_in("ada"),
        await acme.sign_in("ada"),
        (await acme.sign_in("bob"), await globex.sign_in("ada")),
    )
    for session in (scene.session, scene.other, *scene.bystanders):
        assert await scene.alive(session)
    return scene


async def sign_out(scene: Scene) -> None:
    await scene.acme.world.identity.sessions.sign_out(scene.who)


async def end_by_admin(scene: Scene) -> None:
    await scene.acme.world.identity.sessions.end(scene.acme.owner, scene.session.session_id)


async def revoke_the_grant(scene: Scene) -> None:
    async with scene.acme.world.database.transaction(scene.acme.id) as tx:
        row = await tx.fetch_one(
            "SELECT id FROM grants WHERE tenant_id = %s AND credential_id = %s",
            (scene.acme.id, scene.session.session_id),
        )
    assert row is not None
    administrator = scene.acme.world.administrator
    await administrator.revoke_grant(scene.acme.owner.actor, scene.acme.id, row["id"], "looked odd")


async def change_role(scene: Scene) -> None:
    await scene.acme.world.identity.directory.set_role(scene.acme.owner, scene.ada, Role.AUDITOR)


async def remove(scene: Scene) -> None:
    await scene.acme.world.identity.directory.remove_person(scene.acme.owner, scene.ada)


async def reset(scene: Scene) -> None:
    identity = scene.acme.world.identity
    token = await identity.directory.reset_link(scene.acme.owner, scene.ada)
    await identity.passwords.set_up(token, "another lamp beside the door", SOURCE)


async def suspend(scene: Scene) -> None:
    await scene.acme.world.administrator.suspend_person(scene.acme.owner.actor, scene.acme.id, scene.ada, "lost laptop")


async def drop_sign_in_policy(scene: Scene) -> None:
    """Not for one person: everybody of the tenant loses the console."""
    async with scene.acme.world.database.transaction(scene.acme.id) as tx:
        await tx.execute("DELETE FROM policies WHERE tenant_id = %s", (scene.acme.id,))
        from limen.kernel.facts import Fact, FactKind

        tx.fact_changed(Fact(FactKind.POLICY, scene.acme.id))


Cause = Callable[[Scene], Awaitable[None]]


@pytest.mark.row("I2")
@pytest.mark.parametrize("cause", [change_role, remove, reset, suspend], ids=lambda cause: cause.__name__)
async def test_ends_every_session_of_the_person_and_nobody_elses(scene: Scene, cause: Cause) -> None:
    await cause(scene)
    assert not await scene.alive(scene.session)
    assert not await scene.alive(scene.other)
    for session in scene.bystanders:
        assert await scene.alive(session)
    assert await live_grants(scene, scene.session, scene.other) == 0


@pytest.mark.row("I2")
@pytest.mark.parametrize("cause", [sign_out, end_by_admin], ids=lambda cause: cause.__name__)
async def test_ends_just_this_session(scene: Scene, cause: Cause) -> None:
    await cause(scene)
    assert not await scene.alive(scene.session)
    assert await scene.alive(scene.other)
    for session in scene.bystanders:
        assert await scene.alive(session)
    assert await live_grants(scene, scene.session) == 0
    assert await live_grants(scene, scene.other) == 1


@pytest.mark.row("I2")
async def test_revoking_the_grant_ends_the_session(scene: Scene) -> None:
    await revoke_the_grant(scene)
    assert not await scene.alive(scene.session)
    for session in scene.bystanders:
        assert await scene.alive(session)


@pytest.mark.row("I2")
async def test_a_policy_that_no_longer_allows_it_ends_the_session(scene: Scene) -> None:
    await drop_sign_in_policy(scene)
    assert not await scene.alive(scene.session)
    assert await scene.alive(scene.bystanders[1])


@pytest.mark.row("I2")
async def test_changing_the_own_password_ends_the_other_sessions_only(scene: Scene) -> None:
    await scene.acme.world.identity.passwords.change(scene.who, PASSWORD, "a brand new lamp by the door")
    assert await scene.alive(scene.session)
    assert not await scene.alive(scene.other)
    assert await scene.alive(scene.bystanders[0])


@pytest.mark.row("I2")
async def test_time_ends_the_session(scene: Scene) -> None:
    scene.acme.world.clock.advance((SESSION_LIFETIME - timedelta(seconds=1)).total_seconds())
    assert await scene.alive(scene.session)
    scene.acme.world.clock.advance(2)
    assert not await scene.alive(scene.session)


async def test_a_member_cannot_end_anothers_session(scene: Scene) -> None:
    with pytest.raises(NotFound):
        await scene.acme.world.identity.sessions.end(scene.who, scene.bystanders[0].session_id)
    with pytest.raises(NotFound):
        await scene.acme.world.identity.sessions.end(scene.acme.owner, scene.bystanders[1].session_id)
    assert await scene.alive(scene.bystanders[0])
    assert await scene.alive(scene.bystanders[1])


async def test_a_member_sees_own_sessions_an_owner_all_of_the_tenant(scene: Scene) -> None:
    sessions = scene.acme.world.identity.sessions
    own = {scene.session.session_id, scene.other.session_id}
    assert {s.id for s in await sessions.list(scene.who)} == own
    assert {s.source for s in await sessions.list(scene.who)} == {SOURCE}
    assert {s.id for s in await sessions.list(scene.acme.owner)} == own | {scene.bystanders[0].session_id}
    await sign_out(scene)
    assert {s.id for s in await sessions.list(scene.who)} == {scene.other.session_id}


async def test_rights_come_from_the_database_and_not_from_the_token(scene: Scene) -> None:
    async with scene.acme.world.database.transaction(scene.acme.id) as tx:
        await tx.execute(
            "UPDATE people SET role = 'auditor' WHERE tenant_id = %s AND id = %s", (scene.acme.id, scene.ada)
        )
    who = await scene.acme.world.identity.check_session(scene.session.token, SOURCE)
    assert who.role is Role.AUDITOR


async def test_a_session_of_one_tenant_does_not_open_another(scene: Scene) -> None:
    """A token that says another tenant is signed with the wrong key; a known one never finds its row elsewhere."""
    import base64
    import json

    header, payload, signature = scene.session.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["tid"] = str(scene.bystanders[1].tenant_id)
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        await scene.acme.world.identity.check_session(f"{header}.{forged}.{signature}", SOURCE)


async def live_grants(scene: Scene, *sessions: IssuedSession) -> int:
    async with scene.acme.world.database.transaction(scene.acme.id) as tx:
        row = await tx.fetch_one(
            "SELECT count(*) AS n FROM grants WHERE tenant_id = %s AND state = 'live' AND credential_id = ANY(%s)",
            (scene.acme.id, [session.session_id for session in sessions]),
        )
    assert row is not None
    return int(row["n"])
