"""Door events leave in order and bounded; connections are counted by address."""

from uuid import uuid4

from limen.edge.sftp.ledger import BATCH_EVENTS, EventLedger
from limen.edge.sftp.limits import ConnectionLimits, Doorman, network_of
from limen.wire.agent import DoorEvent

A, B = uuid4(), uuid4()


def event(number: int) -> DoorEvent:
    return DoorEvent(grant_id=A, action="files.object.put", outcome="ok", at=float(number))


def test_one_batch_of_a_tenant_at_a_time_in_order() -> None:
    ledger = EventLedger()
    for number in range(BATCH_EVENTS + 5):
        ledger.record(A, event(number))
    ledger.record(B, event(0))
    first, other = ledger.due()
    assert (first.tenant_id, len(first.events), other.tenant_id) == (A, BATCH_EVENTS, B)
    assert ledger.due() == []
    ledger.acknowledged(first.batch)
    (second,) = ledger.due()
    assert [one.at for one in (*first.events, *second.events)] == list(range(BATCH_EVENTS + 5))
    ledger.acknowledged(second.batch)
    ledger.acknowledged(second.batch)
    ledger.acknowledged(other.batch)
    assert ledger.empty


def test_full_at_the_limit_with_a_reserve_then_counted() -> None:
    ledger = EventLedger(limit=2)
    for number in range(5):
        ledger.record(A, event(number))
        assert ledger.full == (number >= 1)
    assert ledger.dropped == 1


def test_limits_per_address_and_in_all() -> None:
    doorman = Doorman(ConnectionLimits(waiting_per_address=2, sessions_per_address=1, waiting=3, connections=4))
    assert [doorman.admit("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert doorman.signed_in("192.0.2.1")
    assert not doorman.admit("192.0.2.1")  # its one session is there
    assert not doorman.signed_in("192.0.2.1")
    doorman.gone("192.0.2.1", was_session=True)
    assert doorman.admit("192.0.2.1")
    assert doorman.admit("192.0.2.2")
    assert not doorman.admit("192.0.2.3")  # three are waiting


def test_ipv6_counts_by_its_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
