"""The agent's state machine as transcripts: ``>>`` an event at a time, ``<<`` the commands it causes."""

from uuid import UUID

import pytest

from limen.edge.channel import machine as m
from limen.edge.channel.machine import ChannelMachine, Phase
from limen.wire.agent import (
    AppliedVersion,
    DoorEvent,
    Events,
    EventsAck,
    Goodbye,
    HeartbeatAck,
    Opened,
    Receipt,
    ReceiptAck,
    Refuse,
    RefuseCode,
    Renew,
    Renewed,
    Sync,
    Welcome,
)

TENANT = UUID(int=1)
GRANT = UUID(int=2)
WELCOME = Welcome(now=0.0, heartbeat_seconds=10.0, lease_seconds=60.0, tenant_id=TENANT)
SYNC = Sync(tenant_id=TENANT, version=7)
RECEIPT = Receipt(tenant_id=TENANT, grant_id=GRANT, reason="suspended", cut_at=1.0)


def ack(seconds: float) -> m.Arrived:
    return m.Arrived(HeartbeatAck(now=0.0, lease_seconds=seconds))


def applied(version: int) -> m.AppliedNow:
    return m.AppliedNow((AppliedVersion(tenant_id=TENANT, version=version),))


class Transcript:
    """Reads as a conversation; a mismatch shows both sides."""

    def __init__(self) -> None:
        self.machine = ChannelMachine()
        self.now = 0.0

    def __call__(self, at: float, event: m.Event, *commands: m.Command) -> "Transcript":
        assert at >= self.now
        self.now = at
        assert self.machine.handle(event, at) == list(commands), f"after {event} at {at}"
        return self


def online(at: float = 0.0) -> Transcript:
    return Transcript()(at, m.Tick(), m.Dial())(at, m.Dialled(), m.SayHello())(
        at, m.Arrived(WELCOME), m.TellWelcomed(WELCOME)
    )


def leased(at: float = 0.0) -> Transcript:
    """Online, synced at version 7, and holding a lease until ``at + 60``."""
    return online(at)(at, m.Arrived(SYNC), m.Deliver(SYNC))(at, applied(7), m.SayHeartbeat())(
        at, ack(60.0), m.TellLease(at + 60.0)
    )


def test_connects_and_earns_its_lease_without_waiting_for_a_beat() -> None:
    """Rule 4: what has been applied is reported at once while there is no lease."""
    talk = leased()
    assert talk.machine.phase is Phase.ONLINE
    assert talk.machine.next_wake() == 10.0


def test_beats_on_time_and_renews_from_the_moment_of_sending() -> None:
    leased()(9.9, m.Tick())(10.0, m.Tick(), m.SayHeartbeat())(14.0, ack(60.0), m.TellLease(70.0))


def test_welcome_alone_gives_no_lease() -> None:
    talk = online()
    assert not any(isinstance(c, m.TellLease) for c in talk.machine.handle(m.Tick(), 5.0))


def test_being_behind_lets_the_lease_run_out() -> None:
    """An ack of 0 changes nothing; the lapse comes exactly when the last lease ends, once."""
    talk = leased()
    for beat in (10.0, 20.0, 30.0, 40.0, 50.0):
        talk(beat, m.Tick(), m.SayHeartbeat())(beat + 0.1, ack(0.0))
    talk(59.9, m.Tick())
    talk(60.0, m.Tick(), m.Lapse(), m.SayHeartbeat())(60.1, ack(0.0))(61.0, m.Tick())


def test_catching_up_beats_at_once_and_then_not_again() -> None:
    talk = leased()(10.0, m.Tick(), m.SayHeartbeat())(10.1, ack(0.0))
    talk(11.0, applied(8), m.SayHeartbeat())(11.0, applied(8))(11.1, ack(60.0), m.TellLease(71.0))
    talk(11.2, applied(9))  # leased: the next regular beat will do


def test_answer_too_late_to_be_worth_anything() -> None:
    """A lease shorter than the answer took never begins."""
    online()(10.0, m.Tick(), m.SayHeartbeat())(14.0, ack(3.0))


