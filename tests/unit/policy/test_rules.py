"""Conditions as JSON: what is read back is what was written; what is wrong is refused with a fix."""

from typing import Any

import pytest
from hypothesis import given

from limen.control.policy.rules import checked_actions, dump_conditions, load_conditions
from limen.engine.conditions import Condition
from limen.engine.model import Effect
from limen.kernel.access import ResourceKind
from limen.kernel.errors import Malformed
from tests.unit.engine.test_decide import conditions


@given(conditions)
def test_round_trip(condition: Condition) -> None:
    assert load_conditions(dump_conditions([condition]), Effect.ALLOW) == (condition,)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kind": "moon-phase"},
        {"kind": "verified-device", "extra": 1},
        {"kind": "max-duration"},
        {"kind": "max-duration", "seconds": 0},
        {"kind": "max-duration", "seconds": True},
        {"kind": "max-duration", "seconds": "60"},
        {"kind": "source-address", "networks": []},
        {"kind": "source-address", "networks": "10.0.0.0/8"},
        {"kind": "source-address", "networks": ["10.0.0.1/8"]},
        {"kind": "time-window", "days": [0], "start": "09:00", "end": "10:00", "zone": "UTC"},
        {"kind": "time-window", "days": [1], "start": "9:00", "end": "10:00", "zone": "UTC"},
        {"kind": "time-window", "days": [1], "start": "24:00", "end": "10:00", "zone": "UTC"},
        {"kind": "time-window", "days": [1], "start": "09:00", "end": "10:00", "zone": "Mars/Olympus"},
        {"kind": "time-window", "days": [1], "start": "09:00", "end": "10:00", "zone": "../../etc/passwd"},
    ],
)
def test_wrong_conditions_are_refused_with_a_fix(entry: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        load_conditions([entry], Effect.ALLOW)
    assert caught.value.fix


def test_an_action_must_fit_every_kind_of_resource() -> None:
    with pytest.raises(Malformed, match="no action of a network resource"):
        checked_actions(["connect", "read"], frozenset({ResourceKind.NETWORK}))
    with pytest.raises(Malformed):
        checked_actions(["connect"], frozenset({ResourceKind.NETWORK, ResourceKind.VAULT}))
