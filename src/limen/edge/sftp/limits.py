"""How many connections one address may have, and how many there may be in all. Pure counting.

A connection counts against its address as *waiting* until it has signed in, then as a *session*. IPv6 addresses count
by their /64, which is what one customer usually has.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits."""

    waiting_per_address: int = 20
    sessions_per_address: int = 50
    waiting: int = 200
    connections: int = 2000


def network_of(address: str) -> str:
    """The address itself (IPv4) or its /64 (IPv6); unparsable text stands for itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Doorman:
    """Counts connections by address."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._waiting: Counter[str] = Counter()
        self._sessions: Counter[str] = Counter()

    def admit(self, address: str) -> bool:
        """A connection has come; ``False`` when it must be dropped (then it does not count)."""
        network, limits = network_of(address), self._limits
        waiting, sessions = self._waiting.total(), self._sessions.total()
        if (
            self._waiting[network] >= limits.waiting_per_address
            or self._sessions[network] >= limits.sessions_per_address
            or waiting >= limits.waiting
            or waiting + sessions >= limits.connections
        ):
            return False
        self._waiting[network] += 1
        return True

    def signed_in(self, address: str) -> bool:
        """An admitted connection signs in; ``False`` when its address has too many sessions."""
        network = network_of(address)
        if self._sessions[network] >= self._limits.sessions_per_address:
            return False
        _decrease(self._waiting, network)
        self._sessions[network] += 1
        return True

    def signed_out(self, address: str) -> None:
        """A sign-in counted by :meth:`signed_in` came to nothing; the connection waits again."""
        network = network_of(address)
        _decrease(self._sessions, network)
        self._waiting[network] += 1

    def gone(self, address: str, *, was_session: bool) -> None:
        """An admitted connection has ended."""
        _decrease(self._sessions if was_session else self._waiting, network_of(address))


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
