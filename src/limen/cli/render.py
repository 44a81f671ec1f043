"""What people read: tables, fields, times. Pure.

What comes from a server is shown without control characters, so that nobody's name can steer a terminal.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]
Cell = str | Callable[[Row], Any]
Columns = Mapping[str, Cell]
_GAP = "  "


def plain(value: object) -> str:
    """``value`` as text on one line: booleans as words, lists joined, control characters replaced."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(plain(entry) for entry in value) or "-"
        case _:
            return visible(str(value))


def visible(text: str) -> str:
    """``text`` with every control, format and line-breaking character replaced by ``?`` (or a space)."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\t\r":
        return " "
    return "?" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else character


def width(text: str) -> int:
    """Columns that ``text`` takes on a terminal (Unicode TR 11: wide characters take two)."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def table(rows: Sequence[Row], columns: Columns, *, empty: str) -> str:
    """Rows under headings; a cell is a member's name or a function of the row. ``empty`` stands for no rows."""
    if not rows:
        return empty
    lines = [[heading.upper() for heading in columns]]
    lines += [[plain(_cell(row, cell)) for cell in columns.values()] for row in rows]
    widths = [max(width(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(_GAP.join(map(_padded, line, widths)).rstrip() for line in lines)


def fields(pairs: Mapping[str, object]) -> str:
    """Names and values, one pair per line."""
    widest = max((width(name) for name in pairs), default=0)
    return "\n".join(f"{_padded(name, widest)}{_GAP}{plain(value)}" for name, value in pairs.items())


def moment(text: object) -> str:
    """An instant from the API as ``2026-01-02 03:04:05Z``; ``-`` for none."""
    if not text:
        return "-"
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return visible(str(text))
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if at.tzinfo else visible(str(text))


def at(member: str) -> Cell:
    """The cell that shows the instant in ``member``."""
    return lambda row: moment(row.get(member))


def _cell(row: Row, cell: Cell) -> Any:
    return row.get(cell) if isinstance(cell, str) else cell(row)


def _padded(text: str, columns: int) -> str:
    return text + " " * max(0, columns - width(text))
