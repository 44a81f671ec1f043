"""The closed set of typed conditions, each a pure question about the environment of a request.

Every condition answers two questions: does it hold now (:func:`check`), and when could time alone change that
answer (:func:`next_change`). The second is what makes a grant end by itself.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from zoneinfo import ZoneInfo

from limen.kernel.access import ConditionResult

Network = IPv4Network | IPv6Network
_WEEK = timedelta(days=7)
_SOURCE_UNKNOWN = ConditionResult("source-address", False, "the source address is unknown", "")
_SOURCE_INSIDE = ConditionResult("source-address", True, "the source address is in an allowed network")
_SOURCE_OUTSIDE = ConditionResult(
    "source-address", False, "the source address is in no allowed network", "connect from an allowed network"
)
_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Environment:
    """What surrounds a request (SP 800-162). ``since`` is when the access began: now for a new one, the time of
    issue when a live grant is decided again."""

    now: datetime
    source: str = ""
    device_verified: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Holds on ``days`` (1 = Monday … 7 = Sunday) from ``start`` until ``end``, wall time in ``zone``.

    A window whose end is not after its start runs past midnight and belongs to the day on which it starts.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: str


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """Holds when the request comes from one of these networks."""

    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class VerifiedDevice:
    """Holds when the subject acts through an enrolled device whose key is pinned."""


@dataclass(frozen=True, slots=True)
class MaxDuration:
    """Always holds; ends the access ``seconds`` after it began."""

    seconds: int


Condition = TimeWindow | SourceAddress | VerifiedDevice | MaxDuration


def check(condition: Condition, env: Environment) -> ConditionResult:
    """Evaluate one condition, with words that a person can act on."""
    match condition:
        case TimeWindow():
            return _check_window(condition, env)
        case SourceAddress():
            return _check_source(condition, env)
        case VerifiedDevice():
            return ConditionResult(
                "verified-device",
                env.device_verified,
                "the device is enrolled" if env.device_verified else "no enrolled device",
                "" if env.device_verified else "connect with 'limen client' on an enrolled device",
            )
        case MaxDuration():
            return ConditionResult("max-duration", True, f"at most {condition.seconds} s", "")


def next_change(condition: Condition, env: Environment) -> datetime | None:
    """The earliest instant after ``env.now`` at which time alone can change the condition; None if never."""
    match condition:
        case TimeWindow():
            return _window_transition(condition, env.now)
        case MaxDuration():
            return (env.since or env.now) + timedelta(seconds=condition.seconds)
        case _:
            return None


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """A window around one day. ``edges`` are the instants (UTC) at which it opens, closes, opens …, in order."""

    edges: tuple[datetime, ...]
    inside: ConditionResult
    outside: ConditionResult


@lru_cache(maxsize=4096)
def _calendar(window: TimeWindow, day: date) -> _Calendar:
    """The window's spans that start from nine days before until nine days after ``day``, merged where they touch.

    ``day`` may be the date in any zone, which is why it is more than the eight days that a weekly window needs.
    Remembered, since it is the same for every decision of a day and costs far more than the rest of one.
    """
    zone = _zone(window.zone)
    edges: list[datetime] = []
    for offset in range(-9, 10):
        first = day + timedelta(days=offset)
        if first.isoweekday() not in window.days:
            continue
        last = first if window.end > window.start else first + timedelta(days=1)
        begin = datetime.combine(first, window.start, zone).astimezone(UTC)
        end = datetime.combine(last, window.end, zone).astimezone(UTC)
        if end <= begin:  # a window inside the hour that a clock change skips
            continue
        if edges and begin <= edges[-1]:
            edges[-1] = max(end, edges[-1])
        else:
            edges += (begin, end)
    days = ",".join(_DAY_NAMES[number - 1] for number in sorted(window.days))
    text = f"{days} {window.start:%H:%M}-{window.end:%H:%M} {window.zone}"
    return _Calendar(
        tuple(edges),
        inside=ConditionResult("time-window", True, f"inside {text}"),
        outside=ConditionResult("time-window", False, f"outside {text}", "try again inside that time"),
    )


def _check_window(window: TimeWindow, env: Environment) -> ConditionResult:
    calendar = _calendar(window, env.now.date())
    # After an odd number of edges the window is open.
    return calendar.inside if bisect_right(calendar.edges, env.now) % 2 else calendar.outside


def _window_transition(window: TimeWindow, now: datetime) -> datetime | None:
    edges = _calendar(window, now.date()).edges
    ahead = bisect_right(edges, now)
    # A window repeats weekly: an edge further off than a week is the end of what was computed, no change.
    if ahead == len(edges) or edges[ahead] > now + _WEEK:
        return None
    return edges[ahead]


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _check_source(condition: SourceAddress, env: Environment) -> ConditionResult:
    address = _address(env.source)
    if address is None:
        return _SOURCE_UNKNOWN
    for network in condition.networks:
        if address.version == network.version and address in network:
            return _SOURCE_INSIDE
    return _SOURCE_OUTSIDE
