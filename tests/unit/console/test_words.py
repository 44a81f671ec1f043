"""Times, names and records in words."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from limen.console.pages import clock_text, short_id, span_text
from limen.console.views.audit import cursor, parse_filter
from limen.console.views.names import summary, who_did
from limen.control.audit.model import AuditRecord, DetailValue, Outcome
from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id
from limen.kernel.principal import ActorKind

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def a_record(
    actor_kind: ActorKind = ActorKind.PERSON,
    detail: dict[str, DetailValue] | None = None,
    personal: dict[str, str] | None = None,
    at: datetime = NOW,
) -> AuditRecord:
    return AuditRecord(
        id=new_id(),
        at=at,
        action="identity.session.sign-in",
        outcome=Outcome.FAILED,
        actor_kind=actor_kind,
        actor_id=None if actor_kind is ActorKind.ANONYMOUS else new_id(),
        object_kind="person",
        object_id=new_id(),
        detail=detail or {},
        source="203.0.113.7",
        personal=personal,
    )


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (NOW, "12:00:00"),
        (NOW.replace(hour=0, second=5), "00:00:05"),
        (NOW - timedelta(days=1), "31 May 12:00"),
        (NOW.replace(year=2025), "1 Jun 2025 12:00"),
    ],
)
def test_clock(at: datetime, text: str) -> None:
    assert clock_text(at, NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (45, "45 s"), (60, "1 min"), (3599, "59 min"), (28_320, "7 h 52 min"), (90_000, "1 d 1 h")],
)
def test_span(seconds: float, text: str) -> None:
    assert span_text(timedelta(seconds=seconds)) == text


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_cursor_continues_exactly_where_it_was_made(at: datetime) -> None:
    found = a_record(at=at)
    assert parse_filter(QueryParams({"before": cursor(found)})).before == (found.at, found.id)


@given(st.dictionaries(st.sampled_from(["action", "outcome", "since", "until", "before"]), st.text(max_size=200)))
def test_any_query_is_a_filter_or_refused(query: dict[str, str]) -> None:
    with contextlib.suppress(Malformed):
        wanted = parse_filter(QueryParams(query))
        for moment in (wanted.since, wanted.until, wanted.before and wanted.before[0]):
            assert moment is None or moment.tzinfo is not None


def test_who_was_not_signed_in_is_not_named_as_the_actor() -> None:
    found = a_record(ActorKind.ANONYMOUS, personal={"email": "a@b.example"})
    assert who_did(found, {}) == "somebody as a@b.example"
    assert found.object_id is not None
    assert who_did(found, {found.object_id: "Ada"}) == "somebody as Ada"
    assert who_did(a_record(ActorKind.ANONYMOUS), {}) == "somebody"


def test_an_actor_has_a_name_or_a_kind() -> None:
    found = a_record()
    assert found.actor_id is not None
    assert who_did(found, {found.actor_id: "Ada"}) == "Ada"
    assert who_did(found, {}) == "person"


def test_a_summary_is_the_reason_or_the_first_facts_without_ids() -> None:
    assert summary(a_record(detail={"kind": "x", "reason": "no such mount"})) == "no such mount"
    facts: dict[str, DetailValue] = {"grant": str(new_id()), "fresh": True, "bytes": 7, "more": "no"}
    assert summary(a_record(detail=facts)) == "fresh yes, bytes 7"
    assert summary(a_record(detail={"grant": str(new_id())})) == "details"
    assert len(summary(a_record(detail={"reason": "x" * 500}))) <= 48


def test_short_ids_of_one_moment_differ() -> None:
    assert len({short_id(new_id()) for _ in range(100)}) == 100
