"""What ``./dev bench NAME --json FILE`` writes, and what the command answers to a wrong name. No times are asserted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import policy
from benchmarks.measure import interleaved, percentile
from benchmarks.report import Row, document, row, table, write_json

KEYS = {"case", "metric", "ours", "peer", "peer_name", "ratio"}


def test_a_row_has_its_ratio() -> None:
    assert row("c", "s", 3.0, 2.0, "other") == Row("c", "s", 3.0, 2.0, "other", 1.5)


@pytest.mark.parametrize("peer", [None, 0.0])
def test_without_a_peer_there_is_no_ratio(peer: float | None) -> None:
    assert row("c", "s", 3.0, peer).ratio is None


def test_json_has_exactly_the_agreed_keys(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    write_json(file, "policy", [row("c", "s", 1.0, 2.0, "other"), row("d", "s", 1.0)])
    read = json.loads(file.read_text())
    assert read == document("policy", [row("c", "s", 1.0, 2.0, "other"), row("d", "s", 1.0)])
    assert set(read) == {"name", "rows"}
    assert [set(found) for found in read["rows"]] == [KEYS, KEYS]


def test_the_table_shows_every_row() -> None:
    shown = table([row("first", "s", 1.0, 2.0, "other"), row("second", "s", 12340.0)])
    assert [line.split()[0] for line in shown.splitlines()] == ["case", "first", "second"]
    assert "12,340" in shown


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.5, 0.8, 0.99, 1.0)] == [3.0, 4.0, 5.0, 5.0]
    assert percentile([7.0], 0.5) == 7.0


def test_both_sides_run_in_turns() -> None:
    ran: list[str] = []

    def side(name: str) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            ran.append(name)
            return {"value": float(len(ran))}

        return run

    ours, peer = interleaved(3, side("ours"), side("peer"))
    assert ran == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert (ours, peer) == ({"value": 4.0}, {"value": 3.0})


@pytest.mark.parametrize(("name", "words"), [("relay", "not built yet"), ("nothing", "there is no benchmark")])
def test_what_cannot_run_says_so(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name]) == 2
    assert words in capsys.readouterr().err


def test_every_name_is_a_module() -> None:
    directory = Path(command.__file__).parent
    assert [name for name in command.NAMES if not (directory / f"{name}.py").exists()] == []


def test_the_policy_workload_is_the_same_each_time_and_mixed() -> None:
    policies, requests = policy.workload(1000)
    assert (policies, requests) == policy.workload(1000)
    assert sum(bool(one.conditions) for one in policies) == 200
    answers = {policy.scan(request, policies) for request in requests[:200]}
    assert answers == {True, False}
