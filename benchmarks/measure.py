"""Medians, percentiles, and the CPU time of processes."""

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
GIB = float(1 << 30)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended and were waited for (proc(5))."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / _TICKS


def tree_cpu_seconds(pid: int) -> float:
    """The same for a process and all its living descendants. Sample it before and after; do not let one end between."""
    return sum(cpu_seconds(one) for one in tree(pid))


def tree(pid: int) -> list[int]:
    """A process and its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def machine_cpu_seconds() -> float:
    """Busy time of all processors since boot, softirq included (the packet filter runs there)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]


def interleaved(
    rounds: int, ours: Callable[[], dict[str, float]], peer: Callable[[], dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Run both in turn, swapping who goes first; the medians of each value."""
    samples: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for number in range(rounds):
        order = ((0, ours), (1, peer)) if number % 2 == 0 else ((1, peer), (0, ours))
        for side, run in order:
            samples[side].append(run())
    return _medians(samples[0]), _medians(samples[1])


def _medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: median([sample[name] for sample in samples]) for name in samples[0]}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks: state is the first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
