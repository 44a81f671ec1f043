"""Which sessions may live: grants, leases, cuts and receipts of the file door. Sans-IO.

Time is passed in as a :class:`Moment`. Every method returns the commands that its caller must carry out, in order.

Rules:

1. A session lives under one grant; several sessions may share it (the policy administrator hands out one live grant
   for the same question). Bytes are counted per grant.
2. A grant ends by exactly one of: closed by the control plane, expired, lease gone, not confirmed after a reconnect,
   shutdown, or its last session gone. Its sessions are cut first, then one ``Receipt`` follows (before it a
   ``Release`` when the subject went by itself), and ``Applied`` only after the cuts.
3. What was closed stays closed: an answer that arrives with a grant closed before is refused (the two messages can
   overtake each other between the planes).
4. A grant whose last session went is kept while a sign-in of the same account is under way, because the answer may
   carry the same grant; released only after that.
5. The lease is measured on the steady clock, expiry on the wall clock: a wrong wall clock cannot prolong a lease.
6. After a reconnect each grant must be named by a ``Sync`` of its tenant within :data:`CONFIRM_SECONDS`.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from limen.kernel.errors import Denied, Unavailable
from limen.wire.agent import (
    Applied,
    AppliedVersion,
    ClosedGrant,
    FileGrant,
    Receipt,
    Release,
)

CONFIRM_SECONDS: Final = 10.0
MAX_TOMBSTONES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks: Unix seconds, and seconds of the steady clock."""

    wall: float
    steady: float


@dataclass(frozen=True, slots=True)
class Account:
    """Who a client says it is: the two halves of its SSH user name."""

    user: str
    connection: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Drop this session's connection now, unsent bytes included."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the control plane."""

    message: Receipt | Release | Applied


Command = Cut | Send


@dataclass(slots=True)
class _Entry:
    tenant_id: UUID
    account: Account
    grant: FileGrant
    sessions: set[int] = field(default_factory=set)
    bytes_in: int = 0
    bytes_out: int = 0
    last_byte_at: float = 0.0
    unconfirmed_since: float | None = None


