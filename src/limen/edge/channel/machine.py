"""The agent's side of the agent channel as a state machine without I/O: ``handle(event, now) -> commands``.

Rules:

1. Phases: ``WAITING`` (until ``retry_at``) -> ``DIALLING`` -> ``GREETING`` (``Hello`` said, ``Welcome`` awaited) ->
   ``ONLINE`` -> ``CLOSING`` -> ``WAITING`` ...; ``OVER`` is the end, after a permanent refusal or ``Stop``.
2. A lease is counted from the moment its heartbeat was *sent*, so that a slow answer shortens it. ``Welcome``
   does not renew it, an ack of 0 does not touch it, the loss of the connection does not touch it.
3. ``Lapse`` comes once, when the lease has run out, or at once with a permanent refusal.
4. When the last answer renewed nothing and the enforcement point has applied something new, a heartbeat goes
   out at once instead of at the next beat.
5. A heartbeat that is not answered within ``answer_seconds`` means that the connection is dead.
6. ``Receipt`` and ``Events`` are kept until acknowledged and sent again after each ``Welcome``.
7. The wait before dialling again is drawn from 0 to min(``MAX_BACKOFF``, ``MIN_BACKOFF`` * 2**failures); a
   connection counts as good, and resets that, with its first answered heartbeat.

``now`` is a clock that never goes back, in seconds, and counts while the host sleeps.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from limen.wire.agent import (
    PERMANENT_REFUSALS,
    AppliedVersion,
    Events,
    EventsAck,
    Goodbye,
    HeartbeatAck,
    Receipt,
    ReceiptAck,
    Refuse,
    Renew,
    Renewed,
    Welcome,
)

MIN_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
GREETING_SECONDS = 10.0
MIN_ANSWER_SECONDS = 5.0
RENEW_AGAIN_SECONDS = 60.0
MAX_KEPT_MESSAGES = 100_000


class Phase(StrEnum):
    """Rule 1."""

    WAITING = "waiting"
    DIALLING = "dialling"
    GREETING = "greeting"
    ONLINE = "online"
    CLOSING = "closing"
    OVER = "over"


# --- events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time may have passed."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """The connection is open."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Dialling failed, or the connection ended. ``jitter`` is a random number in [0, 1)."""

    jitter: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of ``wire.agent.ToAgent``."""

    message: Any


@dataclass(frozen=True, slots=True)
class Send:
    """The enforcement point wants this sent."""

    message: Any


@dataclass(frozen=True, slots=True)
class AppliedNow:
    """What the enforcement point has in force by now."""

    applied: tuple[AppliedVersion, ...]


@dataclass(frozen=True, slots=True)
class Certified:
    """The certificate on disk should be renewed in ``renew_in`` seconds (at or below 0: it is due)."""

    renew_in: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The enforcement point stops on purpose."""


Event = Tick | Dialled | Dropped | Arrived | Send | AppliedNow | Certified | Stop


# --- commands ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection; answer ``Dialled`` or ``Dropped``."""


@dataclass(frozen=True, slots=True)
class SayHello:
    """Send ``Hello``."""


@dataclass(frozen=True, slots=True)
class SayHeartbeat:
    """Send ``Heartbeat`` with what is applied at this moment."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this message."""

    message: Any


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the connection after what is queued has left; answer ``Dropped``."""

    reason: str


@dataclass(frozen=True, slots=True)
class SaveCertificate:
    """Keep this certificate; answer ``Certified``."""

    pem: bytes


@dataclass(frozen=True, slots=True)
class TellWelcomed:
    """Call ``welcomed``."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Deliver:
    """Call ``received``."""

    message: Any


@dataclass(frozen=True, slots=True)
class TellLease:
    """Call ``lease``; it holds until the instant ``until``."""

    until: float


@dataclass(frozen=True, slots=True)
class Lapse:
    """Call ``lapsed``."""


@dataclass(frozen=True, slots=True)
class TellLost:
    """Call ``lost``."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up: the control plane refuses for good."""

    refusal: Refuse


