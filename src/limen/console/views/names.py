"""Audit records in words."""

from uuid import UUID

from limen.control.audit.model import AuditRecord
from limen.kernel.principal import ActorKind

_SUMMARY_CHARACTERS = 48
_SUMMARY_FACTS = 2


def who_did(record: AuditRecord, names: dict[UUID, str]) -> str:
    """The actor: a name, the kind of actor, or, where nobody was signed in, as whom somebody tried."""
    if record.actor_kind is ActorKind.ANONYMOUS:
        known = names.get(record.object_id) if record.object_id is not None else None
        claimed = known or (record.personal or {}).get("email", "")
        return f"somebody as {claimed}" if claimed else "somebody"
    known = names.get(record.actor_id) if record.actor_id is not None else None
    return known or str(record.actor_kind)


def summary(record: AuditRecord) -> str:
    """The record's detail in one short line: its reason, or its first facts."""
    if reason := record.detail.get("reason"):
        return _cut(str(reason))
    facts = [*(record.personal or {}).items(), *((k, v) for k, v in record.detail.items() if v not in (None, ""))]
    plain = [f"{name} {_word(value)}" for name, value in facts if not _is_id(value)]
    return _cut(", ".join(plain[:_SUMMARY_FACTS])) or "details"


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _is_id(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= _SUMMARY_CHARACTERS else text[: _SUMMARY_CHARACTERS - 1] + "…"
