"""Policies as data: the JSON form of conditions, and what a policy may say. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import time
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from limen.engine.conditions import Condition, MaxDuration, SourceAddress, TimeWindow, VerifiedDevice
from limen.engine.model import Effect
from limen.kernel.access import ACTIONS_OF_KIND, Action, ResourceKind
from limen.kernel.errors import Malformed

MAX_NAME = 95
MAX_SECONDS = 30 * 86400
MAX_CONDITIONS = 16


def checked_name(name: str) -> str:
    """Return ``name`` if a policy may have it.

    Raises:
        Malformed: otherwise.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise Malformed(f"a policy name is 1 to {MAX_NAME} printable characters", fix="choose another name")
    return name


def checked_actions(names: Sequence[str], kinds: frozenset[ResourceKind]) -> frozenset[Action]:
    """The actions named, each of which must mean something for every kind of resource in the policy.

    Raises:
        Malformed: when there is none, or one does not fit.
    """
    if not names:
        raise Malformed("a policy needs at least one action", fix="for example connect, read, write, list, delete")
    try:
        actions = frozenset(Action(name) for name in names)
    except ValueError as exc:
        known = ", ".join(Action)
        raise Malformed("unknown action in the policy", fix=f"use some of: {known}") from exc
    for kind in kinds:
        misfits = actions - ACTIONS_OF_KIND[kind]
        if misfits:
            fit = ", ".join(sorted(ACTIONS_OF_KIND[kind]))
            raise Malformed(f"'{min(misfits)}' is no action of a {kind} resource", fix=f"use some of: {fit}")
    return actions


def load_conditions(raw: Sequence[Mapping[str, Any]], effect: Effect) -> tuple[Condition, ...]:
    """Parse the JSON form of conditions.

    Raises:
        Malformed: on an unknown kind, an unknown or missing field, or a wrong value.
    """
    if len(raw) > MAX_CONDITIONS:
        raise Malformed(f"a policy has at most {MAX_CONDITIONS} conditions", fix="split the policy")
    conditions = tuple(_load(entry) for entry in raw)
    if effect is Effect.DENY and any(isinstance(condition, MaxDuration) for condition in conditions):
        raise Malformed("max-duration makes no sense in a deny policy", fix="leave it out")
    return conditions


def dump_conditions(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """The JSON form of conditions; :func:`load_conditions` reads it back."""
    return [_dump(condition) for condition in conditions]


def _load(entry: Mapping[str, Any]) -> Condition:
    fields = dict(entry)
    kind = fields.pop("kind", None)
    try:
        match kind:
            case "time-window":
                return _load_window(**fields)
            case "source-address":
                return _load_source(**fields)
            case "verified-device":
                return VerifiedDevice(**fields)
            case "max-duration":
                return _load_duration(**fields)
    except (TypeError, ValueError, AttributeError) as exc:
        raise Malformed(f"a field of the condition '{kind}' is missing, unknown or wrong", fix=_SHAPES[kind]) from exc
    raise Malformed("unknown kind of condition", fix=f"use one of: {', '.join(_SHAPES)}")


_SHAPES = {
    "time-window": '{"kind":"time-window","days":[1,2,3,4,5],"start":"09:00","end":"18:00","zone":"Europe/Paris"}',
    "source-address": '{"kind":"source-address","networks":["203.0.113.0/24"]}',
    "verified-device": '{"kind":"verified-device"}',
    "max-duration": '{"kind":"max-duration","seconds":3600}',
}


def _load_window(days: Sequence[int], start: str, end: str, zone: str) -> TimeWindow:
    if not days or not all(type(day) is int and 1 <= day <= 7 for day in days):
        raise ValueError("days")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError("zone") from exc
    return TimeWindow(frozenset(days), _clock_time(start), _clock_time(end), zone)


def _clock_time(text: str) -> time:
    if not re.fullmatch(r"[0-2]\d:[0-5]\d", text):
        raise ValueError("time")
    return time.fromisoformat(text)


def _load_source(networks: Sequence[str]) -> SourceAddress:
    if not networks or isinstance(networks, str) or len(networks) > 256:
        raise ValueError("networks")
    return SourceAddress(tuple(ip_network(text) for text in networks))


def _load_duration(seconds: int) -> MaxDuration:
    if type(seconds) is not int or not 1 <= seconds <= MAX_SECONDS:
        raise ValueError("seconds")
    return MaxDuration(seconds)


def _dump(condition: Condition) -> dict[str, Any]:
    match condition:
        case TimeWindow():
            return {
                "kind": "time-window",
                "days": sorted(condition.days),
                "start": f"{condition.start:%H:%M}",
                "end": f"{condition.end:%H:%M}",
                "zone": condition.zone,
            }
        case SourceAddress():
            return {"kind": "source-address", "networks": [str(network) for network in condition.networks]}
        case VerifiedDevice():
            return {"kind": "verified-device"}
        case MaxDuration():
            return {"kind": "max-duration", "seconds": condition.seconds}
