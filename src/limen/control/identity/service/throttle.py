"""Throttling of attempts to prove who one is; used by password sign-in and by the file door.

An attempt is counted as failed *before* its password is hashed, under a row lock, and taken back on success: so a
thousand guesses in parallel get as far as five in a row. Refused attempts are not counted, so that knocking on a
locked door does not keep it locked.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from limen.control.identity.rules import (
    FORGOTTEN_AFTER,
    Counter,
    Scope,
    client_address,
    client_network,
    count_attempt,
    refused_for,
)
from limen.control.identity.store import throttle as store
from limen.db.database import Tx
from limen.kernel.errors import RateLimited


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that was counted and may go on."""

    tenant_id: UUID
    tags: dict[Scope, bytes]
    counted: dict[Scope, Counter]


class Throttle:
    """Counts attempts on an account key (any text that names the account) from a source address."""

    async def begin(self, tx: Tx, account: str, source: str, now: datetime) -> Attempt | RateLimited:
        """Count an attempt. A :class:`RateLimited` is returned, not raised, so that ``tx`` can record the refusal.

        ``tx`` must be committed before the password is looked at.
        """
        cipher = await tx.cipher()
        tags = {
            Scope.ACCOUNT: cipher.tag("throttle-account", f"{client_network(source)} {account}"),
            Scope.ADDRESS: cipher.tag("throttle-address", client_address(source)),
        }
        await store.forget_silent(tx, now - FORGOTTEN_AFTER[Scope.ACCOUNT])
        counters = await store.lock_counters(tx, tags, now)
        wait = max(refused_for(counter, now) for counter in counters.values())
        if wait > 0:
            return too_many(wait)
        counted = {scope: count_attempt(scope, counter, now) for scope, counter in counters.items()}
        for scope, counter in counted.items():
            await store.save_counter(tx, tags[scope], counter)
        return Attempt(tx.tenant_id, tags, counted)

    async def succeeded(self, tx: Tx, attempt: Attempt) -> None:
        """Forget the account's failures; the address loses only this attempt, since it may guess at others."""
        await store.clear_counter(tx, attempt.tags[Scope.ACCOUNT])
        await store.take_back(tx, attempt.tags[Scope.ADDRESS], attempt.counted[Scope.ADDRESS])

    async def withdrawn(self, tx: Tx, attempt: Attempt) -> None:
        """The attempt could not be judged (overload): as if it had not been made."""
        for scope in (Scope.ACCOUNT, Scope.ADDRESS):
            await store.take_back(tx, attempt.tags[scope], attempt.counted[scope])

    async def forgive(self, tx: Tx, account: str, source: str) -> None:
        """A successful reset clears the account's failures from that network."""
        cipher = await tx.cipher()
        await store.clear_counter(tx, cipher.tag("throttle-account", f"{client_network(source)} {account}"))


def too_many(wait: float) -> RateLimited:
    """The error of a refused attempt; ``wait`` in seconds."""
    return RateLimited("too many failed attempts", retry_after=wait, fix=f"wait {_in_words(wait)} and try again")


def _in_words(seconds: float) -> str:
    return f"{round(seconds) or 1} seconds" if seconds < 90 else f"{round(seconds / 60)} minutes"