Command = (
    Dial
    | SayHello
    | SayHeartbeat
    | Transmit
    | HangUp
    | SaveCertificate
    | TellWelcomed
    | Deliver
    | TellLease
    | Lapse
    | TellLost
    | Fail
)


class ChannelMachine:
    """See the module's rules. ``dropped_messages`` counts kept messages that had to be given up."""

    def __init__(self) -> None:
        self.phase = Phase.WAITING
        self.dropped_messages = 0
        self._retry_at = 0.0
        self._failures = 0
        self._greeting_until = 0.0
        self._greeted = False  # since the last Dropped
        self._beat_seconds = 10.0
        self._next_beat = 0.0
        self._unanswered: deque[float] = deque()
        self._leased_until: float | None = None
        self._refused_lease = True  # rule 4: the last answer on this connection renewed nothing
        self._reported: tuple[AppliedVersion, ...] | None = None
        self._kept: dict[tuple[str, UUID, object], Any] = {}
        self._renew_at: float | None = None

    @property
    def online(self) -> bool:
        """Whether messages that are not kept can be sent."""
        return self.phase is Phase.ONLINE

    @property
    def answer_seconds(self) -> float:
        """How long a heartbeat may stay unanswered."""
        return max(MIN_ANSWER_SECONDS, self._beat_seconds)

    @property
    def unacknowledged(self) -> int:
        """How many receipts and batches of events are kept."""
        return len(self._kept)

    def next_wake(self) -> float | None:
        """When to send ``Tick`` at the latest; None when only an event can change anything."""
        due: list[float] = []
        if self._leased_until is not None:
            due.append(self._leased_until)
        if self.phase is Phase.WAITING:
            due.append(self._retry_at)
        elif self.phase is Phase.GREETING:
            due.append(self._greeting_until)
        elif self.phase is Phase.ONLINE:
            due.append(self._next_beat)
            if self._unanswered:
                due.append(self._unanswered[0] + self.answer_seconds)
            if self._renew_at is not None:
                due.append(self._renew_at)
        return min(due, default=None)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event; return what to do, in order."""
        if self.phase is Phase.OVER:
            return []
        commands = self._lapse_if_over(now)
        match event:
            case Tick():
                pass
            case Dialled():
                commands += self._dialled(now)
            case Dropped(jitter):
                commands += self._dropped(jitter, now)
            case Arrived(message):
                commands += self._arrived(message, now)
            case Send(message):
                commands += self._send(message)
            case AppliedNow(applied):
                commands += self._applied(applied, now)
            case Certified(renew_in):
                self._renew_at = now + renew_in
            case Stop():
                return commands + self._stop()
        return commands + self._due(now)

    # --- connection ---

    def _dialled(self, now: float) -> list[Command]:
        if self.phase is not Phase.DIALLING:
            return []
        self.phase = Phase.GREETING
        self._greeting_until = now + GREETING_SECONDS
        return [SayHello()]

    def _dropped(self, jitter: float, now: float) -> list[Command]:
        if self.phase is Phase.WAITING:
            return []
        was_online, self._greeted = self._greeted, False
        ceiling = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(self._failures, 16))
        self.phase = Phase.WAITING
        self._retry_at = now + jitter * ceiling
        self._failures += 1
        self._unanswered.clear()
        return [TellLost()] if was_online else []

    def _hang_up(self, reason: str) -> list[Command]:
        self.phase = Phase.CLOSING
        return [HangUp(reason)]

    def _stop(self) -> list[Command]:
        commands: list[Command] = []
        if self.online:
            commands.append(Transmit(Goodbye()))
        if self.phase is not Phase.WAITING:
            commands.append(HangUp("the agent stops"))
        self.phase = Phase.OVER
        return commands

    # --- messages in ---

    def _arrived(self, message: Any, now: float) -> list[Command]:
        if self.phase not in (Phase.GREETING, Phase.ONLINE):
            return []
        if isinstance(message, Refuse):
            return self._refused(message)
        if self.phase is Phase.GREETING:
            if not isinstance(message, Welcome):
                return self._hang_up("the control plane did not greet")
            return self._welcomed(message, now)
        match message:
            case Welcome():
                return self._hang_up("the control plane greeted twice")
            case HeartbeatAck():
                return self._answered(message, now)
            case Renewed(certificate_pem=pem):
                return [SaveCertificate(pem)]
            case ReceiptAck(tenant_id=tenant_id, grant_id=grant_id):
                self._kept.pop(("receipt", tenant_id, grant_id), None)
                return []
            case EventsAck(batch=batch):
                for key in [key for key in self._kept if key[0] == "events" and key[2] == batch]:
                    del self._kept[key]
        return [Deliver(message)]

    def _welcomed(self, welcome: Welcome, now: float) -> list[Command]:
        self.phase = Phase.ONLINE
        self._greeted = True
        self._beat_seconds = max(0.1, welcome.heartbeat_seconds)
        self._next_beat = now + self._beat_seconds
        self._refused_lease = True
        self._reported = None
        return [TellWelcomed(welcome), *(Transmit(message) for message in self._kept.values())]

    def _refused(self, refusal: Refuse) -> list[Command]:
        if refusal.code not in PERMANENT_REFUSALS:
            return self._hang_up(refusal.message)
        self.phase = Phase.OVER
        had_lease, self._leased_until = self._leased_until is not None, None
        commands: list[Command] = [Lapse()] if had_lease else []
        return [*commands, HangUp(refusal.message), Fail(refusal)]

    # --- heartbeats and lease ---

    def _beat(self, now: float) -> list[Command]:
        self._next_beat = now + self._beat_seconds
        self._unanswered.append(now)
        return [SayHeartbeat()]

    def _answered(self, ack: HeartbeatAck, now: float) -> list[Command]:
        if not self._unanswered:
            return self._hang_up("the control plane answered a heartbeat that was not sent")
        sent_at = self._unanswered.popleft()
        self._failures = 0
        until = sent_at + ack.lease_seconds
        self._refused_lease = ack.lease_seconds <= 0
        if self._refused_lease or until <= now:
            return []
        self._leased_until = max(until, self._leased_until or until)
        return [TellLease(self._leased_until)]

    def _lapse_if_over(self, now: float) -> list[Command]:
        if self._leased_until is None or now < self._leased_until:
            return []
        self._leased_until = None
        self._refused_lease = True
        return [Lapse()]

    def _applied(self, applied: tuple[AppliedVersion, ...], now: float) -> list[Command]:
        if not self.online or not self._refused_lease or applied == self._reported:
            return []
        self._reported = applied
        return self._beat(now)

    # --- messages out ---

    def _send(self, message: Any) -> list[Command]:
        if isinstance(message, Receipt):
            self._keep(("receipt", message.tenant_id, message.grant_id), message)
        elif isinstance(message, Events):
            self._keep(("events", message.tenant_id, message.batch), message)
        return [Transmit(message)] if self.online else []

    def _keep(self, key: tuple[str, UUID, object], message: Any) -> None:
        self._kept[key] = message
        if len(self._kept) > MAX_KEPT_MESSAGES:
            del self._kept[next(iter(self._kept))]
            self.dropped_messages += 1

    # --- time ---

    def _due(self, now: float) -> list[Command]:
        if self.phase is Phase.WAITING and now >= self._retry_at:
            self.phase = Phase.DIALLING
            return [Dial()]
        if self.phase is Phase.GREETING and now >= self._greeting_until:
            return self._hang_up("the control plane does not greet")
        if self.phase is not Phase.ONLINE:
            return []
        if self._unanswered and now >= self._unanswered[0] + self.answer_seconds:
            return self._hang_up("the control plane does not answer")
        commands: list[Command] = []
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = now + RENEW_AGAIN_SECONDS
            commands.append(Transmit(Renew()))
        if now >= self._next_beat:
            commands += self._beat(now)
        return commands