def test_unanswered_beat_ends_the_connection_but_not_the_lease() -> None:
    talk = leased()(10.0, m.Tick(), m.SayHeartbeat())
    talk(20.0, m.Tick(), m.HangUp("the control plane does not answer"))
    talk(20.0, m.Arrived(SYNC))  # nothing from a connection that is given up
    talk(20.1, m.Dropped(0.5), m.TellLost())
    talk(20.35, m.Tick(), m.Dial())
    talk(60.0, m.Dropped(1.0), m.Lapse())


def test_lease_of_a_former_connection_lasts_over_a_reconnect() -> None:
    talk = leased()(5.0, m.Dropped(0.0), m.TellLost(), m.Dial())(5.1, m.Dialled(), m.SayHello())
    talk(5.2, m.Arrived(WELCOME), m.TellWelcomed(WELCOME))
    assert talk.machine.next_wake() == 15.2
    talk(15.2, m.Tick(), m.SayHeartbeat())(15.3, ack(0.0))(25.2, m.Tick(), m.SayHeartbeat())(25.3, ack(0.0))
    talk(60.0, m.Tick(), m.Lapse(), m.SayHeartbeat())


def test_answers_of_the_former_connection_do_not_count() -> None:
    talk = leased()(10.0, m.Tick(), m.SayHeartbeat())(11.0, m.Dropped(0.0), m.TellLost(), m.Dial())
    talk(11.0, ack(60.0))
    talk(12.0, m.Dialled(), m.SayHello())(12.1, m.Arrived(WELCOME), m.TellWelcomed(WELCOME))
    talk(12.2, ack(60.0), m.HangUp("the control plane answered a heartbeat that was not sent"))


def test_backoff_grows_and_is_jittered_and_resets_after_an_answer() -> None:
    talk = Transcript()(0.0, m.Tick(), m.Dial())
    now = 0.0
    for ceiling in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        talk(now, m.Dropped(0.5))
        assert talk.machine.next_wake() == now + ceiling / 2
        now += ceiling / 2
        talk(now, m.Tick(), m.Dial())
    talk(now, m.Dialled(), m.SayHello())(now, m.Arrived(WELCOME), m.TellWelcomed(WELCOME))
    talk(now, applied(1), m.SayHeartbeat())(now, ack(0.0))(now, m.Dropped(0.999), m.TellLost())
    assert talk.machine.next_wake() == pytest.approx(now + 0.4995)


def test_silent_control_plane_is_given_up() -> None:
    talk = Transcript()(0.0, m.Tick(), m.Dial())(1.0, m.Dialled(), m.SayHello())
    talk(11.0, m.Tick(), m.HangUp("the control plane does not greet"))(11.0, m.Dropped(0.0), m.Dial())


@pytest.mark.parametrize(
    "code", [RefuseCode.REMOVED, RefuseCode.CLOCK, RefuseCode.VERSION, RefuseCode.IDENTITY, RefuseCode.REPLACED]
)
def test_permanent_refusal_ends_everything_at_once(code: RefuseCode) -> None:
    refusal = Refuse(code=code, message="no", fix="do")
    talk = leased()(5.0, m.Arrived(refusal), m.Lapse(), m.HangUp("no"), m.Fail(refusal))
    assert talk.machine.phase is Phase.OVER
    talk(6.0, m.Dropped(0.0))(1000.0, m.Tick())


@pytest.mark.parametrize("code", [RefuseCode.SHUTDOWN, RefuseCode.UNAVAILABLE, RefuseCode.SLOW, "something-new"])
def test_passing_refusal_reconnects_and_keeps_the_lease(code: str) -> None:
    talk = leased()(5.0, m.Arrived(Refuse(code=code, message="later")), m.HangUp("later"))
    talk(5.1, m.Dropped(0.0), m.TellLost(), m.Dial())


def test_refusal_instead_of_a_welcome() -> None:
    refusal = Refuse(code=RefuseCode.CLOCK, message="an hour off")
    talk = Transcript()(0.0, m.Tick(), m.Dial())(0.0, m.Dialled(), m.SayHello())
    talk(0.1, m.Arrived(refusal), m.HangUp("an hour off"), m.Fail(refusal))


