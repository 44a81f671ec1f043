"""What people type for ports, times of day, days, durations and instants, as the API wants it. Pure.

Everything here raises :class:`UsageError` with an example of what would be right.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from limen.cli.errors import UsageError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NAMES = {name: index for names in (_DAYS, _LONG) for index, name in enumerate(names)}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_PORT = re.compile(r"(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?")
_WINDOW = re.compile(r"([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})")


def port(text: str) -> dict[str, str | int]:
    """``tcp/443``, ``udp/5000-5100`` or ``icmp``."""
    if text.lower() == "icmp":
        return {"protocol": "icmp", "first": 0, "last": 0}
    match = _PORT.fullmatch(text.lower())
    if match is None:
        raise UsageError(f"'{text}' is not a port", fix="write tcp/443, udp/5000-5100 or icmp")
    first = int(match[2])
    last = int(match[3]) if match[3] else first
    if not 1 <= first <= last <= 65535:
        raise UsageError(f"'{text}' is not a range of ports", fix="ports are 1 to 65535, the lower one first")
    return {"protocol": match[1], "first": first, "last": last}


def duration(text: str) -> int:
    """``90s``, ``15m``, ``8h``, ``2d``, ``1w`` or several in a row (``1h30m``), in seconds."""
    if not _DURATION.fullmatch(text.lower()):
        raise UsageError(f"'{text}' is not a duration", fix="write 90s, 15m, 8h, 2d or 1h30m")
    seconds = sum(int(part[:-1]) * _SECONDS[part[-1]] for part in re.findall(r"[0-9]+[smhdw]", text.lower()))
    if seconds == 0:
        raise UsageError("a duration of nothing makes no sense", fix="write 90s, 15m, 8h, 2d or 1h30m")
    return seconds


def instant(text: str, now: datetime) -> str:
    """A time in ISO 8601 (UTC unless it says otherwise), or a duration before ``now``."""
    if _DURATION.fullmatch(text.lower()):
        try:
            return (now - timedelta(seconds=duration(text))).isoformat()
        except OverflowError:
            raise UsageError(f"'{text}' ago is before all time", fix="write a shorter duration") from None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a time", fix="write 2026-01-31, 2026-01-31T09:00Z, or 2h for ago") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def days(text: str) -> list[int]:
    """``mon-fri``, ``sat,sun`` or both in one; 1 is Monday. A range may run over Sunday (``fri-mon``)."""
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.strip().partition("-")
        try:
            start = _NAMES[first]
            end = _NAMES[last] if dash else start
        except KeyError:
            raise UsageError(f"'{text}' does not name days", fix="write mon-fri, or sat,sun") from None
        found |= {(start + step) % 7 + 1 for step in range((end - start) % 7 + 1)}
    return sorted(found)


def window(between: str, zone: str, on: str) -> dict[str, Any]:
    """The condition ``time-window`` from ``09:00-18:00``, a time zone and days."""
    match = _WINDOW.fullmatch(between)
    if match is None:
        raise UsageError(f"'{between}' is not a time of day", fix="write --between 09:00-18:00")
    if not all(_is_time(part) for part in match.groups()):
        raise UsageError(f"'{between}' is not a time of day", fix="write --between 09:00-18:00")
    if not zone:
        raise UsageError("--between needs a time zone", fix="add for example --zone Europe/Paris")
    if not _may_be_zone(zone):
        raise UsageError(f"there is no time zone '{zone}'", fix="write for example --zone Europe/Paris")
    return {"kind": "time-window", "days": days(on), "start": match[1], "end": match[2], "zone": zone}


def _is_time(text: str) -> bool:
    hours, _, minutes = text.partition(":")
    return int(hours) < 24 and int(minutes) < 60


def _may_be_zone(name: str) -> bool:
    """False only where this machine knows time zones and not this one; the server has the last word."""
    return _is_zone(name) or not _is_zone("Europe/Paris")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def condition(text: str) -> dict[str, Any]:
    """A condition in JSON, as ``limen policy list --json`` shows it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError("--condition is not a JSON object", fix="""write '{"kind":"verified-device"}'""")
    return found


def duration_words(seconds: int) -> str:
    """The reverse of :func:`duration`: ``1h30m``."""
    words = ""
    for unit in ("d", "h", "m", "s"):
        share, seconds = divmod(seconds, _SECONDS[unit])
        words += f"{share}{unit}" if share else ""
    return words or "0s"


def day_words(numbers: list[int]) -> str:
    """The reverse of :func:`days`: ``mon-fri`` for a run of three or more, else the days."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts: list[str] = []
    for run in runs:
        names = [_DAYS[number - 1] for number in run]
        parts += [f"{names[0]}-{names[-1]}"] if len(names) > 2 else names
    return ",".join(parts)


def spread(given: list[str]) -> list[str]:
    """Options that may be repeated or separated by commas, in order and without repetition."""
    parts = (part.strip() for entry in given for part in entry.split(","))
    return list(dict.fromkeys(part for part in parts if part))
