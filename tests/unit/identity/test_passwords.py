"""Argon2id: the parameters that row I1 asks for, and the bounded pool."""

import asyncio
import threading

import argon2
import pytest

from limen.control.identity.service.passwords import PasswordHasher
from limen.kernel.errors import Unavailable


@pytest.mark.row("I1")
async def test_parameters() -> None:
    hasher = PasswordHasher(workers=1)
    try:
        encoded = await hasher.hash(b"a lamp beside the old door")
        parameters = argon2.extract_parameters(encoded)
        assert parameters.type is argon2.Type.ID
        assert parameters.version == 19
        assert parameters.memory_cost >= 64 * 1024
        assert parameters.time_cost >= 3
        assert parameters.parallelism >= 4
        assert (parameters.salt_len, parameters.hash_len) == (16, 32)
        assert await hasher.matches(b"a lamp beside the old door", encoded)
        assert not await hasher.matches(b"another lamp", encoded)
        assert not await hasher.matches(b"a lamp beside the old door", None)
        assert not await hasher.matches(b"a lamp beside the old door", "$argon2id$nonsense")
    finally:
        hasher.close()


class Gated(PasswordHasher):
    """Hashing takes until it is let go."""

    def __init__(self, workers: int, queue: int) -> None:
        super().__init__(workers, queue)
        self.gate = threading.Event()
        self.running = 0
        self.most = 0
        self._count = threading.Lock()

    def _verify(self, password: bytes, encoded: str | None) -> bool:
        with self._count:
            self.running += 1
            self.most = max(self.most, self.running)
        self.gate.wait(10)
        with self._count:
            self.running -= 1
        return True


async def test_the_pool_is_bounded_and_refuses_beyond_its_queue() -> None:
    hasher = Gated(workers=2, queue=3)
    try:
        waiting = [asyncio.create_task(hasher.matches(b"x", "y")) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await hasher.matches(b"x", "y")
        hasher.gate.set()
        assert await asyncio.gather(*waiting) == [True] * 5
        assert hasher.most <= 2
        assert await hasher.matches(b"x", "y")
    finally:
        hasher.gate.set()
        hasher.close()


async def test_the_slot_of_a_cancelled_wait_comes_back() -> None:
    hasher = Gated(workers=1, queue=0)
    try:
        task = asyncio.create_task(hasher.matches(b"x", "y"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hasher.gate.set()
        assert await hasher.matches(b"x", "y")
    finally:
        hasher.gate.set()
        hasher.close()
