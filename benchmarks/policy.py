"""Decisions per second of the policy engine, by number of policies.

Policies: each names one group and one resource of its own pool; one in ten has a time window, one in ten a source
address, the rest no condition. A subject is in five groups. Requests are drawn so that most name a pair that a policy
names. Peers: the naive way, which reads every policy for every request (with the same conditions), and as the upper
limit a look-up of the request's pair in a dict that holds the answer.
"""

import gc
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from datetime import time as wall_time
from ipaddress import ip_network
from uuid import UUID

from benchmarks.measure import median
from benchmarks.report import Row, row
from limen.engine.conditions import Condition, Environment, SourceAddress, TimeWindow, check
from limen.engine.decide import decide
from limen.engine.index import PolicyIndex
from limen.engine.model import Effect, Policy, Request, SubjectFacts
from limen.kernel.access import Action

SIZES = (10, 1_000, 100_000)
GROUPS_OF_A_SUBJECT = 5
REQUESTS = 2_000
_NOW = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
_OFFICE = SourceAddress((ip_network("192.0.2.0/24"),))
_HOURS = TimeWindow(frozenset(range(1, 6)), wall_time(8), wall_time(18), "Europe/Paris")
_CONDITIONS: dict[int, tuple[Condition, ...]] = {0: (_HOURS,), 1: (_OFFICE,)}
_READ = frozenset({Action.READ})


def run(*, quick: bool) -> list[Row]:
    """All sizes."""
    rounds, seconds = (1, 0.05) if quick else (5, 0.5)
    rows = []
    for size in SIZES[:2] if quick else SIZES:
        rows += _measured(size, rounds, seconds)
    return rows


def _measured(size: int, rounds: int, seconds: float) -> list[Row]:
    policies, requests = workload(size)
    started = time.perf_counter()
    index = PolicyIndex(policies)
    built = time.perf_counter() - started
    started = time.perf_counter()
    listed = {(one, policy.resources): policy for policy in policies for one in policy.principals}
    listing = time.perf_counter() - started
    answers = {id(request): decide(request, index, 1) for request in requests}
    _check_agreement(policies, requests[: max(5, 200_000 // size)], index)

    ours, scans, look_ups = [], [], []
    for _ in range(rounds):
        ours.append(_rate(lambda request: decide(request, index, 1), requests, seconds))
        scans.append(_rate(lambda request: scan(request, policies), requests, seconds))
        look_ups.append(_rate(lambda request: answers[id(request)], requests, seconds))
    case = f"{size:,} policies"
    assert listed
    return [
        row(case, "decisions/s, more is better", median(ours), median(scans), "scan of all policies"),
        row(case, "decisions/s, more is better", median(ours), median(look_ups), "dict look-up of the answer"),
        row(case, "index build s, less is better", built, listing, "dict of the same policies"),
    ]


def workload(size: int, seed: int = 7) -> tuple[list[Policy], list[Request]]:
    """Policies and requests, the same for the same seed."""
    chance = random.Random(seed)
    pool = max(5, round(size**0.5) * 2)
    groups = [UUID(int=1_000_000 + number) for number in range(pool)]
    resources = [UUID(int=2_000_000 + number) for number in range(pool)]
    policies = []
    for number in range(size):
        conditions = _CONDITIONS.get(number % 10, ())
        policies.append(
            Policy(
                id=UUID(int=number),
                name=f"policy {number}",
                effect=Effect.DENY if number % 97 == 96 else Effect.ALLOW,
                principals=frozenset({chance.choice(groups)}),
                resources=frozenset({chance.choice(resources)}),
                actions=_READ,
                conditions=conditions,
            )
        )
    requests = []
    for number in range(REQUESTS):
        named = chance.choice(policies)
        others = chance.sample(groups, min(len(groups), GROUPS_OF_A_SUBJECT) - 1)
        subject = SubjectFacts(UUID(int=3_000_000 + number), frozenset({*named.principals, *others}))
        source = "192.0.2.7" if number % 2 else "198.51.100.7"
        requests.append(Request(subject, next(iter(named.resources)), _READ, Environment(_NOW, source)))
    return policies, requests


def scan(request: Request, policies: Sequence[Policy]) -> bool:
    """The naive way: every policy, one after the other, in one pass."""
    subject = request.subject
    if not subject.active or subject.blocked:
        return False
    allowed = False
    for policy in policies:
        if request.resource_id not in policy.resources or not policy.actions >= request.actions:
            continue
        if subject.id not in policy.principals and policy.principals.isdisjoint(subject.groups):
            continue
        if all(check(condition, request.environment).holds for condition in policy.conditions):
            if policy.effect is Effect.DENY:
                return False
            allowed = True
    return allowed


def _check_agreement(policies: Sequence[Policy], requests: Sequence[Request], index: PolicyIndex) -> None:
    """A comparison of two that answer differently would say nothing."""
    for request in requests:
        assert decide(request, index, 1).allowed == scan(request, policies)


def _rate(work: Callable[[Request], object], requests: Sequence[Request], seconds: float) -> float:
    """Calls per second: whole passes over the requests while there is time, at least a few calls of a slow one."""
    done = 0
    gc.collect()
    started = time.perf_counter()
    while True:
        for request in requests:
            work(request)
            done += 1
            if done % 8 == 0 and time.perf_counter() - started > seconds:
                return done / (time.perf_counter() - started)
