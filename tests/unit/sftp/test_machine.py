"""Grants, leases and receipts of the file door as transcripts, and as a state machine under any events."""

from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from limen.edge.sftp.machine import CONFIRM_SECONDS, Account, Command, Cut, Moment, Send, SessionBook
from limen.kernel.errors import Denied, Unavailable
from limen.wire.agent import Applied, BucketTarget, ClosedGrant, FileGrant, Receipt, Release

ANA = Account("ana", "share")
TENANT = uuid4()


def grant(expires_at: float = 1000.0) -> FileGrant:
    target = BucketTarget(connection_id=uuid4(), provider="local")
    return FileGrant(id=uuid4(), number=1, expires_at=expires_at, actions=("read",), jail="", target=target)


def at(seconds: float) -> Moment:
    return Moment(seconds, seconds)


def book() -> SessionBook:
    made = SessionBook()
    made.lease(60, at(0))
    return made


def closed(one: FileGrant) -> ClosedGrant:
    return ClosedGrant(id=one.id, number=one.number, reason="suspended")


def messages(commands: list[Command]) -> list[object]:
    return [command.message for command in commands if isinstance(command, Send)]


def test_close_cuts_first_then_receipts_then_applies() -> None:
    made, one = book(), grant()
    made.open(1, TENANT, ANA, one, at(1))
    made.open(2, TENANT, ANA, one, at(1))
    made.count(1, 5.0, bytes_out=10)
    made.count(2, 6.0, bytes_in=3)
    commands = made.close_grants(TENANT, 7, [closed(one)], at(9))
    assert commands[:2] == [Cut(1, "suspended"), Cut(2, "suspended")]
    receipt, applied = messages(commands)
    assert isinstance(receipt, Receipt)
    assert (receipt.bytes_in, receipt.bytes_out, receipt.last_byte_at, receipt.cut_at) == (3, 10, 6.0, 9)
    assert applied == Applied(tenant_id=TENANT, version=7)
    assert made.sessions() == frozenset()
    assert made.gone(1, at(10)) == []


def test_a_grant_closed_before_its_answer_arrives_is_refused_and_receipted_once() -> None:
    made, one = book(), grant()
    first = messages(made.close_grants(TENANT, 1, [closed(one)], at(1)))
    assert [type(message) for message in first] == [Receipt, Applied]
    with pytest.raises(Denied):
        made.open(1, TENANT, ANA, one, at(2))
    again = messages(made.close_grants(TENANT, 2, [closed(one)], at(3)))
    assert [type(message) for message in again] == [Applied]


def test_another_tenant_cannot_close_or_share_a_grant() -> None:
    made, one = book(), grant()
    made.open(1, TENANT, ANA, one, at(1))
    commands = made.close_grants(uuid4(), 1, [closed(one)], at(2))
    assert [type(message) for message in messages(commands)] == [Applied]
    assert made.sessions() == {1}
    with pytest.raises(Denied):
        made.open(2, uuid4(), ANA, one, at(2))


def test_the_last_session_releases_the_grant() -> None:
    made, one = book(), grant()
    made.open(1, TENANT, ANA, one, at(1))
    made.open(2, TENANT, ANA, one, at(1))
    assert made.gone(1, at(2)) == []
    assert [type(message) for message in messages(made.gone(2, at(3)))] == [Release, Receipt]


def test_a_sign_in_under_way_keeps_the_grant_for_its_answer() -> None:
    made, one = book(), grant()
    made.open(1, TENANT, ANA, one, at(1))
    made.sign_in_started(ANA)
    assert made.gone(1, at(2)) == []
    made.open(2, TENANT, ANA, one, at(3))
    assert made.sign_in_ended(ANA, at(3)) == []
    assert [type(message) for message in messages(made.gone(2, at(4)))] == [Release, Receipt]


def test_a_sign_in_that_brings_nothing_releases_the_idle_grant() -> None:
    made, one = book(), grant()
    made.open(1, TENANT, ANA, one, at(1))
    made.sign_in_started(ANA)
    made.gone(1, at(2))
    assert [type(message) for message in messages(made.sign_in_ended(ANA, at(3)))] == [Release, Receipt]


