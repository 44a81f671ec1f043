"""UUIDv7 identifiers (RFC 9562 section 5.7): time-ordered, made in the application, never by the database."""

import os
import threading
import time
from uuid import UUID

from limen.kernel.errors import Malformed

_RAND_A_MAX = 0xFFF


class _Sequence:
    """Keeps ids of one process strictly increasing: rand_a counts up within one millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def next(self, now_ms: int) -> tuple[int, int]:
        with self._lock:
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                # Half the range stays free, so that counting up rarely borrows from the next millisecond.
                self._counter = int.from_bytes(os.urandom(2), "big") & 0x7FF
            elif self._counter < _RAND_A_MAX:
                self._counter += 1
            else:
                self._last_ms += 1
                self._counter = 0
            return self._last_ms, self._counter


_sequence = _Sequence()


def new_id() -> UUID:
    """Return a fresh UUIDv7; ids from one process sort in the order in which they were made."""
    millis, counter = _sequence.next(time.time_ns() // 1_000_000)
    rand_b = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=(millis << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | rand_b)


def parse_id(text: str, what: str = "id") -> UUID:
    """Parse the canonical text form of an id.

    Raises:
        Malformed: when ``text`` is not a UUID; ``what`` names the field in the message.
    """
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError) as exc:
        raise Malformed(f"{what} is not a valid id", fix="copy the id from the list command") from exc
