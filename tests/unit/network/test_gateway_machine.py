"""The gateway's machine: transcripts, and its one promise as a property."""

from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from limen.edge.gateway.machine import GatewayMachine
from limen.edge.gateway.ports import (
    AddPeer,
    Command,
    CutGrants,
    Lapse,
    OpenGrants,
    RefreshAlive,
    RemovePeer,
    Reply,
    Settle,
)
from limen.kernel.errors import Malformed
from limen.wire.agent import Applied, ClosedGrant, CloseGrants, Opened, OpenGrant, Sync, TunnelGrant
from tests.unit.network.worlds import KEYS, OTHER_TENANT, TENANT, grant, resource


def opening(one: TunnelGrant, version: int = 1) -> OpenGrant:
    return OpenGrant(tenant_id=TENANT, version=version, tunnel=one)


def closing(version: int, *grants: TunnelGrant, reason: str = "suspended") -> CloseGrants:
    closed = tuple(ClosedGrant(id=one.id, number=one.number, reason=reason) for one in grants)
    return CloseGrants(tenant_id=TENANT, version=version, grants=closed)


def syncing(version: int, *grants: TunnelGrant) -> Sync:
    return Sync(tenant_id=TENANT, version=version, tunnels=grants)


def settled(one: TunnelGrant, reason: str, cut_at: float | None = None) -> Settle:
    return Settle(ClosedGrant(id=one.id, number=one.number, reason=reason), cut_at)


def applied(version: int) -> Reply:
    return Reply(Applied(tenant_id=TENANT, version=version))


def opened(one: TunnelGrant) -> Reply:
    return Reply(Opened(tenant_id=TENANT, grant_id=one.id))


def test_open_then_close() -> None:
    machine, one = GatewayMachine(TENANT), grant(11)
    assert machine.received(syncing(3), 0) == [applied(3)]
    assert machine.received(opening(one), 0) == [
        OpenGrants((one,)),
        AddPeer(KEYS[0], "100.64.0.2"),
        opened(one),
    ]
    assert machine.received(closing(4, one), 1) == [
        CutGrants((11,)),
        RemovePeer(KEYS[0]),
        applied(4),
        settled(one, "suspended"),
    ]
    assert [entry.version for entry in machine.applied()] == [4]


def test_peer_stays_while_another_grant_of_it_lives() -> None:
    machine, one, two = GatewayMachine(TENANT), grant(1), grant(2)
    machine.received(syncing(1, one, two), 0)
    assert machine.received(closing(2, one), 0) == [CutGrants((1,)), applied(2), settled(one, "suspended")]


def test_open_says_nothing_about_versions() -> None:
    machine = GatewayMachine(TENANT)
    machine.received(syncing(3), 0)
    machine.received(opening(grant(1), version=9), 0)
    assert [entry.version for entry in machine.applied()] == [3]


def test_a_closed_grant_does_not_come_back() -> None:
    machine, one = GatewayMachine(TENANT), grant(1)
    machine.received(syncing(1), 0)
    assert machine.received(closing(2, one), 0) == [applied(2), settled(one, "suspended")]
    assert machine.received(opening(one), 0) == []
    assert machine.received(closing(3, one), 0) == [applied(3)]
    assert not machine.live


def test_expiry_is_settled_with_its_own_instant() -> None:
    machine, one = GatewayMachine(TENANT), grant(1, until=50)
    machine.received(syncing(1, one), 0)
    assert machine.next_wake() == 50
    assert machine.tick(49.9) == []
    assert machine.tick(50.2) == [CutGrants((1,)), RemovePeer(KEYS[0]), settled(one, "expired", 50)]
    assert machine.next_wake() is None


def test_a_grant_that_is_expired_on_arrival_is_not_opened() -> None:
    machine, one = GatewayMachine(TENANT), grant(1, until=5)
    assert machine.received(opening(one), 5) == [settled(one, "expired", 5)]


