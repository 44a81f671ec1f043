"""Use cases of the audit trail: record events, read them back.

``record`` runs in the caller's transaction: the change and its record commit together or not at all. It costs
one round trip. It never fails because of what a stranger typed (see :func:`rules.leaf.clean`); it does
fail, and the change with it, when the tenant's keys are not available, because an address must not be
stored in the clear.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from limen.control.audit import store
from limen.control.audit.model import AuditEvent, AuditFilter, AuditRecord, Outcome
from limen.control.audit.rules import leaf
from limen.crypto import merkle
from limen.db.database import Row, Tx
from limen.db.ports import TenantCipher
from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id
from limen.kernel.principal import ActorKind

MAX_LIMIT = 1000


async def record(tx: Tx, event: AuditEvent, at: datetime) -> UUID:
    """Write down one event in the caller's transaction; return the record's id.

    Raises:
        Unavailable: when the tenant's keys or the database do not answer.
    """
    return (await record_many(tx, [(event, at)]))[0]


async def record_many(tx: Tx, events: Iterable[tuple[AuditEvent, datetime]]) -> list[UUID]:
    """Write down a batch of (event, time) in one statement; return the ids in order.

    Raises:
        Unavailable: when the tenant's keys or the database do not answer.
    """
    batch = [(event, at, leaf.values_of(event)) for event, at in events]
    sealing = any(values.source or values.personal for _, _, values in batch)
    cipher = await tx.cipher() if sealing else None
    rows = [_new_record(tx.tenant_id, event, at, values, cipher) for event, at, values in batch]
    await store.insert(tx, rows)
    return [row.id for row in rows]


async def search(tx: Tx, wanted: AuditFilter, *, open_personal: bool) -> list[AuditRecord]:
    """Records that match ``wanted``, newest first.

    ``open_personal`` also opens source addresses and personal detail; pass what the caller's permission
    allows.

    Raises:
        Malformed: when the limit is outside 1..1000.
        Unavailable: when the tenant's keys or the database do not answer.
    """
    if not 1 <= wanted.limit <= MAX_LIMIT:
        raise Malformed(f"limit must be between 1 and {MAX_LIMIT}", fix="ask for fewer and page with 'before'")
    tag = (await tx.cipher()).tag("address", wanted.source) if wanted.source else None
    rows = await store.search(tx, wanted, tag)
    cipher = await tx.cipher() if open_personal and any(row["sealed"] for row in rows) else None
    return [_record(row, cipher) for row in rows]


def opened(row: Row, cipher: TenantCipher | None) -> leaf.Values | None:
    """The values of a stored record, or None when they were erased.

    Raises:
        Unreadable: when the sealed part does not open.
    """
    if row["salts"] is None:
        return None
    source, personal = _sealed_part(row, cipher)
    return leaf.Values(
        outcome=row["outcome"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        source=source,
        object_kind=row["object_kind"],
        object_id=row["object_id"],
        detail=row["detail"],
        personal=personal,
    )


def _sealed_part(row: Row, cipher: TenantCipher | None) -> tuple[str, dict[str, str]]:
    if row["sealed"] is None or cipher is None:
        return "", {}
    plain = cipher.open(store.SEALED_TABLE, store.SEALED_COLUMN, row["id"], row["sealed"])
    content: dict[str, Any] = json.loads(plain)
    return content["source"], content["personal"]


def _record(row: Row, cipher: TenantCipher | None) -> AuditRecord:
    erased = row["salts"] is None
    hidden = erased or (row["sealed"] is not None and cipher is None)
    source, personal = ("", {}) if hidden else _sealed_part(row, cipher)
    return AuditRecord(
        id=row["id"],
        at=row["at"],
        action=row["action"],
        outcome=Outcome(row["outcome"]),
        actor_kind=ActorKind(row["actor_kind"]),
        actor_id=row["actor_id"],
        object_kind=row["object_kind"],
        object_id=row["object_id"],
        detail={} if erased else row["detail"],
        source=None if hidden else source,
        personal=None if hidden else personal,
        erased=erased,
    )


def _new_record(
    tenant_id: UUID, event: AuditEvent, at: datetime, values: leaf.Values, cipher: TenantCipher | None
) -> store.NewRecord:
    record_id, salts = new_id(), leaf.new_salts()
    encoded = leaf.encode(tenant_id, record_id, at, action=event.action, salts=salts, values=values)
    sealed = tag = None
    if cipher is not None and (values.source or values.personal):
        sealed = cipher.seal(
            store.SEALED_TABLE,
            store.SEALED_COLUMN,
            record_id,
            _sealed_plaintext(values.source, values.personal),
        )
        tag = cipher.tag("address", values.source) if values.source else None
    return store.NewRecord(
        id=record_id,
        at=at,
        action=event.action,
        outcome=values.outcome,
        actor_kind=values.actor_kind,
        actor_id=values.actor_id,
        object_kind=values.object_kind,
        object_id=values.object_id,
        leaf=encoded,
        leaf_hash=merkle.leaf_hash(encoded),
        salts=salts,
        detail=leaf.canonical_json(values.detail).decode(),
        source_tag=tag,
        sealed=sealed,
    )


def _sealed_plaintext(source: str, personal: Mapping[str, str]) -> bytes:
    return json.dumps({"source": source, "personal": dict(personal)}).encode()
