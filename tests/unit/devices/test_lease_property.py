"""The lease and the versions as a state machine: server session, wire, agent machine, all against a model.

Whatever the order in which changes commit, handlers run, messages travel, the agent applies, beats, lies or
reconnects, no lease is renewed for an agent that has not applied every change that ended one of its grants.
"""

from collections import deque
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from limen.control.devices.service.session import AgentSession
from limen.edge.channel import machine as m
from limen.kernel.facts import Change
from limen.wire.agent import AppliedVersion, CloseGrants, HeartbeatAck, Sync, ToAgent, Welcome
from limen.wire.codec import decode
from tests.support.agents import TENANT, a_change, an_agent, close_of, hello_of

LEASE = 60.0


class LeaseModel(RuleBasedStateMachine):
    """``committed``: the versions that ended a grant of this agent, at their times."""

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.version = 1
        self.concerned: list[tuple[int, float]] = []
        self.applied = 0
        self.told_versions: list[int] = []
        self.agent = m.ChannelMachine()
        self.connect()

    def connect(self) -> None:
        self.session = AgentSession(an_agent(), hello_of(an_agent()), steady=lambda: self.now)
        self.unhandled: deque[Change] = deque()
        self.to_agent: deque[bytes] = deque()
        self.to_server: deque[tuple[AppliedVersion, ...]] = deque()
        self.pending: deque[Any] = deque()
        self.told_versions = []
        if self.agent.phase is m.Phase.ONLINE:
            self.step(m.Dropped(0.0))
        else:
            self.step(m.Tick())
        self.step(m.Dialled())
        self.step(m.Arrived(Welcome(now=0.0, heartbeat_seconds=10.0, lease_seconds=LEASE, tenant_id=TENANT)))
        self.say(Sync(tenant_id=TENANT, version=self.version))

    def say(self, message: Any) -> None:
        self.session.post(message)
        data = self.session._out.popleft()
        self.to_agent.append(data)

    def step(self, event: m.Event) -> None:
        for command in self.agent.handle(event, self.now):
            if isinstance(command, m.SayHeartbeat):
                self.to_server.append((AppliedVersion(tenant_id=TENANT, version=self.applied),))
            elif isinstance(command, m.Deliver):
                self.pending.append(command.message)
            elif isinstance(command, m.TellLease):
                # The promise: at the moment the lease is granted, everything that was committed and dispatched
                # before the beat was answered is applied.
                assert command.until <= self.now + LEASE

    @rule(mine=st.booleans())
    def commit(self, mine: bool) -> None:
        """A change commits and is dispatched; its handler has not run yet."""
        self.version += 1
        agent_id = self.session.agent.id if mine else UUID(int=99)
        change = a_change(self.version, ended=[(UUID(int=1000 + self.version), agent_id)])
        if mine:
            self.concerned.append((self.version, self.now))
        self.session.enqueue(change)
        self.unhandled.append(change)

    @precondition(lambda self: self.unhandled)
    @rule()
    def handle(self) -> None:
        self.say(close_of(self.unhandled.popleft()))

    @precondition(lambda self: self.to_agent)
    @rule()
    def deliver(self) -> None:
        message = decode(self.to_agent.popleft(), ToAgent)
        if isinstance(message, Sync | CloseGrants):
            self.told_versions.append(message.version)
        self.step(m.Arrived(message))

    @precondition(lambda self: self.pending)
    @rule()
    def apply(self) -> None:
        self.applied = self.pending.popleft().version
        self.step(m.AppliedNow((AppliedVersion(tenant_id=TENANT, version=self.applied),)))

    @precondition(lambda self: self.to_server)
    @rule()
    def answer(self) -> None:
        applied = self.to_server.popleft()
        current = self.session.is_current(applied)
        if current:
            assert all(version <= applied[0].version for version, _ in self.concerned)
        self.say(HeartbeatAck(now=self.now, lease_seconds=LEASE if current else 0.0))

    @rule(version=st.integers(0, 50))
    def lie(self, version: int) -> None:
        """An agent that claims more than it was ever told gains nothing."""
        claim = (AppliedVersion(tenant_id=TENANT, version=version),)
        known = max((v for v in self.session._ledger._told.values()), default=-1)
        if version > known:
            assert not self.session.is_current(claim)

    @rule(seconds=st.sampled_from([1.0, 4.0, 9.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.step(m.Tick())
        if self.agent.phase is m.Phase.CLOSING:
            self.step(m.Dropped(0.0))
            self.reconnect_now()

    @rule()
    def reconnect(self) -> None:
        self.step(m.Dropped(0.0))
        self.reconnect_now()

    def reconnect_now(self) -> None:
        self.now += 40.0  # beyond any backoff
        self.agent.handle(m.Tick(), self.now)
        self.connect()

    @invariant()
    def versions_only_grow(self) -> None:
        told = getattr(self, "told_versions", [])
        assert told == sorted(told)

    @invariant()
    def lease_never_outlives_its_ground(self) -> None:
        """A grant that ended is cut or its lease over at most LEASE after the commit."""
        if not hasattr(self, "agent"):
            return
        until = self.agent._leased_until
        for version, at in self.concerned:
            if version > self.applied and until is not None:
                assert until <= at + LEASE


LeaseModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestLease = LeaseModel.TestCase
