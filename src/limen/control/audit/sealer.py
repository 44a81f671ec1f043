"""The sealer: one step of the chain in one transaction.

Why it is right whatever happens:

* *Concurrent writers.* A record and its pending entry commit together. The sealer takes the entries that it
  can see and no others; one that commits later is taken by a later step. No order of commits loses a leaf.
* *Several sealers.* An advisory lock lets one work at a time; under READ COMMITTED each statement after it
  sees what the previous sealer committed. Should the lock ever fail, two sealers would delete the same
  entries (one of them waits and then finds none) and would insert the same checkpoint number (the primary
  key refuses one of them).
* *Crash.* Taking the entries, writing the seals and writing the checkpoint are one transaction: after a crash
  either all of it is there or the entries are still pending. A signature that was made for a step which did
  not commit never left this process.
"""

from limen.control.audit import seal_store
from limen.control.audit.errors import NotSealed
from limen.control.audit.model import Checkpoint, SignedCheckpoint
from limen.control.audit.ports import Signer
from limen.control.audit.rules import chain
from limen.crypto import signatures
from limen.crypto.errors import BadProof
from limen.db.database import Database, SystemRole
from limen.kernel.clock import Clock

MAX_STEP_LEAVES = 16_384
"""Leaves of one step over all tenants: bounds the transaction."""
MAX_STEPS = 64
"""Steps of one call of :meth:`Sealer.seal_all`: about a million leaves."""


class Sealer:
    """Turns pending entries into seals and signed checkpoints."""

    def __init__(self, database: Database, signer: Signer, clock: Clock) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock

    async def seal_once(self) -> SignedCheckpoint | None:
        """Make one step; None when nothing is pending.

        Raises:
            Unavailable: when the database or the signer does not answer; nothing has changed then.
        """
        async with self._database.system(SystemRole.SEALER) as tx:
            await seal_store.lock(tx)
            pending = await seal_store.take_pending(tx, limit=MAX_STEP_LEAVES, per_tenant=chain.MAX_SEAL_LEAVES)
            if not pending:
                return None
            tenants = sorted({tenant_id for tenant_id, _ in pending})
            public_key = await self._signer.public_key()
            step = chain.plan_step(
                pending,
                await seal_store.tenant_heads(tx, tenants),
                await seal_store.chain_head(tx),
                now=self._clock.now(),
                signing_key_id=chain.key_id(public_key),
            )
            signature = await self._sign(step.checkpoint, public_key)
            await seal_store.insert_step(tx, step, chain.checkpoint_hash(step.checkpoint), signature)
        return SignedCheckpoint(step.checkpoint, signature)

    async def seal_all(self) -> int:
        """Make steps until nothing is pending; return how many. At most MAX_STEPS, so that entries which keep
        arriving do not hold the caller for ever.

        Raises:
            Unavailable: when the database or the signer does not answer; the steps made until then stand.
        """
        for made in range(MAX_STEPS):
            if await self.seal_once() is None:
                return made
        return MAX_STEPS

    async def _sign(self, checkpoint: Checkpoint, public_key: bytes) -> bytes:
        message = chain.checkpoint_bytes(checkpoint)
        signature = await self._signer.sign(message)
        try:
            signatures.verify(public_key, chain.SIGNING_PURPOSE, message, signature)
        except BadProof as exc:
            # A chain is for ever, so a signature that does not verify must never enter it.
            raise NotSealed(
                "the signer's signature does not fit its public key",
                fix="restart limen keyd, then look at its log",
            ) from exc
        return signature
