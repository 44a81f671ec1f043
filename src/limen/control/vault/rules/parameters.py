"""Parameters as Vault's clients send them: numbers, truth values and durations may arrive as text.

The CLI sends ``["1", "2"]`` for versions and ``"true"`` for a flag, SDKs send JSON numbers; both mean the same.
A refused value is never repeated in the message, since a client may have put a secret in the wrong field.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from limen.kernel.errors import Malformed

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False, "": False}
MAX_SECONDS = 100 * 365 * 86400
MAX_CUSTOM_KEYS = 64
MAX_CUSTOM_KEY_BYTES = 128
MAX_CUSTOM_VALUE_BYTES = 512
MAX_VERSIONS_PER_CALL = 1000
MAX_VERSIONS_KEPT = 10_000


def integer(value: object, field: str) -> int:
    """A whole number of at most 18 digits.

    Raises:
        Malformed: for anything else; ``field`` names it.
    """
    if isinstance(value, bool):
        return int(value)
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    if not _INTEGER.fullmatch(text):
        raise Malformed(f"error converting input for field '{field}': expected a whole number", fix="give a number")
    return int(text)


def version_limit(value: object, field: str) -> int:
    """How many versions to keep: 0 (the default number) to ``MAX_VERSIONS_KEPT``.

    Raises:
        Malformed: for anything else.
    """
    number = integer(value, field)
    if not 0 <= number <= MAX_VERSIONS_KEPT:
        raise Malformed(
            f"error converting input for field '{field}': from 0 to {MAX_VERSIONS_KEPT}", fix="keep fewer versions"
        )
    return number


def flag(value: object, field: str) -> bool:
    """A truth value.

    Raises:
        Malformed: for anything that is not one.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    if isinstance(value, str) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    raise Malformed(f"error converting input for field '{field}': expected true or false", fix="give true or false")


def seconds(value: object, field: str) -> int:
    """A duration in whole seconds from ``90``, ``"90"``, ``"1h30m"`` or ``""`` (0); parts of a second are cut.

    Raises:
        Malformed: when it is not a duration, negative or longer than a hundred years.
    """
    if value == "" or (isinstance(value, int | str) and _INTEGER.fullmatch(str(value))):
        amount = Decimal(int(value or 0))
    elif isinstance(value, str) and len(value) <= 64 and _DURATION.fullmatch(value):
        amount = sum(
            (Decimal(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value)), start=Decimal(0)
        )
    else:
        raise Malformed(
            f"error converting input for field '{field}': expected a duration", fix="write it like 90, 45s or 1h30m"
        )
    if not 0 <= amount <= MAX_SECONDS:
        raise Malformed(
            f"error converting input for field '{field}': negative or too long", fix="write it like 90, 45s or 1h30m"
        )
    return int(amount)


def go_duration(total: int) -> str:
    """Seconds as Go prints a duration: ``0s``, ``1m30s``, ``1h0m0s``."""
    hours, rest = divmod(total, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{second}s"
    return f"{minutes}m{second}s" if minutes else f"{second}s"


def version_numbers(value: object) -> tuple[int, ...]:
    """Version numbers from a list of numbers or texts, one number, or text with commas.

    Raises:
        Malformed: when there is none, too many, or one is not a number.
    """
    parts: list[Any]
    if isinstance(value, str):
        parts = value.split(",")
    elif isinstance(value, list):
        parts = value
    else:
        parts = [] if value is None else [value]
    numbers = tuple(
        integer(part.strip() if isinstance(part, str) else part, "versions") for part in parts if part != ""
    )
    if not numbers:
        raise Malformed("No version number provided", fix='send {"versions": [1, 2]}')
    if len(numbers) > MAX_VERSIONS_PER_CALL:
        raise Malformed("too many versions in one call", fix=f"send at most {MAX_VERSIONS_PER_CALL}")
    return numbers


def custom_metadata(value: object) -> dict[str, str]:
    """Custom metadata: at most 64 keys of 128 bytes with printable values of 512 bytes; ``None`` clears.

    Raises:
        Malformed: when it is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed("error converting input for field 'custom_metadata': expected a map", fix="send an object")
    if len(value) > MAX_CUSTOM_KEYS:
        raise Malformed(
            f"custom_metadata validation failed: payload must contain at most {MAX_CUSTOM_KEYS} keys",
            fix="send fewer keys",
        )
    return {_custom_key(key): _custom_value(entry) for key, entry in value.items()}


def patched_custom(current: Mapping[str, str] | None, patch: Mapping[str, str | None]) -> dict[str, str]:
    """``current`` with ``patch`` applied.

    Raises:
        Malformed: when too many keys would be left.
    """
    merged = {**(current or {}), **{key: value for key, value in patch.items() if value is not None}}
    return custom_metadata({key: value for key, value in merged.items() if patch.get(key, "") is not None})


def _custom_key(key: str) -> str:
    if not 0 < len(key.encode()) <= MAX_CUSTOM_KEY_BYTES or not key.isprintable():
        raise Malformed(
            f"custom_metadata validation failed: a key has 1 to {MAX_CUSTOM_KEY_BYTES} printable bytes",
            fix="choose another key",
        )
    return key


def _custom_value(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | Decimal):
        return str(value)
    if not isinstance(value, str):
        raise Malformed("custom_metadata validation failed: a value is text", fix="send text")
    if not 0 < len(value.encode()) <= MAX_CUSTOM_VALUE_BYTES or not value.isprintable():
        raise Malformed(
            f"custom_metadata validation failed: a value has 1 to {MAX_CUSTOM_VALUE_BYTES} printable bytes",
            fix="choose another value",
        )
    return value
