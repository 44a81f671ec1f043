"""Argon2id in a bounded pool: a flood of sign-ins queues briefly, then is refused; it never starves the rest.

One hash costs 64 MiB and about 0.2 s of CPU on a small machine, so at most ``workers`` run at once and at most
``queue`` wait. The work runs in threads: argon2's C code releases the interpreter lock.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from limen.kernel.errors import Unavailable

MEMORY_KIB: Final = 64 * 1024
TIME_COST: Final = 3
PARALLELISM: Final = 4
_QUEUE_PER_WORKER: Final = 16

T = TypeVar("T")


class PasswordHasher:
    """Hashes and verifies passwords (RFC 9106: argon2id, 64 MiB, t=3, p=4, 16-byte salt, 32-byte tag)."""

    def __init__(self, workers: int | None = None, queue: int | None = None) -> None:
        self._workers = workers if workers is not None else max(1, (os.cpu_count() or 1) // 2)
        self._capacity = self._workers + (queue if queue is not None else self._workers * _QUEUE_PER_WORKER)
        self._busy = 0
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="argon2")
        self._argon2 = argon2.PasswordHasher(
            time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM, type=argon2.Type.ID
        )
        self._nobody: str | None = None

    async def hash(self, password: bytes) -> str:
        """Return the encoded hash (PHC string).

        Raises:
            Unavailable: when too many are waiting already.
        """
        return await self._run(lambda: self._argon2.hash(password))

    async def matches(self, password: bytes, encoded: str | None) -> bool:
        """Whether the password fits; ``None`` (no such account) costs the same and never fits.

        Raises:
            Unavailable: when too many are waiting already.
        """
        return await self._run(lambda: self._verify(password, encoded))

    def close(self) -> None:
        """Stop the threads once the running hashes are done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _verify(self, password: bytes, encoded: str | None) -> bool:
        try:
            self._argon2.verify(encoded if encoded is not None else self._hash_of_nobody(), password)
        except (VerificationError, InvalidHashError):
            return False
        return encoded is not None

    def _hash_of_nobody(self) -> str:
        """A hash of a password that nobody knows, so that an unknown account costs one verification."""
        if self._nobody is None:
            self._nobody = self._argon2.hash(secrets.token_bytes(32))
        return self._nobody

    async def _run(self, work: Callable[[], T]) -> T:
        if self._busy >= self._capacity:
            raise Unavailable("too many sign-ins at once", fix="try again in a few seconds")
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1

    async def warm(self) -> None:
        """Compute the stand-in hash before the first sign-in, so that it does not cost that one double."""
        await self._run(self._hash_of_nobody)
