"""Sign-in of SFTP users against a real database: throttling, sources, expiry, custody, policy, reuse, release."""

from datetime import timedelta

import asyncssh
import pytest

from limen.control.audit.model import AuditFilter
from limen.control.audit.service import search
from limen.control.files.model import Connection, Place, Provider, SftpUser, SignInClaim
from limen.control.files.service import SignInAnswer
from limen.db.database import Database
from limen.kernel.errors import Conflict, Malformed
from tests.support.files import FilesWorld
from tests.support.identity import TenantWorld

SOURCE = "192.0.2.1"
KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode().strip()


class Ana:
    """A tenant, a person with an SFTP user, a password, a key and a policy."""

    def __init__(self, world: FilesWorld) -> None:
        self.world = world
        self.tenant: TenantWorld
        self.connection: Connection
        self.user: SftpUser
        self.password = ""

    async def set_up(self, place: Place | None = None) -> "Ana":
        self.tenant = await self.world.tenant("acme")
        person = await self.tenant.person("ana")
        self.connection = await self.world.connect(self.tenant, "share", place)
        self.user = await self.world.user(self.tenant, self.connection, person, "ana", sources=["192.0.2.0/24"])
        actor = self.tenant.owner.actor
        self.password = await self.world.users.set_password(self.tenant.id, actor, self.user.id, None)
        await self.world.allow(self.tenant, person, self.connection.id, "read", "list")
        return self

    async def add_key(self, **options: object) -> None:
        actor = self.tenant.owner.actor
        await self.world.users.add_key(self.tenant.id, actor, self.user.id, KEY, **options)  # type: ignore[arg-type]

    async def claim(self, source: str = SOURCE, **proof: object) -> SignInAnswer:
        name = str(proof.pop("user", "ana"))
        slug = str(proof.pop("slug", self.connection.slug))
        claim = SignInClaim(slug, name, source, **proof)  # type: ignore[arg-type]
        return await self.world.sign_in.authenticate(self.world.agent.id, claim)

    async def reasons(self) -> list[tuple[str, object]]:
        async with self.world.database.transaction(self.tenant.id) as tx:
            found = await search(tx, AuditFilter(action_prefix="files.session.sign-in"), open_personal=False)
        return [(str(one.outcome), one.detail["reason"]) for one in reversed(found)]


@pytest.fixture
async def ana(database: Database) -> Ana:
    return await Ana(FilesWorld(database)).set_up()


@pytest.mark.row("I5")
async def test_passwords_are_throttled_before_they_are_hashed(ana: Ana) -> None:
    for _ in range(5):
        assert not (await ana.claim(password="wrong")).allowed
    hashed = ana.world.hasher.verified
    answer = await ana.claim(password=ana.password)
    assert not answer.allowed
    assert answer.retry_after > 0
    assert ana.world.hasher.verified == hashed
    ana.world.clock.advance(61)
    assert (await ana.claim(password=ana.password)).allowed
    assert (await ana.reasons())[-2:] == [("denied", "throttled"), ("ok", "")]


async def test_unknown_names_cost_a_hash_and_look_the_same(ana: Ana) -> None:
    before = ana.world.hasher.verified
    answers = [
        await ana.claim(password="wrong"),
        await ana.claim(password="wrong", user="nobody"),
        await ana.claim(password="wrong", slug="aaaaaaaaaaaa"),
        await ana.claim(password="x" * 5000),
    ]
    assert ana.world.hasher.verified - before == 4
    assert len(set(map(repr, answers))) == 1


@pytest.mark.row("F6")
async def test_credentials_are_pinned_to_their_sources(ana: Ana) -> None:
    await ana.add_key(sources=["198.51.100.0/24"])
    assert not (await ana.claim("203.0.113.1", password=ana.password)).allowed
    assert not (await ana.claim(SOURCE, public_key=KEY)).allowed
    assert (await ana.claim(SOURCE, password=ana.password)).allowed
    assert (await ana.claim("198.51.100.9", public_key=KEY)).allowed


async def test_a_probe_opens_nothing_and_an_expiring_key_bounds_the_grant(ana: Ana) -> None:
    now = ana.world.clock.now()
    await ana.add_key(expires_at=now + timedelta(seconds=90))
    probe = await ana.claim(public_key=KEY, probe=True)
    assert probe == SignInAnswer(allowed=True)
    answer = await ana.claim(public_key=KEY)
    assert answer.grant is not None
    assert answer.grant.expires_at == (now + timedelta(seconds=90)).timestamp()
    assert answer.grant.actions == ("list", "read")  # what the policy allows of what the user may have
    ana.world.clock.advance(91)
    assert not (await ana.claim(public_key=KEY, probe=True)).allowed


async def test_the_same_question_gets_the_live_grant_until_it_is_released(ana: Ana) -> None:
    await ana.add_key()
    first, second = await ana.claim(public_key=KEY), await ana.claim(public_key=KEY)
    assert first.grant is not None
    assert second.grant is not None
    assert first.grant.id == second.grant.id
    async with ana.world.database.transaction(ana.tenant.id) as tx:
        await ana.world.ledger.end(tx, first.grant.id, ana.world.agent.id, "closed")
    third = await ana.claim(public_key=KEY)
    assert third.grant is not None
    assert third.grant.id != first.grant.id


async def test_without_a_policy_nobody_gets_in(ana: Ana) -> None:
    await ana.world.administrator.suspend_person(ana.tenant.owner.actor, ana.tenant.id, ana.user.person_id, "test")
    assert not (await ana.claim(password=ana.password)).allowed
    assert (await ana.reasons())[-1][0] == "denied"


@pytest.mark.row("F3")
async def test_no_custody_no_access_and_no_grant_left(database: Database) -> None:
    world = FilesWorld(database)
    ana = await Ana(world).set_up(Place(Provider.S3, bucket="my-bucket"))
    assert not (await ana.claim(password=ana.password)).allowed  # no credential yet
    await world.give_credential(ana.tenant, ana.connection, "AK", "SECRET")
    world.custody.down = True
    assert not (await ana.claim(password=ana.password)).allowed
    async with database.transaction(ana.tenant.id) as tx:
        assert await world.ledger.live(tx) == [] or all(
            entry.grant.resource_id != ana.connection.id for entry in await world.ledger.live(tx)
        )
    world.custody.down = False
    assert (await ana.claim(password=ana.password)).allowed


async def test_a_new_password_ends_what_the_old_one_opened(ana: Ana) -> None:
    answer = await ana.claim(password=ana.password)
    assert answer.grant is not None
    await ana.world.users.set_password(ana.tenant.id, ana.tenant.owner.actor, ana.user.id, "a new and longer one")
    async with ana.world.database.transaction(ana.tenant.id) as tx:
        assert (await ana.world.ledger.get(tx, answer.grant.id)).state == "revoked"
    assert not (await ana.claim(password=ana.password)).allowed
    assert (await ana.claim(password="a new and longer one")).allowed


async def test_names_and_keys_are_unique_where_they_must_be(ana: Ana) -> None:
    await ana.add_key()
    with pytest.raises(Conflict):
        await ana.add_key()
    with pytest.raises(Conflict):
        await ana.world.user(ana.tenant, ana.connection, ana.user.person_id, "ana")
    other = await ana.world.connect(ana.tenant, "other")
    await ana.world.user(ana.tenant, other, ana.user.person_id, "ana")
    with pytest.raises(Malformed):
        await ana.world.users.set_password(ana.tenant.id, ana.tenant.owner.actor, ana.user.id, "short")
