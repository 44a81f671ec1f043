"""The decision: default deny, explicit deny wins, absolute expiry.

Rules, in order:

1. An inactive or blocked subject is denied.
2. For each action asked for: a deny policy that names it and whose conditions all hold denies the request.
3. Each action needs one allow policy whose conditions all hold; of several, the one that lasts longest is taken,
   ties by id.
4. ``expires_at`` is the minimum over the chosen policies' next changes, and over the instants at which a deny
   policy that does not hold yet could begin to hold by time alone.
"""

from datetime import datetime, timedelta
from uuid import UUID

from limen.engine.conditions import Environment, check, next_change
from limen.engine.index import PolicyIndex
from limen.engine.model import Effect, Policy, Request
from limen.kernel.access import Action, ConditionResult, Decision

DEFAULT_MAX_SECONDS = 12 * 3600
"""No decision lasts longer than this after the access began, whatever its policies say."""

_LONGEST = timedelta(seconds=DEFAULT_MAX_SECONDS)
_Verdict = tuple[Policy, tuple[ConditionResult, ...]]


def decide(request: Request, index: PolicyIndex, version: int) -> Decision:
    """Decide one request against the policies of one tenant version. Pure and total."""
    env = request.environment
    subject = request.subject
    if not subject.active:
        return _denied("the subject is not active", version)
    if subject.blocked:
        return _denied(subject.blocked, version, fix="ask an administrator to lift the block")
    expires_at = (env.since or env.now) + _LONGEST
    allows = []
    for policy in index.concerning(subject.id, subject.groups, request.resource_id):
        if policy.actions.isdisjoint(request.actions):
            continue
        if policy.effect is Effect.ALLOW:
            allows.append(policy)
            continue
        results = _check_all(policy, env)
        if _all_hold(results):
            return Decision(False, f"denied by policy '{policy.name}'", policy.id, results, None, version)
        expires_at = min([expires_at, *_turns(policy, env)])
    if not allows:
        return _denied("no policy allows this", version, fix="ask an administrator for access")
    return _allow(request, allows, expires_at, version)


def permitted(request: Request, index: PolicyIndex, version: int) -> frozenset[Action]:
    """The subset of the asked actions that would each be allowed on its own."""
    single = (
        (action, Request(request.subject, request.resource_id, frozenset({action}), request.environment))
        for action in request.actions
    )
    return frozenset(action for action, question in single if decide(question, index, version).allowed)


def _allow(request: Request, allows: list[Policy], expires_at: datetime, version: int) -> Decision:
    env = request.environment
    # Nothing outlasts a policy without conditions, so the first of those is rule 3's choice; mostly it is all there is.
    lasting = [policy for policy in allows if not policy.conditions]
    if lasting and expires_at > env.now:
        first = lasting[0] if len(lasting) == 1 else min(lasting, key=lambda policy: policy.id.int)
        if first.actions >= request.actions:
            return Decision(True, "allowed by policy", first.id, (), expires_at, version)
    verdicts = [(policy, _check_all(policy, env)) for policy in allows]
    holding = [(_lasts_until(policy, env), policy, results) for policy, results in verdicts if _all_hold(results)]
    if len(holding) > 1:
        holding.sort(key=lambda entry: (-entry[0].timestamp() if entry[0] else float("-inf"), entry[1].id))
    chosen: list[tuple[UUID, tuple[ConditionResult, ...]]] = []
    missing = request.actions
    for lasts, policy, results in holding:
        if policy.actions.isdisjoint(missing):
            continue
        missing = missing - policy.actions
        chosen.append((policy.id, results))
        if lasts is not None:
            expires_at = min(expires_at, lasts)
    if missing:
        return _refused(verdicts, missing, version)
    if expires_at <= env.now:
        return _denied("the access has reached its longest duration", version, fix="open it again")
    results = chosen[0][1] if len(chosen) == 1 else tuple(result for _, found in chosen for result in found)
    return Decision(True, "allowed by policy", chosen[0][0], results, expires_at, version)


def _refused(verdicts: list[_Verdict], missing: frozenset[Action], version: int) -> Decision:
    """Name the policy that came closest, so that its failed condition can be told."""
    failed = [
        (sum(not result.holds for result in results), policy.id, policy, results)
        for policy, results in verdicts
        if not policy.actions.isdisjoint(missing) and not _all_hold(results)
    ]
    if not failed:
        actions = ", ".join(sorted(missing))
        return _denied(f"no policy allows {actions}", version, fix="ask an administrator for access")
    _, _, policy, results = min(failed, key=lambda entry: entry[:2])
    why = next(result.detail for result in results if not result.holds)
    return Decision(
        False,
        f"a condition of policy '{policy.name}' does not hold: {why}",
        policy.id,
        results,
        None,
        version,
    )


def _check_all(policy: Policy, env: Environment) -> tuple[ConditionResult, ...]:
    if not policy.conditions:  # most policies have none
        return ()
    return tuple(check(condition, env) for condition in policy.conditions)


def _all_hold(results: tuple[ConditionResult, ...]) -> bool:
    return not results or all(result.holds for result in results)


def _lasts_until(policy: Policy, env: Environment) -> datetime | None:
    return min(_turns(policy, env), default=None) if policy.conditions else None


def _turns(policy: Policy, env: Environment) -> list[datetime]:
    changes = (next_change(condition, env) for condition in policy.conditions)
    return [change for change in changes if change is not None]


def _denied(reason: str, version: int, fix: str = "") -> Decision:
    conditions = (ConditionResult("policy", False, reason, fix),) if fix else ()
    return Decision(False, reason, None, conditions, None, version)
