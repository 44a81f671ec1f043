"""Jobs of the ledger."""

import asyncio
import time
from datetime import timedelta

import structlog

from limen.control.grants.service import GrantLedger
from limen.db.database import Database, SystemRole
from limen.kernel.clock import Clock
from limen.kernel.errors import Unavailable

SWEEP_SECONDS = 5.0
PRUNE_SECONDS = 3600.0
OUTBOX_LIFE = timedelta(days=7)
"""How long a change can be caught up from the outbox; who was away for longer starts from the present state."""

_log = structlog.get_logger(__name__)


async def expire_grants(database: Database, ledger: GrantLedger, clock: Clock) -> int:
    """Mark every overdue grant of every tenant as expired; returns how many.

    Enforcement points closed them by the clock already: this keeps the ledger and the audit trail true.
    """
    async with database.system(SystemRole.EXPIRY) as tx:
        rows = await tx.fetch(
            "SELECT DISTINCT tenant_id FROM grants WHERE state = 'live' AND expires_at <= %s", (clock.now(),)
        )
    count = 0
    for row in rows:
        async with database.transaction(row["tenant_id"]) as tenant_tx:
            count += len(await ledger.expire_overdue(tenant_tx))
    return count


async def prune_outbox(database: Database, clock: Clock) -> int:
    """Delete changes that nobody will catch up with any more; returns how many."""
    async with database.system(SystemRole.EXPIRY) as tx:
        return await tx.execute("DELETE FROM outbox WHERE at < %s", (clock.now() - OUTBOX_LIFE,))


async def run_expiry(database: Database, ledger: GrantLedger, clock: Clock) -> None:
    """Sweep until cancelled."""
    pruned = float("-inf")
    while True:
        try:
            await expire_grants(database, ledger, clock)
            if time.monotonic() - pruned >= PRUNE_SECONDS:
                pruned = time.monotonic()
                await prune_outbox(database, clock)
        except Unavailable:
            _log.warning("expiry sweep skipped: the database does not answer")
        await asyncio.sleep(SWEEP_SECONDS)
