"""The console in a real browser, against the whole platform: PostgreSQL, keyd, serve, TLS, headless Chromium.

The browser must find nothing that the content security policy forbids and log no error, on any page.
"""

import contextlib
import ctypes
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Page, ViewportSize, async_playwright, expect

from limen.processes.up import Platform, UpOptions
from tests.support.scratch import scratch_directory

pytestmark = pytest.mark.root

CLONE_NEWNET = 0x40000000  # <linux/sched.h>
CHROMIUM = "/usr/bin/chromium"
PATIENCE = 60_000  # milliseconds; only a failure waits so long
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
expect.set_options(timeout=PATIENCE)
PASSWORD = "a lamp beside the old door"
WIDE, PHONE = ViewportSize(width=1360, height=860), ViewportSize(width=390, height=844)
CSP_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.violatedDirective + " " + event.blockedURI);
});
"""


@dataclass
class Site:
    """A running platform, an operator's API, and browsers. ``errors`` collects what browsers complained about."""

    platform: Platform
    operator: str
    playwright: Any
    directory: Path
    stack: contextlib.AsyncExitStack
    errors: list[str] = field(default_factory=list)

    def url(self, slug: str) -> str:
        """A tenant's address; Chromium resolves every name below localhost to this machine."""
        return f"https://{slug}.localhost:{self.platform.options.port}"

    async def open_tenant(self, slug: str) -> str:
        """A new tenant; the owner's link, as ``limen up`` prints it."""
        made = await self.call("POST", "/tenants", self.operator, {"slug": slug, "name": slug.title()})
        return f"{self.url(slug)}/setup/{made['setup_token']}"

    async def call(self, method: str, path: str, token: str, body: object = None) -> Any:
        """The JSON API with a bearer token."""
        async with self.platform.client() as client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = await client.request(method, f"/api/v1{path}", json=body, headers=headers)
        assert answer.is_success, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def sign_in(self, slug: str, email: str) -> str:
        """A session of the command line."""
        body = {"tenant": slug, "email": email, "password": PASSWORD}
        token: str = (await self.call("POST", "/sign-in", "", body))["token"]
        return token

    async def browser(self, name: str) -> BrowserContext:
        """A browser with a profile of its own."""
        context: BrowserContext = await self.playwright.chromium.launch_persistent_context(
            self.directory / name,
            executable_path=CHROMIUM,
            headless=True,
            args=ARGUMENTS,
            ignore_https_errors=True,  # the platform's own authority is not in the browser's store
            viewport=WIDE,
            reduced_motion="reduce",
        )
        self.stack.push_async_callback(context.close)
        context.set_default_timeout(PATIENCE)
        await context.add_init_script(CSP_WATCH)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        return context

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text} at {message.location.get('url')}")


@pytest.fixture
def own_network() -> Iterator[None]:
    """This thread, and every process it starts, in a network namespace with nothing but loopback.

    Chromium drops its connections whenever an address of the machine changes, and other tests make interfaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as before:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if libc.setns(before.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot return to the machine's network")


@pytest.fixture
async def site(own_network: None) -> AsyncIterator[Site]:
    """The platform; all of it gone afterwards."""
    directory = scratch_directory("console")
    platform = Platform(
        UpOptions(directory / "data", "127.0.0.1", 8443, 8444, "localhost", ("127.0.0.1", "localhost"), "home")
    )
    try:
        await platform.start()
        operator = await platform.mint_operator()
        async with async_playwright() as playwright, contextlib.AsyncExitStack() as stack:
            yield Site(platform, operator, playwright, directory, stack)
    finally:
        await platform.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def live(page: Page) -> None:
    """Wait until the page follows what happens."""
    await expect(page.locator("[data-stream=open]")).to_be_visible()


async def set_up_owner(page: Page, link: str) -> None:
    """What a person does with the link that ``limen up`` prints."""
    await page.goto(link)
    await page.fill("#name", "Olive Owner")
    await page.fill("#email", "olive@acme.example")
    await page.fill("#password", PASSWORD)
    await page.fill("#again", PASSWORD)
    await page.click("button[type=submit]")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def add_ana(site: Site, owner: str) -> str:
    """Invite Ana over the API and set her password; her id."""
    ana = await site.call("POST", "/people", owner, {"email": "ana@acme.example", "name": "Ana Engineer"})
    await site.call("POST", "/setup", "", {"token": ana["setup_token"], "password": PASSWORD})
    return str(ana["id"])


async def enter(page: Page, email: str, password: str = PASSWORD) -> None:
    """Fill in the sign-in form and send it."""
    await page.fill("#email", email)
    await page.fill("#password", password)
    await page.click("button[type=submit]")


async def cookie_answer(site: Site, context: BrowserContext, slug: str) -> int:
    """What the API answers to a browser's cookie, asked from outside of it."""
    jar = "; ".join(f"{cookie.get('name')}={cookie.get('value')}" for cookie in await context.cookies(site.url(slug)))
    trust = ssl.create_default_context(cafile=str(site.platform.ca_file))
    async with httpx.AsyncClient(base_url=site.platform.url, verify=trust) as client:
        return (await client.get("/api/v1/me", headers={"Cookie": jar})).status_code


