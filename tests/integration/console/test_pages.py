"""Pages: who sees what, what they may press, and under which headers."""

import html
import re
import shlex

import httpx
import pytest

from limen.api.headers import CONTENT_SECURITY_POLICY
from limen.cli.tree import TREE
from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.identity.model import SessionKind
from limen.kernel.access import Door
from limen.kernel.principal import Actor, ActorKind, Role
from limen.runtime.http import SESSION_COOKIE
from tests.integration.console.world import ConsoleWorld, Elements
from tests.support.identity import BASE, PASSWORD

PAGES = ("/", "/live", "/people", "/audit", "/access")


def strict(answer: httpx.Response) -> Elements:
    """Assert that a page needs nothing that the content security policy forbids."""
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-store"
    found = Elements(answer.text)
    assert not found.inline
    for tag, attributes in found.tags:
        assert "style" not in attributes, (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "action"):
            assert not re.match(r"(https?:)?//|javascript:|data:", attributes.get(name, "")), (tag, attributes)
    return found


@pytest.mark.row("I8")
async def test_no_page_needs_more_than_its_own_files(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await acme.person("ada")
    owner = await world.browser(acme)
    for path in PAGES:
        found = strict(await owner.client.get(path))
        files = {a.get("src") or a["href"] for tag, a in found.tags if tag in ("script", "link")}
        for file in files:
            answer = await owner.client.get(file)
            assert answer.status_code == 200, file
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            again = await owner.client.get(file, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
    async with world.stranger("acme.limen.test") as stranger:
        for path in ("/sign-in", "/nothing-here", "/setup/ls1.wrong"):
            strict(await stranger.get(path))
        assert (await stranger.get("/static/console.000000000000.css")).status_code == 404
        assert (await stranger.get("/static/..%2f__init__.py")).status_code == 404


async def test_who_is_not_signed_in_is_sent_to_sign_in(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    async with world.stranger("acme.limen.test") as stranger:
        for path in PAGES:
            answer = await stranger.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
            assert not answer.text
        assert (await stranger.get("/events")).status_code == 401
        assert (await stranger.get("/no-such-page")).status_code == 404
        assert (await stranger.post("/sign-in")).status_code == 405
    ended = await world.browser(acme)
    assert (await ended.act("POST", "/api/v1/sign-out")).status_code == 204
    assert (await ended.client.get("/live")).headers["location"] == "/sign-in"


async def test_the_organisation_is_asked_for_only_where_the_host_does_not_say_it(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    async with world.stranger() as bare, world.stranger("acme.limen.test") as own:
        assert 'name="tenant"' in (await bare.get("/sign-in")).text
        assert 'name="tenant"' not in (await own.get("/sign-in")).text
        known, unknown = await own.get("/sign-in"), None
        async with world.stranger("nobody.limen.test") as other:
            unknown = await other.get("/sign-in")
        assert known.text.replace("acme", "nobody") == unknown.text  # a page tells nothing about who is a tenant
    signed_in = await world.browser(acme)
    assert (await signed_in.client.get("/sign-in")).headers["location"] == "/"


# --- permission -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.AUDITOR, Role.MEMBER])
async def test_each_role_sees_its_pages_and_its_buttons(world: ConsoleWorld, role: Role) -> None:
    acme = await world.tenant("acme")
    ada = await acme.person("ada")
    await acme.person("sam", role)
    await acme.sign_in("ada")
    sam = await world.browser(acme, "sam")
    reads, revokes = role is not Role.MEMBER, role in (Role.OWNER, Role.ADMIN)
    for path in ("/live", "/people", "/audit"):
        page = await sam.page(path, 200 if reads else 403)
        assert ("Ada" in page) == reads, path
    home = await sam.client.get("/")
    assert (home.status_code, home.headers.get("location")) == ((200, None) if reads else (303, "/access"))
    acts = Elements(await sam.page("/live")).acts() | Elements(await sam.page("/people")).acts() if reads else set()
    assert (f"POST /api/v1/people/{ada}/suspend" in acts) == revokes
    assert any(re.fullmatch(r"POST /api/v1/grants/[0-9a-f-]{36}/revoke", act) for act in acts) == revokes
    navigation = {a["href"] for tag, a in Elements(await sam.page("/access")).tags if tag == "a" and "href" in a}
    assert {"/live", "/people", "/audit"} <= navigation if reads else not {"/live", "/people", "/audit"} & navigation
    # A button that is not shown would not work either.
    assert (await sam.act("POST", f"/api/v1/people/{ada}/suspend", {"reason": "x"})).status_code == (
        200 if revokes else 403
    )


async def test_a_member_sees_only_their_own(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await acme.person("ada")
    await acme.person("bob")
    await acme.sign_in("bob", source="198.51.100.77")
    elsewhere = await acme.sign_in("ada", source="198.51.100.9")
    ada = await world.browser(acme, "ada")
    page = await ada.page("/access")
    assert "198.51.100.9" in page
    assert "198.51.100.77" not in page
    assert "Bob" not in page
    assert Elements(page).acts() == {f"DELETE /api/v1/sessions/{elsewhere.session_id}"}
    assert (await ada.act("DELETE", f"/api/v1/sessions/{elsewhere.session_id}")).status_code == 204
    assert "198.51.100.9" not in await ada.page("/access")


async def test_nobody_is_offered_to_suspend_themselves(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    owner = await world.browser(acme)
    assert not Elements(await owner.page("/people")).acts()


@pytest.mark.row("T1")
async def test_two_tenants_see_nothing_of_each_other(world: ConsoleWorld) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    zelda = await globex.person("zelda")
    victim = await globex.sign_in("zelda", source="198.51.100.66")
    await world.administrator.suspend_person(globex.owner.actor, globex.id, zelda, "Zelda's reason")
    owner = await world.browser(acme)
    for path in PAGES:
        page = (await owner.page(path)).lower()
        for secret in ("zelda", "globex", "198.51.100.66", str(globex.id), str(victim.session_id)):
            assert secret not in page, (path, secret)
    other_host = await world.browser(acme, host=f"globex.{BASE}")
    assert (await other_host.client.get("/live")).headers["location"] == "/sign-in"
    assert (await other_host.client.get("/events")).status_code == 401


async def test_an_operators_token_shows_no_page(world: ConsoleWorld) -> None:
    token = await world.tenancy.mint_operator("root")
    async with world.stranger() as client:
        answer = await client.get("/live", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


# --- forged requests ------------------------------------------------------------------------------------------------


@pytest.mark.row("I8")
async def test_acts_need_the_pages_token(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    ada = await acme.person("ada")
    owner = await world.browser(acme)
    other = await acme.sign_in("ada", kind=SessionKind.COOKIE)
    page = await owner.page("/people")
    assert f'content="{owner.session.csrf_token}"' in page
    path, body = f"/api/v1/people/{ada}/suspend", {"reason": "no"}
    for wrong in ("", "x", other.csrf_token):
        assert (await owner.act("POST", path, body, csrf=wrong)).status_code == 403
    foreign = await owner.client.post(
        path, json=body, headers={"X-CSRF-Token": owner.session.csrf_token, "Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert "suspended</b>" not in await owner.page("/people")
    assert (await owner.act("POST", path, body)).status_code == 200
    assert "suspended</b>" in await owner.page("/people")


# --- content --------------------------------------------------------------------------------------------------------


async def test_what_people_typed_is_text(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    name = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    ada = await world.identity.directory.create_person(acme.owner, "ada@acme.example", name, Role.MEMBER)
    await world.identity.passwords.set_up(ada.setup_token, PASSWORD, "203.0.113.9")
    await world.administrator.suspend_person(acme.owner.actor, acme.id, ada.person.id, "<b onclick=x>why</b>")
    owner = await world.browser(acme)
    for path in (*PAGES, "/people?q=%3Cscript%3E", "/audit?action=%22%3E%3Cscript%3E"):
        strict(await owner.client.get(path))


async def test_live_lists_a_revocation_and_what_it_left_shut(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    ada = await acme.person("ada")
    session = await acme.sign_in("ada", source="198.51.100.9")
    owner = await world.browser(acme)
    assert "198.51.100.9" in await owner.page("/live")
    assert "198.51.100.9" in await owner.page("/live?door=console")
    assert "No tunnel is open" in await owner.page("/live?door=network")
    assert "198.51.100.9" in await owner.page("/live?door=no-such-door")
    async with world.database.transaction(acme.id) as tx:
        grant = (await world.ledger.live(tx, subjects=[ada]))[0].grant.id
    path = f"/api/v1/grants/{grant}/revoke"
    assert f"POST {path}" in Elements(await owner.page("/live")).acts()
    assert (await owner.act("POST", path, {"reason": "lost laptop"})).status_code == 204
    assert "198.51.100.9" not in await owner.page("/live")
    assert "lost laptop" in await owner.page("/")
    assert "lost laptop" in await owner.page("/audit?action=grants.grant.revoke")
    assert (await owner.client.get("/api/v1/me", headers={"Cookie": f"{SESSION_COOKIE}={session.token}"})).is_error


async def test_denials_can_be_lifted_from_the_page(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    ada = await acme.person("ada")
    resource = await world.add_resource(acme, "payroll")
    async with world.database.transaction(acme.id) as tx:
        await world.ledger.set_block(tx, acme.owner.actor, ada, resource, "left the team")
    owner = await world.browser(acme)
    page = await owner.page("/live")
    assert "left the team" in page
    lift = f"DELETE /api/v1/blocks/{ada}/{resource}"
    assert lift in Elements(page).acts()
    assert (await owner.act(*lift.split())).status_code == 200
    assert "left the team" not in await owner.page("/live")


async def test_expired_grants_are_not_shown_as_live(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await acme.sign_in("owner", source="198.51.100.9")
    world.clock.advance(8 * 3600 - 60)
    owner = await world.browser(acme)
    assert "198.51.100.9" in await owner.page("/live")
    world.clock.advance(61)
    assert "198.51.100.9" not in await owner.page("/live")


async def test_people_can_be_searched(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await acme.person("ada")
    await acme.person("bob")
    owner = await world.browser(acme)
    page = await owner.page("/people?q=ADA")
    assert "ada@acme.example" in page
    assert "bob@acme.example" not in page
    assert "Nobody matches" in await owner.page("/people?q=zzz")


# --- audit ----------------------------------------------------------------------------------------------------------


async def test_the_audit_trail_is_filtered_and_paged(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    actor = Actor(ActorKind.SYSTEM)
    async with world.database.transaction(acme.id) as tx:
        for number in range(120):
            event = AuditEvent("vault.secret.read", Outcome.OK, actor, detail={"number": number})
            await record(tx, event, world.clock.now())
            world.clock.advance(60)
    owner = await world.browser(acme)
    seen: list[int] = []
    path: str | None = "/audit?action=vault."
    while path:
        page = await owner.page(path)
        seen += [int(number) for number in re.findall(r"<summary>number (\d+)</summary>", page)]
        path = next((a["href"] for tag, a in Elements(page).tags if a.get("rel") == "next"), None)
    assert seen == list(range(119, -1, -1))
    assert "vault.secret.read" not in await owner.page("/audit?action=vault.&outcome=denied")
    window = await owner.page("/audit?action=vault.&since=2026-06-01T12:10&until=2026-06-01T12:12")
    assert re.findall(r"<summary>number (\d+)</summary>", window) == ["11", "10"]


@pytest.mark.parametrize(
    "query", ["outcome=maybe", "since=yesterday", "until=2026-13-01", "before=x", "before=2026-06-01T12:00:00~x"]
)
async def test_a_wrong_filter_says_so(world: ConsoleWorld, query: str) -> None:
    owner = await world.browser(await world.tenant("acme"))
    page = await owner.page(f"/audit?{query}", 400)
    assert 'role="alert"' in page


async def test_who_failed_to_sign_in_is_not_taken_for_the_person(world: ConsoleWorld) -> None:
    acme = await world.tenant("acme")
    await acme.person("ada")
    async with world.stranger("acme.limen.test") as stranger:
        body = {"email": "ada@acme.example", "password": "not the password"}
        assert (await stranger.post("/api/v1/sign-in", json=body)).status_code == 401
    owner = await world.browser(acme)
    assert "somebody as Ada" in await owner.page("/audit?outcome=failed")
    assert "somebody as Ada" in await owner.page("/")


async def test_every_command_on_a_page_is_one_that_the_command_line_knows(world: ConsoleWorld) -> None:
    owner = await world.browser(await world.tenant("acme"))
    shown: set[str] = set()
    paths = ("/", "/people", "/access", "/audit?action=nothing", *(f"/live?door={door.value}" for door in Door))
    for path in paths:
        shown |= set(re.findall(r'<div class="command"><code>(.*?)</code>', await owner.page(path)))
    assert len(shown) >= 8
    for text in shown:
        name, *words = shlex.split(html.unescape(text))
        assert name == "limen"
        command, rest = TREE.find(words)
        command.parser().parse_args(rest)
