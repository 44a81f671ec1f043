"""The sealing job of a control-plane process: seal what is pending, then carry the chain to the checkpoint
file.
"""

import asyncio
from dataclasses import dataclass

import structlog

from limen.control.audit.checkpoint_file import CheckpointFile
from limen.control.audit.errors import ForkedTrail
from limen.control.audit.sealer import Sealer
from limen.db.database import Database
from limen.kernel.errors import LimenError

DEFAULT_INTERVAL_SECONDS = 2.0
_MAX_BACKOFF_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SealingJob:
    """What :func:`run` needs. Any number of processes may run it."""

    database: Database
    sealer: Sealer
    file: CheckpointFile
    interval: float = DEFAULT_INTERVAL_SECONDS


async def seal_and_follow(job: SealingJob) -> int:
    """One round; returns the number of checkpoints made.

    The file is followed first: on a chain that contradicts it nothing new is sealed.

    Raises:
        ForkedTrail: the checkpoint file contradicts the database.
        Unavailable: database, signer or file do not answer.
    """
    await job.file.follow(job.database)
    made = await job.sealer.seal_all()
    if made:
        await job.file.follow(job.database)
    return made


async def run(job: SealingJob) -> None:
    """Seal every ``job.interval`` seconds until cancelled; a failure is logged once and retried more slowly."""
    failures, last = 0, ""
    while True:
        try:
            await seal_and_follow(job)
        except LimenError as exc:
            failures += 1
            if exc.message != last:
                last = exc.message
                # A fork is worth a call at night; what is merely unavailable waits in the pending table.
                report = _log.critical if isinstance(exc, ForkedTrail) else _log.error
                report("audit records are not being sealed", code=exc.code, reason=exc.message, fix=exc.fix)
        else:
            if failures:
                _log.info("audit records are being sealed again")
            failures, last = 0, ""
        await asyncio.sleep(min(job.interval * 2 ** min(failures, 10), max(_MAX_BACKOFF_SECONDS, job.interval)))
