"""``python -m demo [--report FILE]``; see the package."""

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from demo.api import ApiError
from demo.lab import LabError
from demo.processes import StepFailed
from demo.report import Report
from demo.story import Story, require_root


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Play; the exit status is 0 only if all of it holds."""
    parser = argparse.ArgumentParser(prog="./dev demo", description="Limen's main job, end to end, with real parts.")
    parser.add_argument("--report", type=Path, help="write what was measured as JSON")
    parser.add_argument("--keep-logs", type=Path, help="copy the processes' logs here at the end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    report = Report()
    try:
        with ExitStack() as stack:
            require_root()
            story = Story(stack, report)
            if options.keep_logs is not None:
                stack.callback(story.keep_logs, options.keep_logs)
            story.play()
            print("Taking everything down", flush=True)
    except (StepFailed, ApiError, LabError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; everything was taken down", file=sys.stderr)
        return 130
    finally:
        if options.report is not None:
            report.write(options.report)
    print("All of it holds." if report.ok else "Not all of it holds.")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
