"""``python -m benchmarks NAME [--json FILE] [--quick]``: run one benchmark and print its table."""

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demo.processes import StepFailed

from benchmarks.report import table, write_json
from limen.runtime.logs import configure_logs

NAMES = {
    "tunnel": "throughput through the gateway with enforcement, against bare WireGuard",
    "revocation": "from the commit of a suspension to the last byte, closed session and first 403",
    "policy": "decisions per second, against a scan over all policies",
    "sftp": "processor time of the file door, against OpenSSH's server",
    "vault": "reads and durable writes, against OpenBao",
    "audit": "records and seals per second, against a bare INSERT",
    "connect": "first packet to first byte, cold, against the way without a tunnel",
    "agents": "processor time of idle agent channels, against bare WebSockets",
}
NOT_BUILT = {"relay": "the relay is not built yet, so there is nothing to measure"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status: 0, 1 when the benchmark failed, 2 when there is none of that name."""
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        description="Measure Limen beside its limits, on this machine.",
        epilog="; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    )
    parser.add_argument("name", help=", ".join((*NAMES, *NOT_BUILT)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works, measures nothing")
    options = parser.parse_args(arguments)
    if options.name not in NAMES:
        words = NOT_BUILT.get(options.name, f"there is no benchmark {options.name}; there are {', '.join(NAMES)}")
        print(f"bench: {words}", file=sys.stderr)
        return 2
    configure_logs("bench", level="warning")
    started = time.monotonic()
    try:
        rows = importlib.import_module(f"benchmarks.{options.name}").run(quick=options.quick)
    except StepFailed as exc:
        print(f"bench {options.name}: {exc}", file=sys.stderr)
        return 1
    print(table(rows))
    print(f"({time.monotonic() - started:.0f} s on {platform.machine()}, Linux {platform.release()})")
    if options.json is not None:
        write_json(options.json, options.name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
