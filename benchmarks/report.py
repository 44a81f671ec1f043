"""Rows of a benchmark, as a table for people and as JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. ``metric`` names the unit and which direction is better; ``peer`` may be a limit of the design.

    ``ratio`` is ours / peer, None when there is nothing to compare with.
    """

    case: str
    metric: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None


def row(case: str, metric: str, ours: float, peer: float | None = None, peer_name: str = "") -> Row:
    """A row with its ratio, rounded to four significant digits."""
    ratio = ours / peer if peer else None
    return Row(case, metric, _rounded(ours), _rounded(peer), peer_name, _rounded(ratio))  # type: ignore[arg-type]


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text."""
    lines = [("case", "metric", "ours", "peer", "ratio", "peer is")]
    lines += [
        (one.case, one.metric, _shown(one.ours), _shown(one.peer), _shown(one.ratio), one.peer_name) for one in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def write_json(file: Path, name: str, rows: Sequence[Row]) -> None:
    """Write ``{"name", "rows"}``."""
    file.write_text(json.dumps(document(name, rows), indent=2) + "\n", encoding="utf-8")


def document(name: str, rows: Sequence[Row]) -> dict[str, object]:
    """What :func:`write_json` writes."""
    return {"name": name, "rows": [asdict(one) for one in rows]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