def test_expiry_and_lapse_end_sessions() -> None:
    made, one, two = book(), grant(10), grant(1000)
    made.open(1, TENANT, ANA, one, at(1))
    made.open(2, TENANT, ANA, two, at(1))
    assert made.wait_seconds(at(1)) == 9
    assert made.tick(at(10))[0] == Cut(1, "expired")
    made.lease(0, at(30))  # 0 renews nothing
    assert made.tick(at(59)) == []
    assert made.tick(at(60))[0] == Cut(2, "lease-lapsed")
    with pytest.raises(Unavailable):
        made.open(3, TENANT, ANA, grant(), at(61))


def test_a_wall_clock_set_back_does_not_prolong_the_lease() -> None:
    made = book()
    made.open(1, TENANT, ANA, grant(), at(1))
    assert made.tick(Moment(wall=-5000, steady=60))[0] == Cut(1, "lease-lapsed")


def test_after_a_reconnect_sync_decides_and_silence_cuts() -> None:
    made, kept, gone, silent = book(), grant(), grant(), grant()
    other, unknown = uuid4(), uuid4()
    made.open(1, TENANT, ANA, kept, at(1))
    made.open(2, TENANT, ANA, gone, at(1))
    made.open(3, other, ANA, silent, at(1))
    made.welcomed(at(5))
    commands = made.sync(TENANT, 4, [kept.id, unknown], at(6))
    assert commands[0] == Cut(2, "not-live")
    assert Release(tenant_id=TENANT, grant_id=unknown) in messages(commands)
    assert made.tick(at(5 + CONFIRM_SECONDS - 1)) == []
    assert made.tick(at(5 + CONFIRM_SECONDS))[0] == Cut(3, "not-confirmed")
    assert made.sessions() == {1}


class AnyEvents(RuleBasedStateMachine):
    """Whatever happens: one receipt per grant that was open, no session without a live grant, cuts are final."""

    def __init__(self) -> None:
        super().__init__()
        self.book = SessionBook()
        self.now = 0.0
        self.lease_until = 0.0
        self.open: dict[int, FileGrant] = {}
        self.known: list[FileGrant] = []
        self.receipts: list[UUID] = []
        self.numbers = 0

    def obey(self, commands: list[Command]) -> None:
        seen_send = False
        for command in commands:
            if isinstance(command, Cut):
                assert not seen_send
                self.open.pop(command.session)
            else:
                seen_send = True
                if isinstance(command.message, Receipt):
                    self.receipts.append(command.message.grant_id)
        assert len(set(self.receipts)) == len(self.receipts)

    @rule(fresh=st.booleans(), seconds=st.integers(1, 200))
    def sign_in(self, fresh: bool, seconds: int) -> None:
        one = grant(self.now + seconds) if fresh or not self.known else self.known[-1]
        self.known.append(one)
        self.numbers += 1
        try:
            self.book.open(self.numbers, TENANT, ANA, one, at(self.now))
        except (Denied, Unavailable):
            return
        assert one.id not in self.receipts
        self.open[self.numbers] = one

    @rule(seconds=st.integers(0, 100))
    def renew(self, seconds: int) -> None:
        self.book.lease(seconds, at(self.now))
        if seconds:
            self.lease_until = self.now + seconds

    @rule(seconds=st.integers(1, 50))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.obey(self.book.tick(at(self.now)))
        assert not self.open or self.now < self.lease_until
        assert all(one.expires_at > self.now for one in self.open.values())

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        if self.known:
            one = data.draw(st.sampled_from(self.known))
            self.obey(self.book.close_grants(TENANT, 1, [closed(one)], at(self.now)))
            assert one.id not in {other.id for other in self.open.values()}

    @rule(data=st.data())
    def client_goes(self, data: st.DataObject) -> None:
        if self.open:
            number = data.draw(st.sampled_from(sorted(self.open)))
            del self.open[number]
            self.obey(self.book.gone(number, at(self.now)))

    @rule()
    def reconnect(self) -> None:
        self.book.welcomed(at(self.now))
        live = {one.id for one in self.open.values()}
        self.obey(self.book.sync(TENANT, 2, list(live)[:1], at(self.now)))

    @rule()
    def lapse(self) -> None:
        self.obey(self.book.lapsed(at(self.now)))
        assert not self.open

    @invariant()
    def the_book_agrees(self) -> None:
        assert self.book.sessions() == set(self.open)


TestAnyEvents = AnyEvents.TestCase
