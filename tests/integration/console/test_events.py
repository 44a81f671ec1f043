"""The event stream over a real socket: what it tells, and every way in which it ends."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from limen.api.server import HttpServer
from limen.console import events
from limen.control.identity.model import CheckedSession, IssuedSession, SessionKind
from limen.db.database import Database
from limen.kernel.principal import Role
from limen.runtime.http import SESSION_COOKIE
from tests.integration.console.world import ConsoleWorld
from tests.support.identity import PASSWORD, TenantWorld

PATIENCE = 10.0


@dataclass
class Site:
    """A console on a real port, with its feed running."""

    world: ConsoleWorld
    server: HttpServer
    client: httpx.AsyncClient

    def headers(self, tenant: TenantWorld, session: IssuedSession) -> dict[str, str]:
        """Of a browser's request."""
        return {
            "Host": f"{tenant.slug}.limen.test",
            "Cookie": f"{SESSION_COOKIE}={session.token}",
            "Accept": "text/event-stream",
        }

    @contextlib.asynccontextmanager
    async def page(self, tenant: TenantWorld, name: str = "owner") -> AsyncIterator["Stream"]:
        """An open page of a person who just signed in."""
        session = await tenant.sign_in(name, kind=SessionKind.COOKIE)
        async with self.client.stream("GET", "/events", headers=self.headers(tenant, session)) as answer:
            assert answer.status_code == 200, answer.status_code
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            stream = Stream(answer, session)
            assert await stream.line() == "retry: 2000"
            yield stream


class Stream:
    """Events as they come in."""

    def __init__(self, answer: httpx.Response, session: IssuedSession) -> None:
        self.session = session
        self._lines = answer.aiter_lines()

    async def line(self) -> str | None:
        """The next line that is not empty; None at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                if line:
                    return line
        return None

    async def event(self) -> tuple[str, dict[str, str]] | None:
        """The next event."""
        name = await self.line()
        if name is None:
            return None
        data = await self.line()
        assert data is not None
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def until_ended(self) -> bool:
        """Read to the end of the stream; whether it said so."""
        said = False
        while (event := await self.event()) is not None:
            said = said or event[0] == "ended"
        return said


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    world = ConsoleWorld(database)
    async with world.following():
        server = HttpServer(world.console(), "127.0.0.1", 0, None, stop_seconds=3)
        await server.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as client:
                yield Site(world, server, client)
        finally:
            world.pages.shut()
            await server.stop()


async def test_a_page_hears_of_its_own_tenant_only(site: Site) -> None:
    acme, globex = await site.world.tenant("acme"), await site.world.tenant("globex")
    async with site.page(acme) as page, site.page(globex) as other:
        await acme.person("ada")
        await acme.sign_in("ada")  # a grant is issued: no change of a fact, and yet it is to be seen
        assert (await page.event()) == ("changed", {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await other.event()


async def test_many_changes_are_told_as_few(site: Site) -> None:
    acme = await site.world.tenant("acme")
    await acme.person("ada")
    async with site.page(acme) as page:
        for _ in range(20):
            await acme.sign_in("ada")
        await asyncio.sleep(2 * events.QUIET_SECONDS)
        await site.world.administrator.revoke_grant(acme.owner.actor, acme.id, await console_grant(site, page), "x")
        told = 0
        while (event := await page.event()) is not None:
            told += event[0] == "changed"
        assert 1 <= told <= 12


async def console_grant(site: Site, page: Stream) -> UUID:
    async with site.world.database.transaction(page.session.tenant_id) as tx:
        found = await site.world.ledger.live(tx, credentials=[page.session.session_id])
    return found[0].grant.id


@pytest.mark.row("I2")
@pytest.mark.parametrize(
    "cause", ["suspended", "revoked", "signed out", "ended by an administrator", "password reset", "role", "removed"]
)
async def test_the_stream_closes_when_the_session_ends(site: Site, cause: str) -> None:
    acme, globex = await site.world.tenant("acme"), await site.world.tenant("globex")
    ada = await acme.person("ada")
    identity, administrator, owner = site.world.identity, site.world.administrator, acme.owner
    async with site.page(acme, "ada") as page, site.page(acme) as bystander, site.page(globex) as stranger:
        session = page.session
        started = time.monotonic()
        match cause:
            case "suspended":
                await administrator.suspend_person(owner.actor, acme.id, ada, "left")
            case "revoked":
                await administrator.revoke_grant(owner.actor, acme.id, await console_grant(site, page), "why")
            case "signed out":
                await identity.sessions.sign_out(await identity.check_session(session.token, "203.0.113.7"))
            case "ended by an administrator":
                await identity.sessions.end(owner, session.session_id)
            case "password reset":
                link = await identity.directory.reset_link(owner, ada)
                await identity.passwords.set_up(link, PASSWORD + "!", "203.0.113.7")
            case "role":
                await identity.directory.set_role(owner, ada, Role.AUDITOR)
            case "removed":
                await identity.directory.remove_person(owner, ada)
        assert await page.until_ended()
        assert time.monotonic() - started < 2.0
        refused = await site.client.get("/events", headers=site.headers(acme, session))
        assert refused.status_code == 401
        me = await site.client.get("/api/v1/me", headers=site.headers(acme, session))
        assert me.status_code == 401
        assert len(site.world.pages) == 2
        event = await bystander.event()
        assert event == ("changed", {})
        me = await site.client.get("/api/v1/me", headers=site.headers(globex, stranger.session))
        assert me.status_code == 200


async def test_time_ends_it(site: Site) -> None:
    acme = await site.world.tenant("acme")
    async with site.page(acme) as page:
        site.world.clock.advance(8 * 3600)
        site.world.pages.touch(acme.id)
        assert await page.until_ended()


async def test_an_end_before_the_page_listens_is_not_missed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended, and the change delivered, after the request was let in and before the page began to listen."""
    acme = await site.world.tenant("acme")
    ada = await acme.person("ada")
    session = await acme.sign_in("ada", kind=SessionKind.COOKIE)
    authenticate = site.world.identity.authenticate
    delivered = asyncio.Event()

    async def suspended_just_after(token: str, source: str, kind: SessionKind | None = None) -> CheckedSession:
        answer = await authenticate(token, source, kind)
        if not delivered.is_set():
            site.world.feed.subscribe(lambda _change: delivered.set())
            await site.world.administrator.suspend_person(acme.owner.actor, acme.id, ada, "left")
            await delivered.wait()
        return answer

    monkeypatch.setattr(site.world.identity, "authenticate", suspended_just_after)
    async with site.client.stream("GET", "/events", headers=site.headers(acme, session)) as answer:
        assert answer.status_code == 200
        stream = Stream(answer, session)
        assert await stream.line() == "retry: 2000"
        assert await stream.until_ended()


