"""Encode and decode wire structs: JSON, unknown fields refused, one error type."""

from typing import Any, TypeVar

import msgspec

from limen.kernel.errors import Malformed

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of every message; subclasses name themselves with ``tag=``."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a piece of a message; never sent alone."""


_encoder = msgspec.json.Encoder()


def encode(message: object) -> bytes:
    """Encode one message as UTF-8 JSON."""
    return _encoder.encode(message)


def decode(data: bytes | str, union: Any) -> Any:
    """Decode one message of ``union``.

    Raises:
        Malformed: on bad JSON, an unknown tag, an unknown or missing field, or a wrong type. The message
            repeats the position of the fault but never the content, which may hold a secret.
    """
    try:
        return msgspec.json.decode(data, type=union)
    except (msgspec.ValidationError, msgspec.DecodeError) as exc:
        raise Malformed(
            f"message does not follow the protocol: {_without_values(str(exc))}",
            fix="run the same release on both ends, or one minor release apart",
        ) from None


def _without_values(text: str) -> str:
    """msgspec quotes unknown enum values and tags; cut what the peer wrote."""
    return text.split("Invalid value", 1)[0] + "invalid value" if "Invalid value" in text else text
