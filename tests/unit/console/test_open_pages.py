"""What an open page hears."""

import asyncio
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.console import live
from limen.console.live import OpenPage, OpenPages
from limen.kernel.errors import RateLimited, Unavailable
from limen.kernel.facts import Change, Fact, FactKind, RevokedGrant
from limen.kernel.ids import new_id
from limen.kernel.principal import Principal, Role

TENANT, OTHER_TENANT, PERSON, SESSION = (new_id() for _ in range(4))
WHO = Principal(TENANT, PERSON, SESSION, Role.MEMBER, "203.0.113.7")


def change(*facts: Fact, credential: UUID | None = None, tenant: UUID = TENANT) -> Change:
    ended = (RevokedGrant(new_id(), 7, "console", "why", None, PERSON, credential),) if credential else ()
    return Change(tenant, 1, facts, ended)


def heard(found: Change) -> OpenPage:
    pages = OpenPages()
    page = pages.open(WHO)
    pages.dispatch(found)
    return page


def test_the_end_of_the_sessions_grant_is_the_end_of_the_page() -> None:
    page = heard(change(credential=SESSION))
    assert page.over


def test_the_end_of_the_session_itself_too() -> None:
    assert heard(change(Fact(FactKind.CREDENTIAL, SESSION))).over


def test_another_session_of_the_same_person_is_another_page() -> None:
    page = heard(change(Fact(FactKind.CREDENTIAL, new_id()), credential=new_id()))
    assert not page.over
    assert page.touched


@pytest.mark.parametrize("kind", [FactKind.PERSON, FactKind.BLOCK])
def test_a_fact_about_the_person_leaves_a_doubt(kind: FactKind) -> None:
    assert heard(change(Fact(kind, PERSON))).doubt
    assert not heard(change(Fact(kind, new_id()))).doubt


def test_a_fact_about_the_tenant_leaves_a_doubt() -> None:
    assert heard(change(Fact(FactKind.TENANT, TENANT))).doubt


@pytest.mark.row("T1")
@given(kind=st.sampled_from(FactKind), known=st.sampled_from([PERSON, SESSION, TENANT]))
def test_another_tenants_change_is_not_heard_at_all(kind: FactKind, known: UUID) -> None:
    page = heard(change(Fact(kind, known), credential=SESSION, tenant=OTHER_TENANT))
    assert (page.over, page.doubt, page.touched) == (False, False, False)


@given(st.lists(st.sampled_from(["change", "touch", "end", "doubt"]), max_size=20))
def test_over_is_final(news: list[str]) -> None:
    page = OpenPage(WHO)
    for each in news:
        match each:
            case "change":
                page.hear(change(Fact(FactKind.GROUP, new_id())))
            case "touch":
                page.touch()
            case "end":
                page.hear(change(credential=SESSION))
            case "doubt":
                page.hear(change(Fact(FactKind.BLOCK, PERSON)))
    assert page.over == ("end" in news)
    assert page.doubt == ("doubt" in news)
    assert page.touched == bool(news)


async def test_waiting_ends_with_news_and_with_time() -> None:
    page = OpenPage(WHO)
    asyncio.get_running_loop().call_soon(page.touch)
    started = time.monotonic()
    await page.wait(30)
    assert time.monotonic() - started < 5
    await page.wait(0)
    await page.wait(-1)


def test_pages_are_counted_and_forgotten() -> None:
    pages = OpenPages()
    first, second = pages.open(WHO), pages.open(WHO)
    assert len(pages) == 2
    pages.leave(first)
    pages.leave(first)
    assert len(pages) == 1
    pages.leave(second)
    pages.dispatch(change(credential=SESSION))
    assert len(pages) == 0
    assert not second.over


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_PAGES_OF_SESSION", 2)
    monkeypatch.setattr(live, "MAX_PAGES", 3)
    pages = OpenPages()
    pages.open(WHO)
    pages.open(WHO)
    with pytest.raises(RateLimited):
        pages.open(WHO)
    pages.open(Principal(TENANT, PERSON, new_id(), Role.MEMBER, ""))
    with pytest.raises(Unavailable):
        pages.open(Principal(OTHER_TENANT, PERSON, new_id(), Role.MEMBER, ""))


def test_shut_is_for_good() -> None:
    pages = OpenPages()
    page = pages.open(WHO)
    pages.shut()
    assert page.shut
    assert not page.over
    with pytest.raises(Unavailable):
        pages.open(WHO)
