"""Throttle counters: rows found by HMAC, locked while one attempt is counted."""

from datetime import datetime

from limen.control.identity.rules import Counter, Scope
from limen.db.database import Tx


async def lock_counters(tx: Tx, tags: dict[Scope, bytes], now: datetime) -> dict[Scope, Counter]:
    """Lock and return the counters; absent ones are made empty first, so that two first attempts cannot pass."""
    for scope, tag in sorted(tags.items()):
        await tx.execute(
            "INSERT INTO sign_in_attempts (tenant_id, tag, scope, failures, last_at)"
            " VALUES (%s, %s, %s, 0, %s) ON CONFLICT (tenant_id, tag) DO NOTHING",
            (tx.tenant_id, tag, scope.value, now),
        )
    rows = await tx.fetch(
        "SELECT scope, failures, last_at, blocked_until FROM sign_in_attempts"
        " WHERE tenant_id = %s AND tag = ANY(%s) ORDER BY scope, tag FOR UPDATE",
        (tx.tenant_id, list(tags.values())),
    )
    return {Scope(r["scope"]): Counter(r["failures"], r["last_at"], r["blocked_until"]) for r in rows}


async def save_counter(tx: Tx, tag: bytes, counter: Counter) -> None:
    """Write a counter that :func:`lock_counters` locked."""
    await tx.execute(
        "UPDATE sign_in_attempts SET failures = %s, last_at = %s, blocked_until = %s WHERE tenant_id = %s AND tag = %s",
        (counter.failures, counter.last_at, counter.blocked_until, tx.tenant_id, tag),
    )


async def clear_counter(tx: Tx, tag: bytes) -> None:
    """Forget all failures of a tag."""
    await tx.execute("DELETE FROM sign_in_attempts WHERE tenant_id = %s AND tag = %s", (tx.tenant_id, tag))


async def forget_silent(tx: Tx, before: datetime) -> None:
    """Delete some counters that were last touched before; a few at each attempt keep the table small."""
    await tx.execute(
        "DELETE FROM sign_in_attempts WHERE tenant_id = %s AND tag IN (SELECT tag FROM sign_in_attempts"
        " WHERE tenant_id = %s AND last_at < %s ORDER BY last_at LIMIT 20 FOR UPDATE SKIP LOCKED)",
        (tx.tenant_id, tx.tenant_id, before),
    )


async def take_back(tx: Tx, tag: bytes, counted: Counter) -> None:
    """Undo one counted attempt; a lock that another attempt has set since stays."""
    await tx.execute(
        "UPDATE sign_in_attempts SET failures = greatest(failures - 1, 0),"
        " blocked_until = CASE WHEN blocked_until = %s THEN NULL ELSE blocked_until END"
        " WHERE tenant_id = %s AND tag = %s",
        (counted.blocked_until, tx.tenant_id, tag),
    )
