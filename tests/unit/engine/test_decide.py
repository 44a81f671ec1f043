"""The engine against a brute-force oracle that shares none of its code paths."""

from datetime import UTC, datetime, time, timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.engine.conditions import (
    Condition,
    Environment,
    MaxDuration,
    SourceAddress,
    TimeWindow,
    VerifiedDevice,
    check,
    next_change,
)
from limen.engine.decide import DEFAULT_MAX_SECONDS, decide, permitted
from limen.engine.index import PolicyIndex
from limen.engine.model import Effect, Policy, Request, SubjectFacts
from limen.kernel.access import Action

IDS = [UUID(int=number) for number in range(1, 7)]
ACTIONS = [Action.READ, Action.WRITE, Action.LIST]
ZONES = ["UTC", "Europe/Paris", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia"]
NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before Paris changes its clocks

times = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
windows = st.builds(
    TimeWindow,
    st.frozensets(st.integers(1, 7), min_size=1),
    times,
    times,
    st.sampled_from(ZONES),
)
sources = st.builds(
    SourceAddress,
    st.lists(
        st.sampled_from([ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]),
        min_size=1,
        max_size=2,
    ).map(tuple),
)
conditions = st.one_of(windows, sources, st.just(VerifiedDevice()), st.builds(MaxDuration, st.integers(1, 90_000)))
instants = st.integers(0, 60 * 24 * 10).map(lambda minutes: NOW + timedelta(minutes=minutes))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    effect = draw(st.sampled_from(Effect))
    allowed = conditions if effect is Effect.ALLOW else st.one_of(windows, sources, st.just(VerifiedDevice()))
    return Policy(
        id=draw(st.uuids()),
        name="p",
        effect=effect,
        principals=draw(st.frozensets(st.sampled_from(IDS), min_size=1, max_size=3)),
        resources=draw(st.frozensets(st.sampled_from(IDS), min_size=1, max_size=3)),
        actions=draw(st.frozensets(st.sampled_from(ACTIONS), min_size=1)),
        conditions=tuple(draw(st.lists(allowed, max_size=3))),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    now = draw(instants)
    return Request(
        subject=SubjectFacts(
            id=draw(st.sampled_from(IDS)),
            groups=draw(st.frozensets(st.sampled_from(IDS), max_size=3)),
            active=draw(st.sampled_from([True, True, True, False])),
            blocked=draw(st.sampled_from(["", "", "", "suspended until lifted"])),
        ),
        resource_id=draw(st.sampled_from(IDS)),
        actions=draw(st.frozensets(st.sampled_from(ACTIONS), min_size=1)),
        environment=Environment(
            now=now,
            source=draw(st.sampled_from(["", "10.1.2.3", "192.0.2.7", "2001:db8::1", "8.8.8.8"])),
            device_verified=draw(st.booleans()),
            since=draw(st.one_of(st.none(), st.integers(0, 600).map(lambda m: now - timedelta(minutes=m)))),
        ),
    )


def window_holds(window: TimeWindow, instant: datetime) -> bool:
    """The oracle's own reading: compare wall clocks, no spans."""
    local = instant.astimezone(ZoneInfo(window.zone))
    clock = local.time().replace(tzinfo=None)
    today, yesterday = local.isoweekday(), (local.isoweekday() - 2) % 7 + 1
    if window.end > window.start:
        return today in window.days and window.start <= clock < window.end
    return (today in window.days and clock >= window.start) or (yesterday in window.days and clock < window.end)


def oracle_holds(condition: Condition, env: Environment) -> bool:
    match condition:
        case TimeWindow():
            return window_holds(condition, env.now)
        case SourceAddress():
            return bool(env.source) and any(
                network.version == ip_address(env.source).version and ip_address(env.source) in network
                for network in condition.networks
            )
        case VerifiedDevice():
            return env.device_verified
        case MaxDuration():
            return True


def oracle_allows(request: Request, stored: list[Policy]) -> bool:
    subject, env = request.subject, request.environment
    if not subject.active or subject.blocked:
        return False
    named = [
        policy
        for policy in stored
        if ({subject.id} | subject.groups) & policy.principals and request.resource_id in policy.resources
    ]
    holding = [policy for policy in named if all(oracle_holds(one, env) for one in policy.conditions)]
    if any(policy.effect is Effect.DENY and policy.actions & request.actions for policy in holding):
        return False

    def over(policy: Policy) -> bool:
        limits = [one.seconds for one in policy.conditions if isinstance(one, MaxDuration)]
        return any((env.since or env.now) + timedelta(seconds=limit) <= env.now for limit in limits)

    return (
        all(
            any(policy.effect is Effect.ALLOW and action in policy.actions and not over(policy) for policy in holding)
            for action in request.actions
        )
        and (env.since or env.now) + timedelta(seconds=DEFAULT_MAX_SECONDS) > env.now
    )


def no_clock_change(request: Request, stored: list[Policy]) -> bool:
    """Wall-clock comparison and spans differ by design within an hour that a zone repeats or skips."""
    zones = {one.zone for policy in stored for one in policy.conditions if isinstance(one, TimeWindow)}
    near = [request.environment.now + timedelta(hours=offset) for offset in range(-26, 27)]
    return all(len({instant.astimezone(ZoneInfo(zone)).utcoffset() for instant in near}) == 1 for zone in zones)


@pytest.mark.row("N3")
@settings(max_examples=600, deadline=None)
@given(st.lists(policies(), max_size=8), requests())
def test_agrees_with_the_oracle(stored: list[Policy], request: Request) -> None:
    decision = decide(request, PolicyIndex(stored), 7)
    if no_clock_change(request, stored):
        assert decision.allowed == oracle_allows(request, stored)
    assert decision.version == 7
    if decision.allowed:
        assert decision.policy_id in {policy.id for policy in stored}
        assert decision.expires_at is not None
        assert decision.expires_at > request.environment.now
    else:
        assert decision.expires_at is None


@pytest.mark.row("N3")
@settings(max_examples=300, deadline=None)
@given(st.lists(policies(), max_size=6), requests(), st.floats(0, 0.999))
def test_an_allowed_access_stays_allowed_until_it_expires(stored: list[Policy], request: Request, share: float) -> None:
    """Time alone never turns a decision before ``expires_at``: else a live grant would be stale."""
    index = PolicyIndex(stored)
    decision = decide(request, index, 1)
    if not decision.allowed or decision.expires_at is None:
        return
    env = request.environment
    later = env.now + (decision.expires_at - env.now) * share
    moved = Environment(later, env.source, env.device_verified, env.since or env.now)
    assert decide(Request(request.subject, request.resource_id, request.actions, moved), index, 1).allowed


@given(st.lists(policies(), max_size=6), requests())
def test_permitted_is_each_action_on_its_own(stored: list[Policy], request: Request) -> None:
    index = PolicyIndex(stored)
    part = permitted(request, index, 1)
    for action in ACTIONS:
        alone = Request(request.subject, request.resource_id, frozenset({action}), request.environment)
        assert (action in part) == (action in request.actions and decide(alone, index, 1).allowed)


@settings(max_examples=200, deadline=None)
@given(windows, instants)
def test_a_window_keeps_its_answer_until_its_next_change(window: TimeWindow, now: datetime) -> None:
    change = next_change(window, Environment(now))
    answer = check(window, Environment(now)).holds
    end = min(change or now + timedelta(days=8), now + timedelta(days=8))
    probe = now
    while probe < end:
        assert check(window, Environment(probe)).holds == answer
        probe += timedelta(minutes=53)
    if change is not None:
        assert check(window, Environment(change)).holds != answer


def _policy(number: int, effect: Effect, *found: Condition) -> Policy:
    return Policy(
        UUID(int=number),
        f"policy {number}",
        effect,
        frozenset({IDS[0]}),
        frozenset({IDS[1]}),
        frozenset({Action.READ}),
        found,
    )


def _ask(now: datetime = NOW, source: str = "") -> Request:
    return Request(SubjectFacts(IDS[0]), IDS[1], frozenset({Action.READ}), Environment(now, source))


def test_default_deny_says_what_to_do() -> None:
    decision = decide(_ask(), PolicyIndex([]), 1)
    assert not decision.allowed
    assert decision.reason == "no policy allows this"
    assert decision.conditions[0].fix


def test_a_denial_names_the_failed_condition() -> None:
    office = SourceAddress((ip_network("192.0.2.0/24"),))
    decision = decide(_ask(source="8.8.8.8"), PolicyIndex([_policy(9, Effect.ALLOW, office)]), 1)
    assert not decision.allowed
    assert "policy 9" in decision.reason
    assert "8.8.8.8" not in decision.reason, "an address never reaches a reason"
    assert [(result.kind, result.holds) for result in decision.conditions] == [("source-address", False)]


def test_a_deny_window_ahead_ends_the_access_when_it_opens() -> None:
    freeze = TimeWindow(frozenset(range(1, 8)), time(6, 0), time(7, 0), "UTC")
    stored = [_policy(1, Effect.ALLOW), _policy(2, Effect.DENY, freeze)]
    decision = decide(_ask(), PolicyIndex(stored), 1)
    assert decision.allowed
    assert decision.expires_at == datetime(2026, 3, 29, 6, 0, tzinfo=UTC)


def test_of_two_policies_the_longer_lasting_one_carries_the_access() -> None:
    short = _policy(1, Effect.ALLOW, MaxDuration(60))
    long = _policy(2, Effect.ALLOW, MaxDuration(600))
    decision = decide(_ask(), PolicyIndex([short, long]), 1)
    assert decision.policy_id == long.id
    assert decision.expires_at == NOW + timedelta(seconds=600)


def test_a_policy_without_conditions_carries_the_access_before_all_others() -> None:
    """It lasts longest; of several the first by id, whatever order they were stored in."""
    short = _policy(1, Effect.ALLOW, MaxDuration(60))
    stored = [_policy(5, Effect.ALLOW), short, _policy(3, Effect.ALLOW)]
    decision = decide(_ask(), PolicyIndex(stored), 1)
    assert decision.policy_id == UUID(int=3)
    assert decision.expires_at == NOW + timedelta(seconds=DEFAULT_MAX_SECONDS)


def test_a_group_that_is_also_the_subject_counts_once() -> None:
    found = PolicyIndex([_policy(1, Effect.ALLOW)]).concerning(IDS[0], frozenset({IDS[0], IDS[2]}), IDS[1])
    assert [policy.id for policy in found] == [UUID(int=1)]