def test_receipts_survive_reconnections_until_acknowledged() -> None:
    talk = leased()(1.0, m.Send(RECEIPT), m.Transmit(RECEIPT))
    talk(2.0, m.Dropped(0.0), m.TellLost(), m.Dial())
    other = Receipt(tenant_id=TENANT, grant_id=UUID(int=3), reason="expired", cut_at=2.0)
    talk(2.1, m.Send(other))  # not online: kept only
    talk(2.2, m.Dialled(), m.SayHello())
    talk(2.3, m.Arrived(WELCOME), m.TellWelcomed(WELCOME), m.Transmit(RECEIPT), m.Transmit(other))
    talk(2.4, m.Arrived(ReceiptAck(tenant_id=TENANT, grant_id=GRANT)))
    assert talk.machine.unacknowledged == 1
    talk(2.5, m.Dropped(0.5), m.TellLost())
    talk(3.5, m.Tick(), m.Dial())(3.6, m.Dialled(), m.SayHello())
    talk(3.7, m.Arrived(WELCOME), m.TellWelcomed(WELCOME), m.Transmit(other))


def test_acknowledgement_of_another_tenants_receipt_frees_nothing() -> None:
    talk = leased()(1.0, m.Send(RECEIPT), m.Transmit(RECEIPT))
    talk(1.1, m.Arrived(ReceiptAck(tenant_id=UUID(int=9), grant_id=GRANT)))
    assert talk.machine.unacknowledged == 1


def test_events_are_kept_until_their_batch_is_acknowledged() -> None:
    event = DoorEvent(grant_id=GRANT, action="files.object.put", outcome="ok", at=1.0)
    batch = Events(tenant_id=TENANT, batch=4, events=(event,))
    talk = leased()(1.0, m.Send(batch), m.Transmit(batch))
    talk(1.1, m.Arrived(EventsAck(batch=3)), m.Deliver(EventsAck(batch=3)))
    assert talk.machine.unacknowledged == 1
    talk(1.2, m.Arrived(EventsAck(batch=4)), m.Deliver(EventsAck(batch=4)))
    assert talk.machine.unacknowledged == 0


def test_other_messages_are_not_kept() -> None:
    opened = Opened(tenant_id=TENANT, grant_id=GRANT)
    talk = leased()(1.0, m.Dropped(0.0), m.TellLost(), m.Dial())(1.1, m.Send(opened))
    talk(1.2, m.Dialled(), m.SayHello())(1.3, m.Arrived(WELCOME), m.TellWelcomed(WELCOME))


def test_renews_its_certificate_when_due_and_asks_again_later() -> None:
    talk = leased()(1.0, m.Certified(4.0))(5.0, m.Tick(), m.Transmit(Renew()))
    talk(6.0, m.Arrived(Renewed(certificate_pem=b"pem", not_after=9.0)), m.SaveCertificate(b"pem"))
    talk(6.0, m.Certified(50_000.0))(10.0, m.Tick(), m.SayHeartbeat())(10.1, ack(60.0), m.TellLease(70.0))
    impatient = leased()(1.0, m.Certified(0.0), m.Transmit(Renew()))(10.0, m.Tick(), m.SayHeartbeat())
    for beat in (20.0, 30.0, 40.0, 50.0, 60.0):
        impatient(beat - 9.9, ack(60.0), m.TellLease(beat + 50.0))(beat, m.Tick(), m.SayHeartbeat())
    impatient(60.1, ack(60.0), m.TellLease(120.0))(61.0, m.Tick(), m.Transmit(Renew()))


def test_stopping_says_goodbye() -> None:
    talk = leased()(1.0, m.Stop(), m.Transmit(Goodbye()), m.HangUp("the agent stops"))
    assert talk.machine.phase is Phase.OVER


def test_protocol_errors_of_the_control_plane() -> None:
    Transcript()(0.0, m.Tick(), m.Dial())(0.0, m.Dialled(), m.SayHello())(
        0.1, m.Arrived(SYNC), m.HangUp("the control plane did not greet")
    )
    online()(0.1, m.Arrived(WELCOME), m.HangUp("the control plane greeted twice"))
