"""Paths, parameters, tokens, merge patch and rate: tables and properties."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.vault.errors import NotRenewable, TokenRefused
from limen.control.vault.model import Token
from limen.control.vault.rules import parameters, patches, paths, tokens
from limen.control.vault.rules.rate import Buckets, Rate
from limen.control.vault.rules.tokens import Standing
from limen.kernel.access import SubjectKind
from limen.kernel.errors import Malformed, RateLimited
from limen.kernel.ids import new_id

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


# --- paths ------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_an_accepted_path_is_unchanged_and_cannot_climb(path: str) -> None:
    try:
        accepted = paths.checked_path(path)
    except Malformed:
        return
    assert accepted == path
    assert not {"", ".", ".."} & set(path.split("/"))
    assert not any(ord(character) < 32 or ord(character) == 127 for character in path)


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\x00", "a\n", "\u202e", "\ufffd"]
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(Malformed):
        paths.checked_path(path)


@pytest.mark.parametrize("path", ["a", "a b", "..a", "a../b", "é/ü", "x" * 1024, "a.b/c_d-e", "😀"])
def test_paths_that_are_accepted(path: str) -> None:
    assert paths.checked_path(path) == path


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)), st.text())
def test_bounds_hold_exactly_what_starts_with_the_prefix(folders: list[str], other: str) -> None:
    prefix = "".join(f"{folder}/" for folder in folders)
    low, high = paths.bounds(prefix)
    for candidate in (other, prefix + other):
        try:
            key = candidate.encode()
        except UnicodeEncodeError:
            continue
        inside = key >= low.encode() and (high is None or key < high.encode())
        assert inside is candidate.startswith(prefix)


# --- parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(90, 90), ("90", 90), ("", 0), ("1h30m", 5400), ("1d", 86400), ("1.5h", 5400), ("1h1ms", 3600), ("0s", 0)],
)
def test_durations(value: object, expected: int) -> None:
    assert parameters.seconds(value, "ttl") == expected


@pytest.mark.parametrize("value", ["-1s", -1, "x", None, [], {}, "1y", "1h" * 99, "9" * 30, 10**12, "1 h"])
def test_durations_that_are_refused(value: object) -> None:
    with pytest.raises(Malformed):
        parameters.seconds(value, "ttl")


@given(st.integers(0, 10**9))
def test_a_printed_duration_reads_back(total: int) -> None:
    assert parameters.seconds(parameters.go_duration(total), "ttl") == total


@pytest.mark.parametrize(
    ("value", "expected"), [([1, "2"], (1, 2)), ("1,2", (1, 2)), (3, (3,)), (["1", ""], (1,)), ([" 4 "], (4,))]
)
def test_version_numbers(value: object, expected: tuple[int, ...]) -> None:
    assert parameters.version_numbers(value) == expected


@pytest.mark.parametrize("value", [None, [], "", ["x"], [1.5], {"a": 1}, list(range(1001))])
def test_version_numbers_that_are_refused(value: object) -> None:
    with pytest.raises(Malformed):
        parameters.version_numbers(value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()), st.booleans()))
def test_a_refusal_never_repeats_the_value(value: object) -> None:
    planted = f"hunter2-{value}" if isinstance(value, str) else value
    for parse in (parameters.integer, parameters.flag, parameters.seconds, parameters.version_limit):
        said = ""
        try:
            parse(planted, "field")
        except Malformed as exc:
            said = exc.message + exc.fix
        assert "hunter2" not in said


def test_custom_metadata() -> None:
    assert parameters.custom_metadata({"a": True, "b": Decimal("1.50"), "c": 7}) == {"a": "1", "b": "1.50", "c": "7"}
    assert parameters.patched_custom({"a": "1", "b": "2"}, {"a": None, "c": "3"}) == {"b": "2", "c": "3"}
    full = {f"k{number}": "v" for number in range(64)}
    with pytest.raises(Malformed):
        parameters.patched_custom(full, {"one": "more"})


# --- merge patch: the cases of RFC 7396, appendix A ---------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, result: object) -> None:
    assert patches.merge(target, patch) == result


# --- tokens -----------------------------------------------------------------------------------------------


def _token(**changes: object) -> Token:
    token = Token(
        tenant_id=new_id(),
        id=new_id(),
        accessor="x",
        subject_kind=SubjectKind.PERSON,
        subject_id=new_id(),
        display="",
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        ttl=3600,
        max_ttl=7200,
        renewable=True,
    )
    return replace(token, **changes)  # type: ignore[arg-type]


@given(st.binary(min_size=32, max_size=32))
def test_a_token_reads_back(secret: bytes) -> None:
    tenant, token = new_id(), new_id()
    assert tokens.parse(tokens.text_form(tenant, token, secret)) == (tenant, token, tokens.secret_digest(secret))


@given(st.text(max_size=150))
def test_other_text_is_no_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        tokens.parse(text)


@pytest.mark.row("V3")
@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": b"y" * 32},
        {"now": NOW + timedelta(hours=1)},
        {"token": {"revoked_at": NOW}},
        {"tenant_active": False},
        {"subject_active": False},
        {"suspended": True},
        {},
    ],
)
def test_a_token_is_good_only_when_everything_is(wrong: dict[str, object]) -> None:
    changes = {key: value for key, value in wrong.items() if key in ("tenant_active", "subject_active", "suspended")}
    standing = Standing(_token(), b"x" * 32, tenant_active=True, subject_active=True, suspended=False, tenant_slug="t")
    standing = replace(standing, token=_token(**wrong.get("token", {})), **changes)  # type: ignore[arg-type, call-overload]
    digest, now = wrong.get("digest", b"x" * 32), wrong.get("now", NOW)
    if wrong:
        with pytest.raises(TokenRefused):
            tokens.check(standing, digest, now)  # type: ignore[arg-type]
    else:
        assert tokens.check(standing, b"x" * 32, NOW) == standing.token


@pytest.mark.row("V3")
@given(st.integers(0, 10**6), st.integers(0, 3599))
def test_a_renewal_never_passes_the_longest_life(increment: int, later: int) -> None:
    token = _token()
    now = NOW + timedelta(seconds=later)
    renewed = tokens.renewed(token, increment, now)
    assert renewed.expires_at <= NOW + timedelta(seconds=token.max_ttl)
    assert renewed.expires_at <= now + timedelta(seconds=increment or token.ttl)


def test_what_is_not_renewable_is_not_renewed() -> None:
    with pytest.raises(NotRenewable):
        tokens.renewed(_token(renewable=False), None, NOW)


@pytest.mark.parametrize(("ttl", "max_ttl"), [(0, None), (-1, None), (10, 5), (None, 86401), (86401, None)])
def test_lifetimes_that_are_refused(ttl: int | None, max_ttl: int | None) -> None:
    with pytest.raises(Malformed):
        tokens.lifetimes(SubjectKind.PERSON, ttl, max_ttl)


def test_lifetimes() -> None:
    assert tokens.lifetimes(SubjectKind.PERSON, None, None) == (3600, 86400)
    assert tokens.lifetimes(SubjectKind.PERSON, None, 60) == (60, 60)
    assert tokens.lifetimes(SubjectKind.WORKLOAD, 86401, None) == (86401, 32 * 86400)


# --- rate -------------------------------------------------------------------------------------------------


@pytest.mark.row("V3")
@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.integers(1, 20), st.integers(1, 50))
def test_no_bucket_gives_more_than_its_burst_and_rate(gaps: list[float], burst: int, per_second: int) -> None:
    buckets, now, passed = Buckets(Rate(per_second, burst)), 0.0, 0
    for gap in gaps:
        now += gap
        told = None
        try:
            buckets.take("one", now)
            passed += 1
        except RateLimited as exc:
            told = exc.retry_after
        assert told is None or 0 < told <= 1 / per_second + 1e-9
    assert passed <= burst + per_second * now + 1e-6


def test_waiting_as_told_is_enough() -> None:
    buckets = Buckets(Rate(per_second=2, burst=1))
    buckets.take("one", 0)
    with pytest.raises(RateLimited) as caught:
        buckets.take("one", 0)
    buckets.take("one", caught.value.retry_after)


def test_memory_is_bounded() -> None:
    buckets = Buckets(Rate(per_second=1, burst=1), max_keys=10)
    for key in range(100):
        buckets.take(key, 0)
    assert len(buckets) == 10