async def test_from_the_owners_link_to_a_suspension_seen_in_another_browser(site: Site) -> None:
    """One day of a small team: set up, watch, revoke, suspend, lift, read the trail, leave."""
    link = await site.open_tenant("acme")
    olive_browser, ana_browser = await site.browser("olive"), await site.browser("ana")
    olive, ana = olive_browser.pages[0], ana_browser.pages[0]

    await set_up_owner(olive, link)
    await live(olive)
    await expect(olive.get_by_text("No gateway is enrolled")).to_be_visible()
    cookie = next(found for found in await olive_browser.cookies() if found.get("name") == "__Host-limen")
    assert (cookie.get("httpOnly"), cookie.get("secure"), cookie.get("sameSite")) == (True, True, "Lax")
    owner = await site.sign_in("acme", "olive@acme.example")
    await add_ana(site, owner)

    # The list of live access changes by itself when somebody signs in.
    await olive.goto(site.url("acme") + "/live")
    await live(olive)
    rows = olive.locator("#grants tbody tr")
    await expect(rows).to_have_count(2)  # Olive's browser and command line
    anas_token = await site.sign_in("acme", "ana@acme.example")
    anas = rows.filter(has_text="Ana Engineer")
    await expect(anas).to_have_count(1)

    # Revoke that session, with a reason.
    await anas.get_by_role("button", name="Revoke").click()
    await olive.fill("#confirm-reason", "unknown laptop")
    await olive.locator("#confirm [data-go]").click()
    await expect(anas).to_have_count(0)
    await expect(olive.locator("#confirm")).to_be_hidden()
    async with site.platform.client() as client:
        assert (await client.get("/api/v1/me", headers={"Authorization": f"Bearer {anas_token}"})).status_code == 401

    # Ana signs in with a browser: first with a wrong password, then right. She sees only what is hers.
    await ana.goto(site.url("acme"))
    await enter(ana, "ana@acme.example", "not the password at all")
    await expect(ana.locator("[data-error]")).to_contain_text("E-mail address or password is wrong")
    await enter(ana, "ana@acme.example")
    await expect(ana.get_by_role("heading", name="My access")).to_be_visible()
    await live(ana)
    await expect(ana.get_by_role("link", name="People")).to_have_count(0)
    await expect(anas).to_have_count(1)

    # Olive suspends Ana: Ana's page says so at once, shows nothing any more, and her cookie is worth nothing.
    await olive.goto(site.url("acme") + "/people")
    await live(olive)
    await olive.get_by_role("button", name="Suspend Ana Engineer").click()
    await olive.fill("#confirm-reason", "left the company")
    await olive.locator("#confirm [data-go]").click()
    await expect(ana.get_by_text("Your session has ended")).to_be_visible()
    assert await ana.locator("main").inner_text() == ""
    assert await cookie_answer(site, ana_browser, "acme") == 401
    assert await cookie_answer(site, olive_browser, "acme") == 200
    person = olive.locator("#people tr").filter(has_text="ana@acme.example")
    await expect(person).to_contain_text("suspended")
    await expect(person).to_contain_text("left the company")
    await ana.get_by_role("link", name="Sign in again").click()
    await enter(ana, "ana@acme.example")
    await expect(ana.locator("[data-error]")).to_contain_text("You may not sign in now")

    # Lifted, she may come back.
    await olive.get_by_role("button", name="Lift the suspension of Ana Engineer").click()
    await olive.locator("#confirm [data-go]").click()
    await expect(person).to_contain_text("active")
    await enter(ana, "ana@acme.example")
    await expect(ana.get_by_role("heading", name="My access")).to_be_visible()

    # The trail tells all of it, newest first.
    await olive.goto(site.url("acme") + "/audit")
    await olive.fill("#action", "grants.block.")
    await olive.get_by_role("button", name="Filter").click()
    actions = olive.locator("#records tbody td[data-label=Action]")
    await expect(actions).to_have_text(["grants.block.lift", "grants.block.set"])
    await olive.locator("#records details").last.click()
    await expect(olive.locator("#records .facts").last).to_contain_text("left the company")
    await olive.goto(site.url("acme") + "/audit?outcome=failed")
    await expect(olive.locator("#records tbody tr")).to_contain_text(["somebody as Ana Engineer"])

    # Leaving ends the session on the server too.
    before = await olive_browser.cookies()
    await olive.get_by_role("button", name="Sign out").click()
    await expect(olive.get_by_role("heading", name="Sign in")).to_be_visible()
    await olive_browser.add_cookies([{k: v for k, v in one.items() if v is not None} for one in before])  # type: ignore[misc]
    assert await cookie_answer(site, olive_browser, "acme") == 401
    await olive.goto(link)
    await expect(olive.get_by_text("used already")).to_be_visible()

    # Refusals are answers of the server that a browser reports; anything else would be a defect.
    expected = ("status of 401", "status of 403")
    assert [error for error in site.errors if not any(text in error for text in expected)] == []


