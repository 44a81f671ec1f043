"""Tables, fields and times."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from limen.cli import render


def test_a_table_lines_up() -> None:
    rows = [{"name": "a", "n": 1}, {"name": "longer", "n": None}]
    assert render.table(rows, {"name": "name", "count": "n"}, empty="none") == ("NAME    COUNT\na       1\nlonger  -")
    assert render.table([], {"name": "name"}, empty="none") == "none"


def test_wide_characters_take_two_columns() -> None:
    lines = render.table([{"n": "東京", "m": "x"}, {"n": "e\u0301", "m": "y"}], {"n": "n", "m": "m"}, empty="").split(
        "\n"
    )
    assert {render.width(line[: line.rindex(last)]) for line, last in zip(lines, "Mxy", strict=True)} == {6}


def test_values_for_people() -> None:
    assert [render.plain(value) for value in (True, False, None, "", [], ["a", True], 5)] == [
        "yes",
        "no",
        "-",
        "-",
        "-",
        "a, yes",
        "5",
    ]


@given(st.text())
def test_no_name_steers_a_terminal(text: str) -> None:
    for shown in (render.plain(text), render.fields({"name": text}), render.moment(text)):
        assert not [character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")]


def test_escape_sequences_and_overrides_are_seen() -> None:
    assert render.plain("\x1b[2Jowner\u202eniamda") == "?[2Jowner?niamda"


def test_moments_are_utc() -> None:
    assert render.moment("2026-01-31T09:00:00.5+01:00") == "2026-01-31 08:00:00Z"
    assert render.moment(None) == "-"
    assert render.moment("soon") == "soon"