class SessionBook:
    """Every live grant of this door, and the sessions under it."""

    def __init__(self) -> None:
        self._grants: dict[UUID, _Entry] = {}
        self._of_session: dict[int, UUID] = {}
        self._closed: OrderedDict[UUID, None] = OrderedDict()
        self._versions: dict[UUID, int] = {}
        self._signing_in: dict[Account, int] = {}
        self._lease_until: float | None = None

    # --- what is so ---------------------------------------------------------------------------------------

    def may_sign_in(self, now: Moment) -> bool:
        """Whether a lease is in force, so that a new session could live."""
        return self._lease_until is not None and now.steady < self._lease_until

    def applied(self) -> tuple[AppliedVersion, ...]:
        """The versions in force, for the heartbeat."""
        return tuple(AppliedVersion(tenant_id=t, version=v) for t, v in self._versions.items())

    def sessions(self) -> frozenset[int]:
        """The sessions that live."""
        return frozenset(self._of_session)

    def bytes_of(self, grant_id: UUID) -> tuple[int, int]:
        """(bytes in, bytes out) of a live grant so far; zeros for any other."""
        entry = self._grants.get(grant_id)
        return (entry.bytes_in, entry.bytes_out) if entry is not None else (0, 0)

    def total_bytes(self) -> tuple[int, int]:
        """The same over all live grants."""
        entries = self._grants.values()
        return sum(entry.bytes_in for entry in entries), sum(entry.bytes_out for entry in entries)

    def wait_seconds(self, now: Moment) -> float | None:
        """Seconds until :meth:`tick` has something to do; ``None`` when nothing is pending."""
        waits = [entry.grant.expires_at - now.wall for entry in self._grants.values()]
        waits += [
            entry.unconfirmed_since + CONFIRM_SECONDS - now.steady
            for entry in self._grants.values()
            if entry.unconfirmed_since is not None
        ]
        if self._grants and self._lease_until is not None:
            waits.append(self._lease_until - now.steady)
        return max(0.0, min(waits)) if waits else None

    # --- sessions -----------------------------------------------------------------------------------------

    def sign_in_started(self, account: Account) -> None:
        """A sign-in of ``account`` is on its way to the control plane."""
        self._signing_in[account] = self._signing_in.get(account, 0) + 1

    def sign_in_ended(self, account: Account, now: Moment) -> list[Command]:
        """Its answer has been dealt with; idle grants of the account go now (rule 4)."""
        left = self._signing_in.get(account, 1) - 1
        if left:
            self._signing_in[account] = left
            return []
        self._signing_in.pop(account, None)
        idle = [e for e in self._grants.values() if e.account == account and not e.sessions]
        return [command for entry in idle for command in self._release(entry, now)]

    def open(self, session: int, tenant_id: UUID, account: Account, grant: FileGrant, now: Moment) -> None:
        """A session begins under ``grant``.

        Raises:
            Denied: the grant is closed or expired.
            Unavailable: there is no lease.
        """
        if not self.may_sign_in(now):
            raise Unavailable("the control plane does not answer")
        if grant.id in self._closed or grant.expires_at <= now.wall:
            raise Denied("the grant has ended")
        entry = self._grants.get(grant.id)
        if entry is None:
            entry = self._grants[grant.id] = _Entry(tenant_id, account, grant)
        elif entry.tenant_id != tenant_id:
            raise Denied("the grant is another tenant's")
        entry.sessions.add(session)
        self._of_session[session] = grant.id

    def count(self, session: int, wall: float, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Payload moved in a session at ``wall``."""
        entry = self._grants.get(self._of_session.get(session, _NOBODY))
        if entry is not None:
            entry.bytes_in += bytes_in
            entry.bytes_out += bytes_out
            entry.last_byte_at = wall

    def gone(self, session: int, now: Moment) -> list[Command]:
        """The client closed the connection, or it broke."""
        grant_id = self._of_session.pop(session, None)
        entry = self._grants.get(grant_id) if grant_id is not None else None
        if entry is None:
            return []
        entry.sessions.discard(session)
        if entry.sessions or entry.account in self._signing_in:
            return []
        return self._release(entry, now)

    # --- what the control plane says --------------------------------------------------------------------------

    def close_grants(self, tenant_id: UUID, version: int, closed: Iterable[ClosedGrant], now: Moment) -> list[Command]:
        """``CloseGrants``: cut, then receipts, then ``Applied``. Other tenants' grants stay untouched."""
        commands: list[Command] = []
        for one in closed:
            entry = self._grants.get(one.id)
            if entry is None and one.id in self._closed:
                continue  # its receipt has been sent
            if entry is None:
                self._bury(one.id)
                commands.append(Send(_empty_receipt(tenant_id, one.id, one.reason, now)))
            elif entry.tenant_id == tenant_id:
                commands += self._end(entry, one.reason, now)
        self._versions[tenant_id] = max(version, self._versions.get(tenant_id, 0))
        commands.append(Send(Applied(tenant_id=tenant_id, version=version)))
        return _cuts_first(commands)

    def sync(self, tenant_id: UUID, version: int, live: Iterable[UUID], now: Moment) -> list[Command]:
        """``Sync``: what is here but not there is cut; what is there but not here is released."""
        theirs = set(live)
        commands: list[Command] = []
        for entry in [e for e in self._grants.values() if e.tenant_id == tenant_id]:
            if entry.grant.id in theirs:
                entry.unconfirmed_since = None
            else:
                commands += self._end(entry, "not-live", now)
        for unknown in theirs - self._grants.keys():
            self._bury(unknown)
            commands.append(Send(Release(tenant_id=tenant_id, grant_id=unknown)))
            commands.append(Send(_empty_receipt(tenant_id, unknown, "released", now)))
        self._versions[tenant_id] = version
        commands.append(Send(Applied(tenant_id=tenant_id, version=version)))
        return _cuts_first(commands)

    def welcomed(self, now: Moment) -> None:
        """The channel is up (again): all grants wait for their ``Sync`` (rule 6). This renews no lease."""
        for entry in self._grants.values():
            entry.unconfirmed_since = now.steady

    def lease(self, seconds: float, now: Moment) -> None:
        """The lease runs ``seconds`` from now; 0 renews nothing and leaves the old end in force."""
        if seconds > 0:
            self._lease_until = now.steady + seconds

    def lapsed(self, now: Moment) -> list[Command]:
        """The lease is over: everything is cut. A new lease lets new sign-ins in."""
        self._lease_until = None
        return self._end_all("lease-lapsed", now)

    def tick(self, now: Moment) -> list[Command]:
        """Time has passed: expiry, lapsed lease, missing confirmation."""
        commands: list[Command] = []
        lapsed = self._lease_until is not None and now.steady >= self._lease_until
        for entry in list(self._grants.values()):
            if entry.grant.expires_at <= now.wall:
                commands += self._end(entry, "expired", now)
            elif lapsed:
                commands += self._end(entry, "lease-lapsed", now)
            elif entry.unconfirmed_since is not None and now.steady >= entry.unconfirmed_since + CONFIRM_SECONDS:
                commands += self._end(entry, "not-confirmed", now)
        return _cuts_first(commands)

    def stop(self, now: Moment) -> list[Command]:
        """The door shuts: everything is cut and receipted."""
        self._lease_until = None
        return self._end_all("door-stopped", now)

    # --- inside --------------------------------------------------------------------------------------------

    def _end_all(self, reason: str, now: Moment) -> list[Command]:
        ended = [self._end(entry, reason, now) for entry in list(self._grants.values())]
        return _cuts_first([command for commands in ended for command in commands])

    def _end(self, entry: _Entry, reason: str, now: Moment) -> list[Command]:
        commands: list[Command] = [Cut(session, reason) for session in sorted(entry.sessions)]
        for session in entry.sessions:
            self._of_session.pop(session, None)
        self._forget(entry)
        commands.append(Send(_receipt(entry, reason, now)))
        return commands

    def _release(self, entry: _Entry, now: Moment) -> list[Command]:
        self._forget(entry)
        return [Send(_release(entry)), Send(_receipt(entry, "closed", now))]

    def _forget(self, entry: _Entry) -> None:
        self._grants.pop(entry.grant.id, None)
        self._bury(entry.grant.id)

    def _bury(self, grant_id: UUID) -> None:
        self._closed[grant_id] = None
        while len(self._closed) > MAX_TOMBSTONES:
            self._closed.popitem(last=False)


_NOBODY: Final = UUID(int=0)


def _cuts_first(commands: list[Command]) -> list[Command]:
    """Cutting is synchronous and cheap; sending may wait. So all cuts come first, the order kept otherwise."""
    return sorted(commands, key=lambda command: not isinstance(command, Cut))


def _release(entry: _Entry) -> Release:
    return Release(tenant_id=entry.tenant_id, grant_id=entry.grant.id)


def _receipt(entry: _Entry, reason: str, now: Moment) -> Receipt:
    return Receipt(
        tenant_id=entry.tenant_id,
        grant_id=entry.grant.id,
        reason=reason,
        cut_at=now.wall,
        last_byte_at=entry.last_byte_at,
        bytes_in=entry.bytes_in,
        bytes_out=entry.bytes_out,
    )


def _empty_receipt(tenant_id: UUID, grant_id: UUID, reason: str, now: Moment) -> Receipt:
    return Receipt(tenant_id=tenant_id, grant_id=grant_id, reason=reason, cut_at=now.wall)
