"""Puts the writes of one upload in order. Sans-IO.

Object stores take a stream, SFTP clients send offsets, and some send several writes that overtake each other. Rules:

1. Bytes leave in order and once. What arrives exactly at the end of what has left passes straight through.
2. A write ahead of the end waits, as long as all that waits fits into the window; more is refused.
3. A write before the end, or one that overlaps what waits, would change bytes that have left or are promised, and
   is refused, except for an exact repetition of nothing (zero bytes).
4. After a refusal the upload is spoilt: everything later is refused too, so that nothing with a hole is ever stored.
5. :meth:`finish` refuses as long as something waits: there is a hole.
"""

from typing import Final

from limen.kernel.errors import Conflict

WINDOW_BYTES: Final = 8 << 20
MAX_WAITING: Final = 512
"""Pieces that may wait, however small: each write is compared with them."""


class NotSequential(Conflict):
    """The writes do not make up a stream."""


class Reassembly:
    """The order of one upload; ``window`` bounds the bytes that may wait."""

    def __init__(self, window: int = WINDOW_BYTES, *, append: bool = False) -> None:
        self._window = window
        self._append = append
        self._end = 0
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._spoilt = False

    @property
    def end(self) -> int:
        """How many bytes have left in order."""
        return self._end

    @property
    def size(self) -> int:
        """The size of the file as the client has written it so far, holes included."""
        return max([self._end, *(offset + len(data) for offset, data in self._waiting.items())])

    def write(self, offset: int, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Take one write; return the pieces that now leave, in order. With ``append`` the offset is not looked at.

        Raises:
            NotSequential: by rule 2, 3 or 4.
        """
        if self._spoilt:
            raise NotSequential("the upload was refused before")
        if not data:
            return []
        if self._append:
            offset = self._end
        if offset < self._end or self._overlaps(offset, len(data)):
            self._refuse("changing what was already written is not possible here")
        if offset > self._end:
            if self._waiting_bytes + len(data) > self._window or len(self._waiting) >= MAX_WAITING:
                self._refuse("writing out of order over this distance is not possible here")
            self._waiting[offset] = bytes(data)
            self._waiting_bytes += len(data)
            return []
        pieces: list[bytes | memoryview] = [data]
        self._end += len(data)
        while (following := self._waiting.pop(self._end, None)) is not None:
            pieces.append(following)
            self._waiting_bytes -= len(following)
            self._end += len(following)
        return pieces

    def finish(self) -> int:
        """The client is done; return the size.

        Raises:
            NotSequential: when there is a hole, or the upload was refused before.
        """
        if self._spoilt:
            raise NotSequential("the upload was refused before")
        if self._waiting:
            self._refuse("a part of the file was never written")
        return self._end

    def _overlaps(self, offset: int, length: int) -> bool:
        return any(start < offset + length and offset < start + len(d) for start, d in self._waiting.items())

    def _refuse(self, why: str) -> None:
        self._spoilt = True
        self._waiting.clear()
        self._waiting_bytes = 0
        raise NotSequential(why)
