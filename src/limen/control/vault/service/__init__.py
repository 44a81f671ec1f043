"""Use cases of the vault. :func:`compose_vault` joins them; the process's main calls it once.

``door`` authorises, ``ledger`` records uses in batches, ``secrets`` and ``tokens`` do the work, ``workloads``
keeps the programs that may hold tokens.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from limen.control.policy.service import PolicyAdministrator
from limen.control.vault.ports import ValueCustody
from limen.control.vault.rules.rate import Buckets, Rate
from limen.control.vault.service.door import Door
from limen.control.vault.service.ledger import UseLedger
from limen.control.vault.service.secrets import SecretService
from limen.control.vault.service.tokens import TokenService
from limen.control.vault.service.workloads import WorkloadService
from limen.db.database import Database
from limen.db.ports import FieldCipher
from limen.kernel.clock import Clock

__all__ = [
    "DEFAULT_RATE",
    "Door",
    "SecretService",
    "TokenService",
    "UseLedger",
    "VaultService",
    "WorkloadService",
    "compose_vault",
]

DEFAULT_RATE = Rate(per_second=500, burst=1000)
"""Requests of one token. It bounds a runaway client, and leaves room for one that polls every few milliseconds."""


@dataclass(frozen=True, slots=True)
class VaultService:
    """The vault's use cases and what they run on."""

    door: Door
    secrets: SecretService
    tokens: TokenService
    workloads: WorkloadService
    custody: ValueCustody


def compose_vault(
    database: Database,
    cipher: FieldCipher,
    administrator: PolicyAdministrator,
    custody: ValueCustody,
    clock: Clock,
    *,
    rate: Rate = DEFAULT_RATE,
    monotonic: Callable[[], float] = time.monotonic,
) -> VaultService:
    """Join the vault's use cases. ``cipher`` is the one that ``database`` was given."""
    ledger = UseLedger(database, clock)
    door = Door(database, administrator, ledger, clock, Buckets(rate), monotonic)
    return VaultService(
        door=door,
        secrets=SecretService(database, cipher, door, ledger, custody, clock),
        tokens=TokenService(database, door, clock),
        workloads=WorkloadService(database, clock),
        custody=custody,
    )
