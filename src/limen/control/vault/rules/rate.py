"""How many requests one token may make: a token bucket per key, with time passed in (seconds, monotonic).

Memory is bounded: above ``max_keys`` the bucket that was used longest ago is forgotten,
which at worst gives its holder a fresh burst.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from limen.kernel.errors import RateLimited


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_second`` requests on average, ``burst`` at once."""

    per_second: float
    burst: int


class Buckets:
    """One bucket for each key."""

    def __init__(self, rate: Rate, *, max_keys: int = 10_000) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key -> (level, at)

    def take(self, key: Hashable, now: float) -> None:
        """Count one request.

        Raises:
            RateLimited: when the bucket is empty; ``retry_after`` says when one more is allowed.
        """
        level, at = self._levels.pop(key, (float(self._rate.burst), now))
        level = min(float(self._rate.burst), level + max(0.0, now - at) * self._rate.per_second)
        if level < 1:
            self._levels[key] = (level, now)
            raise RateLimited(
                "too many requests with this token",
                retry_after=(1 - level) / self._rate.per_second,
                fix="slow down and try again after the time that Retry-After gives",
            )
        self._levels[key] = (level - 1, now)
        if len(self._levels) > self._max_keys:
            self._levels.popitem(last=False)

    def __len__(self) -> int:
        return len(self._levels)
