"""Jobs of the ledger."""

import asyncio

import structlog

from limen.control.grants.service import GrantLedger
from limen.db.database import Database, SystemRole
from limen.kernel.clock import Clock
from limen.kernel.errors import Unavailable

SWEEP_SECONDS = 5.0
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


async def run_expiry(database: Database, ledger: GrantLedger, clock: Clock) -> None:
    """Sweep until cancelled."""
    while True:
        try:
            await expire_grants(database, ledger, clock)
        except Unavailable:
            _log.warning("expiry sweep skipped: the database does not answer")
        await asyncio.sleep(SWEEP_SECONDS)
