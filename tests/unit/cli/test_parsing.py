"""What people type for ports, durations, days and times."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.cli import parsing
from limen.cli.errors import UsageError

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp/443", ("tcp", 443, 443)),
        ("UDP/5000-5100", ("udp", 5000, 5100)),
        ("icmp", ("icmp", 0, 0)),
        ("tcp/1-65535", ("tcp", 1, 65535)),
    ],
)
def test_ports(text: str, expected: tuple[str, int, int]) -> None:
    found = parsing.port(text)
    assert (found["protocol"], found["first"], found["last"]) == expected


@pytest.mark.parametrize(
    "text",
    ["443", "tcp", "tcp/", "tcp/0", "tcp/70000", "tcp/9-8", "sctp/1", "tcp/-1", "tcp/1-", "icmp/8", "", "tcp/٤٤٣"],
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsing.port(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("8h", 28800), ("2d", 172800), ("1w", 604800), ("1H30M", 5400)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parsing.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "1.5h", "0s", "1y", "1h ", "9999999999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parsing.duration(text)


@given(st.integers(1, 10**8))
def test_durations_come_back_from_words(seconds: int) -> None:
    assert parsing.duration(parsing.duration_words(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mon-fri", [1, 2, 3, 4, 5]),
        ("sat,sun", [6, 7]),
        ("fri-mon", [1, 5, 6, 7]),
        ("Monday, wed", [1, 3]),
        ("mon-sun", [1, 2, 3, 4, 5, 6, 7]),
        ("sun-sun", [7]),
    ],
)
def test_days(text: str, expected: list[int]) -> None:
    assert parsing.days(text) == expected


@pytest.mark.parametrize("text", ["", "1-5", "mon-", "-fri", "mo", "mon;tue", "mon,,tue"])
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(UsageError):
        parsing.days(text)


@given(st.sets(st.integers(1, 7), min_size=1))
def test_days_come_back_from_words(numbers: set[int]) -> None:
    assert parsing.days(parsing.day_words(list(numbers))) == sorted(numbers)


def test_a_window_is_the_apis_condition() -> None:
    assert parsing.window("22:00-06:00", "Europe/Paris", "sat") == {
        "kind": "time-window",
        "days": [6],
        "start": "22:00",
        "end": "06:00",
        "zone": "Europe/Paris",
    }


@pytest.mark.parametrize(
    ("between", "zone"),
    [
        ("9-18", "Europe/Paris"),
        ("09:00-24:00", "Europe/Paris"),
        ("09:60-18:00", "Europe/Paris"),
        ("09:00-18:00", ""),
        ("09:00-18:00", "Mars/Olympus"),
    ],
)
def test_what_is_no_window(between: str, zone: str) -> None:
    with pytest.raises(UsageError):
        parsing.window(between, zone, "mon-fri")


def test_instants() -> None:
    assert parsing.instant("2026-01-31", NOW) == "2026-01-31T00:00:00+00:00"
    assert parsing.instant("2026-01-31T09:00+01:00", NOW) == "2026-01-31T09:00:00+01:00"
    assert parsing.instant("2h", NOW) == (NOW - timedelta(hours=2)).isoformat()
    for text in ("yesterday", "", "2026-13-01", "999999999w"):
        with pytest.raises(UsageError):
            parsing.instant(text, NOW)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "null", "[" * 100_000])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError):
        parsing.condition(text)


@given(st.text(max_size=40))
def test_nothing_typed_raises_anything_else(text: str) -> None:
    fixes: list[str] = []
    for parse in (
        parsing.port,
        parsing.duration,
        parsing.days,
        parsing.condition,
        lambda typed: parsing.instant(typed, NOW),
        lambda typed: parsing.window(typed, "Europe/Paris", "mon"),
        lambda typed: parsing.window("09:00-18:00", typed, "mon"),
    ):
        try:
            parse(text)
        except UsageError as exc:
            fixes.append(exc.fix)
    assert all(fixes)


def test_repeated_options_may_be_separated_by_commas() -> None:
    assert parsing.spread(["read,write", "list", "read", " , "]) == ["read", "write", "list"]
