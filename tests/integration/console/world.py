"""A console over a real database, without a socket; and browsers that hold a person's cookie."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from uuid import UUID

import httpx
from starlette.types import ASGIApp

from limen.api.access import SessionAuthenticator
from limen.api.app import AppSettings, create_app
from limen.api.hosts import HostRules
from limen.console.app import console_app
from limen.console.live import OpenPages
from limen.console.pages import Desk
from limen.control.devices.service import AgentHub, AgentRegistry
from limen.control.grants.feed import ChangeFeed
from limen.control.identity.endpoints import routers as identity_routers
from limen.control.identity.model import IssuedSession, SessionKind
from limen.control.policy.endpoints import grants_router
from limen.db.database import Database
from limen.kernel.access import ResourceKind
from limen.runtime.http import CSRF_HEADER, SESSION_COOKIE
from limen.wire.keyd import Certificate
from tests.support.identity import BASE, SOURCE, IdentityWorld, Subjects, TenantWorld


class NoAuthority:
    """``devices.ports.AgentAuthority`` of a world without agents."""

    async def enrol_agent(
        self, agent_id: UUID, tenant_id: UUID | None, kind: str, identity_key: bytes, sealing_key: bytes
    ) -> Certificate:
        """Nobody enrols here."""
        raise AssertionError

    async def renew_agent(self, agent_id: UUID) -> Certificate:
        """Nobody renews here."""
        raise AssertionError

    async def remove_agent(self, agent_id: UUID) -> None:
        """Nobody to remove."""


class ConsoleWorld(IdentityWorld):
    """One platform with its console. ``feed`` runs inside ``async with world.following()``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.feed = ChangeFeed(database)
        self.pages = OpenPages()
        self.feed.subscribe(self.pages.dispatch)
        self.ledger.watchers.append(self.pages.touch)
        hub = AgentHub(self.feed.is_current)
        subjects = Subjects(self.identity)
        registry = AgentRegistry(database, NoAuthority(), hub, self.clock)
        self.desk = Desk(
            database,
            self.clock,
            self.identity,
            self.tenancy,
            self.ledger,
            self.resources,
            subjects,
            registry,
            hub,
        )
        self.routers = [
            grants_router(database, self.ledger, self.administrator, self.resources, subjects),
        ]

    def console(self) -> ASGIApp:
        """The whole HTTP application: API and console."""
        return create_app(
            AppSettings(HostRules(BASE)),
            SessionAuthenticator(self.identity, self.tenancy),
            [*identity_routers(self.identity), *self.routers],
            health={},
            mounts=[("", console_app(self.desk, self.pages, self.feed))],
        )

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """While the change feed runs."""
        task = asyncio.create_task(self.feed.run())
        try:
            await self.feed.ready.wait()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def browser(self, tenant: TenantWorld, name: str = "owner", host: str = "") -> "Browser":
        """A browser in which a person of a tenant is signed in."""
        session = await tenant.sign_in(name, kind=SessionKind.COOKIE)
        headers = {"Cookie": f"{SESSION_COOKIE}={session.token}", "Accept": "text/html"}
        transport = httpx.ASGITransport(self.console(), raise_app_exceptions=False, client=(SOURCE, 40000))
        base = f"https://{host or f'{tenant.slug}.{BASE}'}"
        return Browser(httpx.AsyncClient(transport=transport, base_url=base, headers=headers), session)

    def stranger(self, host: str = BASE) -> httpx.AsyncClient:
        """A client without a session."""
        return self.client(host, self.console())

    async def add_resource(self, tenant: TenantWorld, name: str) -> UUID:
        """A vault mount, without a policy."""
        async with self.database.transaction(tenant.id) as tx:
            made = await self.resources.create(tx, tenant.owner.actor, ResourceKind.VAULT, name, {})
        return made.id


@dataclass
class Browser:
    """One signed-in person's requests."""

    client: httpx.AsyncClient
    session: IssuedSession

    @property
    def cookie(self) -> dict[str, str]:
        """The header that carries the session."""
        return {"Cookie": f"{SESSION_COOKIE}={self.session.token}"}

    async def page(self, path: str, status: int = 200) -> str:
        """Fetch a page that must answer so."""
        answer = await self.client.get(path)
        assert answer.status_code == status, (answer.status_code, answer.text[:500])
        return answer.text

    async def act(self, method: str, path: str, body: object = None, csrf: str | None = None) -> httpx.Response:
        """Do what the page's script does; ``csrf`` replaces the right token."""
        headers = {CSRF_HEADER: self.session.csrf_token if csrf is None else csrf}
        return await self.client.request(method, path, json=body, headers=headers if csrf != "" else {})


class Elements(HTMLParser):
    """All start tags of a document with their attributes, and the text of inline scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self._raw = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        self.inline += data.strip() if self._raw else ""

    def acts(self) -> set[str]:
        """What the page's buttons would do."""
        return {found["data-act"] for _, found in self.tags if "data-act" in found}
