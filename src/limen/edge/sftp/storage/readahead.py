"""Reads of one object, ahead of the client and within bounds.

The object is fetched in aligned chunks. A client that reads on and on gets more and more chunks fetched in advance
(none, one, two, three); one that jumps about gets none. At most :data:`MAX_CHUNKS` chunks are held, and nothing is
fetched for a client that has stopped reading, since only a read starts a fetch.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

CHUNK_BYTES: Final = 2 << 20
MAX_AHEAD: Final = 3
MAX_CHUNKS: Final = MAX_AHEAD + 2

Fetch = Callable[[int, int], Awaitable[memoryview]]


class ReadAhead:
    """``fetch(offset, length)`` gets exactly that range of an object of ``size`` bytes."""

    def __init__(self, size: int, fetch: Fetch, *, chunk: int = CHUNK_BYTES) -> None:
        self._size = size
        self._fetch = fetch
        self._chunk = chunk
        self._chunks: OrderedDict[int, asyncio.Future[memoryview]] = OrderedDict()
        self._expected = 0
        self._ahead = 0

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; empty at or beyond the end. Raises what ``fetch`` raises."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        self._ahead = min(self._ahead + 1, MAX_AHEAD) if offset == self._expected and offset else 0
        self._expected = end
        first, last = offset // self._chunk, (end - 1) // self._chunk
        pieces: list[memoryview] = []
        for index in range(first, last + 1):
            start = index * self._chunk
            chunk = await self._get(index)
            pieces.append(chunk[max(offset - start, 0) : end - start])
        for index in range(last + 1, last + 1 + self._ahead):
            if index * self._chunk < self._size:
                self._start(index)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        """Stop what is under way."""
        pending = [task for task in self._chunks.values() if not task.done()]
        for task in pending:
            task.cancel()
        self._chunks.clear()
        await asyncio.gather(*pending, return_exceptions=True)

    def _start(self, index: int) -> asyncio.Future[memoryview]:
        task = self._chunks.get(index)
        if task is None:
            start = index * self._chunk
            length = min(self._chunk, self._size - start)
            task = asyncio.ensure_future(self._fetch(start, length))
            # A chunk fetched ahead may fail without anybody ever asking for it.
            task.add_done_callback(_observe)
            self._chunks[index] = task
        self._chunks.move_to_end(index)
        while len(self._chunks) > MAX_CHUNKS:
            _, oldest = self._chunks.popitem(last=False)
            oldest.cancel()
        return task

    async def _get(self, index: int) -> memoryview:
        task = self._start(index)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            raise
        except Exception:
            # A failed chunk is asked for again by the next read of it.
            self._chunks.pop(index, None)
            raise


def _observe(task: asyncio.Future[memoryview]) -> None:
    if not task.cancelled():
        task.exception()