async def test_every_page_in_both_themes_and_on_a_phone(site: Site) -> None:
    """No violation of the policy, no error, nothing wider than the screen, and a theme that is kept."""
    link = await site.open_tenant("acme")
    context = await site.browser("olive")
    page = context.pages[0]
    await set_up_owner(page, link)
    owner = await site.sign_in("acme", "olive@acme.example")
    ana = await add_ana(site, owner)
    vault = await site.call("POST", "/resources", owner, {"kind": "vault", "name": "app"})
    await site.call("POST", f"/people/{ana}/suspend", owner, {"reason": "a reason that takes up some room on the page"})
    assert vault["id"]
    pages = ["/", "/live", "/live?door=network", "/people", "/audit", "/access"]
    for path in (*pages, "/sign-in"):
        await page.goto(site.url("acme") + path)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            for size in (WIDE, PHONE):
                await page.set_viewport_size(size)
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, size)
                await keep(page, f"{path} {scheme} {size['width']}")
        assert await page.evaluate("window.violations") == [], path
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(15, 20, 19)", path
    assert await page.evaluate("document.fonts.load('14px \"Plex Sans\"').then((found) => found.length > 0)")

    # The chosen theme wins over the system's, and is there again before the next page is painted.
    await page.emulate_media(color_scheme="dark")
    await page.get_by_role("button", name="Switch between light and dark").click()
    await page.reload()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 244)"
    assert site.errors == []


async def test_a_page_finds_its_server_again(site: Site) -> None:
    """The server is restarted: the page says so, connects again by itself, and the session still holds."""
    context = await site.browser("olive")
    page = context.pages[0]
    await set_up_owner(page, await site.open_tenant("acme"))
    await live(page)
    started = time.monotonic()
    await site.platform.serve.stop()
    assert time.monotonic() - started < 3.0  # an open page does not hold a stop up
    await expect(page.locator("[data-stream=lost]")).to_be_visible()
    await site.platform.serve.start()
    await live(page)
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def keep(page: Page, name: str) -> None:
    """A picture for whoever asks for one: ``CONSOLE_PICTURES=DIR``."""
    directory = os.environ.get("CONSOLE_PICTURES")
    if directory:
        await page.screenshot(path=Path(directory) / f"{name.replace('/', '_').replace(' ', '-')}.png")