def test_sync_cuts_what_is_beyond_and_opens_what_is_missing() -> None:
    machine, old, kept, new = GatewayMachine(TENANT), grant(1), grant(2, client=1), grant(3, client=2)
    machine.received(syncing(1, old, kept), 0)
    assert machine.received(syncing(5, kept, new), 0) == [
        CutGrants((1,)),
        RemovePeer(KEYS[0]),
        settled(old, "not-in-sync"),
        OpenGrants((new,)),
        AddPeer(KEYS[2], "100.64.0.4"),
        applied(5),
    ]


def test_a_sync_entry_without_key_keeps_what_is_held_and_opens_nothing() -> None:
    machine, held = GatewayMachine(TENANT), grant(1)
    machine.received(syncing(1, held), 0)
    nameless = msgspec.structs.replace(held, peer_public_key="")
    assert machine.received(syncing(2, nameless, grant(2, key="")), 0) == [applied(2)]
    assert machine.live == {held.id: held}


def test_lapse_shelves_and_sync_brings_back_or_ends() -> None:
    machine, one, two = GatewayMachine(TENANT), grant(1), grant(2, client=1)
    machine.received(syncing(1, one, two), 0)
    assert machine.lapsed(5) == [Lapse(), CutGrants((1, 2))]
    assert machine.received(syncing(2, one), 6) == [
        RemovePeer(KEYS[1]),
        settled(two, "lapsed"),
        OpenGrants((one,)),
        applied(2),
    ]
    assert machine.lease(60, 7) == [RefreshAlive(60)]


def test_a_new_key_of_the_device_replaces_its_peer() -> None:
    machine, one = GatewayMachine(TENANT), grant(1)
    machine.received(syncing(1, one), 0)
    renewed = msgspec.structs.replace(one, peer_public_key=KEYS[2])
    assert machine.received(opening(renewed), 0) == [
        CutGrants((1,)),
        OpenGrants((renewed,)),
        RemovePeer(KEYS[0]),
        AddPeer(KEYS[2], "100.64.0.2"),
        opened(one),
    ]


def test_opening_again_is_confirmed_again() -> None:
    machine, one = GatewayMachine(TENANT), grant(1)
    machine.received(opening(one), 0)
    assert machine.received(opening(one), 1) == [opened(one)]


@pytest.mark.parametrize("wrong", [grant(1, on=resource("fd00::/64")), grant(1, key="rubbish"), grant(0), grant(2**32)])
def test_what_cannot_be_enforced_never_opens(wrong: TunnelGrant) -> None:
    machine = GatewayMachine(TENANT)
    assert machine.received(opening(wrong), 0) == [settled(wrong, "malformed")]
    other = GatewayMachine(TENANT)
    assert other.received(syncing(1, wrong), 0) == [settled(wrong, "malformed"), applied(1)]


def test_another_tenants_message_is_an_error() -> None:
    machine, one = GatewayMachine(TENANT), grant(1)
    with pytest.raises(Malformed):
        machine.received(OpenGrant(tenant_id=OTHER_TENANT, version=1, tunnel=one), 0)
    assert not machine.live


@dataclass
class Kernel:
    """What the data plane would let through, from the commands alone."""

    open: dict[int, TunnelGrant] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    settled: list[UUID] = field(default_factory=list)

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case OpenGrants(grants):
                    for one in grants:
                        assert one.number not in self.open
                        self.open[one.number] = one
                case CutGrants(numbers):
                    for number in numbers:
                        self.open.pop(number, None)
                case AddPeer(key, address):
                    self.peers[key] = address
                case RemovePeer(key):
                    del self.peers[key]
                case Settle(closed):
                    self.settled.append(closed.id)
                case _:
                    pass

    def lets_through(self, now: float) -> set[UUID]:
        """Live in the kernel: elements expire by themselves, whatever the machine does."""
        return {one.id for one in self.open.values() if one.expires_at > now and one.peer_public_key in self.peers}