async def test_the_beat_checks_the_session_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a change that never arrived ends the page at the next beat."""
    monkeypatch.setattr(events, "BEAT_SECONDS", 0.2)
    acme = await site.world.tenant("acme")
    async with site.page(acme) as page:
        event = await page.event()
        assert event is not None
        assert event[0] == "beat"
        async with site.world.database.transaction(acme.id) as tx:
            await tx.execute(
                "UPDATE sessions SET ended_at = created_at, ended_reason = 'lost' WHERE tenant_id = %s", [acme.id]
            )
        assert await page.until_ended()


async def test_without_certainty_there_is_no_stream(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_SECONDS", 0.2)
    acme = await site.world.tenant("acme")
    async with site.page(acme) as page:
        site.world.feed.ready.clear()  # as when the database went away
        assert not await page.until_ended()  # closed without saying that the session ended: the page asks again
        refused = await site.client.get("/events", headers=site.headers(acme, page.session))
        assert refused.status_code == 503
        site.world.feed.ready.set()


async def test_stopping_the_server_ends_all_streams(site: Site) -> None:
    acme = await site.world.tenant("acme")
    async with site.page(acme) as page:
        started = time.monotonic()
        site.world.pages.shut()
        stopping = asyncio.create_task(site.server.stop())
        assert not await page.until_ended()
        await stopping
        assert time.monotonic() - started < 2.0
    assert len(site.world.pages) == 0


async def test_a_page_that_went_away_is_forgotten(site: Site) -> None:
    acme = await site.world.tenant("acme")
    async with site.page(acme):
        assert len(site.world.pages) == 1
    async with asyncio.timeout(PATIENCE):
        while len(site.world.pages):
            await asyncio.sleep(0.01)


async def test_only_a_browsers_session_may_listen(site: Site) -> None:
    acme = await site.world.tenant("acme")
    bearer = await acme.sign_in("owner")
    headers = {"Host": "acme.limen.test", "Authorization": f"Bearer {bearer.token}"}
    assert (await site.client.get("/events", headers=headers)).status_code == 403


async def test_one_session_cannot_hold_all_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limen.console.live.MAX_PAGES_OF_SESSION", 1)
    acme = await site.world.tenant("acme")
    async with site.page(acme) as page:
        refused = await site.client.get("/events", headers=site.headers(acme, page.session))
        assert refused.status_code == 429