class GatewayPromise(RuleBasedStateMachine):
    """The data plane lets through exactly the grants that are live by the rules, and each ends with one receipt."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = GatewayMachine(TENANT)
        self.kernel = Kernel()
        self.now = 0.0
        self.version = 1
        self.number = 0
        self.model: dict[UUID, TunnelGrant] = {}
        self.ever: dict[UUID, TunnelGrant] = {}
        self.shelved: dict[UUID, TunnelGrant] = {}
        self.over: set[UUID] = set()

    def make(self, client: int, life: float) -> TunnelGrant:
        self.number += 1
        one = grant(self.number, client=client, until=self.now + life)
        self.ever[one.id] = one
        return one

    def age(self) -> None:
        for held in (self.model, self.shelved):
            for one in [one for one in held.values() if one.expires_at <= self.now]:
                del held[one.id]
                self.over.add(one.id)

    @rule(client=st.integers(0, 2), life=st.floats(0.5, 20))
    def open(self, client: int, life: float) -> None:
        one = self.make(client, life)
        self.kernel.take(self.machine.received(opening(one, self.version), self.now))
        self.model[one.id] = one

    @rule(pick=st.integers(0, 50))
    def reopen(self, pick: int) -> None:
        if self.ever:
            one = list(self.ever.values())[pick % len(self.ever)]
            self.kernel.take(self.machine.received(opening(one, self.version), self.now))
            if one.id not in self.over and one.expires_at > self.now:
                self.shelved.pop(one.id, None)
                self.model[one.id] = one
            else:
                self.over.add(one.id)

    @rule(picks=st.lists(st.integers(0, 50), max_size=3))
    def close(self, picks: list[int]) -> None:
        self.version += 1
        chosen = {
            one.id: one for pick in picks if self.ever for one in [list(self.ever.values())[pick % len(self.ever)]]
        }
        self.kernel.take(self.machine.received(closing(self.version, *chosen.values()), self.now))
        for grant_id in chosen:
            self.model.pop(grant_id, None)
            self.shelved.pop(grant_id, None)
            self.over.add(grant_id)

    @rule(keep=st.integers(0, 7), extra=st.integers(0, 2))
    def sync(self, keep: int, extra: int) -> None:
        self.version += 1
        held = [*self.model.values(), *self.shelved.values()]
        kept = [one for index, one in enumerate(held) if keep >> (index % 3) & 1]
        added = [self.make(index, 9.0) for index in range(extra)]
        self.kernel.take(self.machine.received(syncing(self.version, *kept, *added), self.now))
        named = {one.id for one in kept}
        self.over |= {one.id for one in held if one.id not in named}
        self.model = {one.id: one for one in (*kept, *added)}
        self.shelved = {}

    @rule()
    def lapse(self) -> None:
        self.kernel.take(self.machine.lapsed(self.now))
        self.shelved |= self.model
        self.model = {}

    @rule(seconds=st.floats(0.1, 8), told=st.booleans())
    def pass_time(self, seconds: float, told: bool) -> None:
        self.now += seconds
        self.age()
        if told:
            self.kernel.take(self.machine.tick(self.now))

    @invariant()
    def lets_through_exactly_the_live_ones(self) -> None:
        self.age()
        assert self.kernel.lets_through(self.now) == set(self.model)

    @invariant()
    def settles_once(self) -> None:
        assert len(self.kernel.settled) == len(set(self.kernel.settled))
        assert set(self.kernel.settled) <= self.over

    def teardown(self) -> None:
        self.kernel.take(self.machine.tick(self.now))
        self.age()
        assert set(self.kernel.settled) == self.over
        assert set(self.kernel.peers) == {one.peer_public_key for one in (*self.model.values(), *self.shelved.values())}


TestGatewayPromise = GatewayPromise.TestCase
TestGatewayPromise.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
