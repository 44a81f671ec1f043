"""The demo itself, as a user runs it: all of it holds, and nothing is left behind, also when it is interrupted."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.scratch import scratch_directory

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("demo")]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def scratch() -> Path:
    return scratch_directory("limen-demo-")


def start(scratch: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def remains(scratch: Path, output: str) -> list[str]:
    """What is left of a demo: namespaces and links of its lab, processes and files of its directory."""
    named = re.search(r"namespaces that end in -([0-9a-f]+)", output)
    assert named is not None, output
    found = [str(path) for path in scratch.iterdir()]
    for command in (["ip", "netns", "list"], ["ip", "-o", "link"]):
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found += [line for line in listed.splitlines() if line.startswith("lmn-") and named[1] in line.split()[0]]
        found += [line for line in listed.splitlines() if f"lmnb{named[1]}" in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(scratch) in words:
                    found.append(f"{entry.name} {words}")
    return found


@pytest.mark.row("N4")
@pytest.mark.row("F7")
def test_all_of_it_holds(scratch: Path, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    running = start(scratch, "--report", str(report_file))
    output, _ = running.communicate(timeout=300)
    assert running.returncode == 0, output
    report = json.loads(report_file.read_text())
    assert report["ok"] is True
    assert report["tunnel"]["bytes"] >= 50 << 20
    assert all(report["tunnel"][name] is True for name in ("sha256_ok", "denied_ok"))
    assert all(report["sftp"][name] is True for name in ("put_ok", "get_ok", "rename_ok", "jail_ok", "bucket_ok"))
    assert report["vault"] == {"bao_ok": True, "hvac_ok": True}
    for door in ("tunnel", "sftp", "vault", "console"):
        assert 0 <= report["revocation"][f"{door}_ms"] < 10_000
    assert report["revocation"]["other_tenant_untouched"] is True
    assert report["audit"]["verified"] is True
    assert report["audit"]["tamper_detected"] is True
    assert report["audit"]["records"] > 50
    assert remains(scratch, output) == []


def test_an_interrupted_demo_takes_everything_down(scratch: Path) -> None:
    running = start(scratch)
    assert running.stdout is not None
    seen = ""
    deadline = time.monotonic() + 90
    while "Fetching a page" not in seen:
        assert time.monotonic() < deadline, seen
        line = running.stdout.readline()
        assert line, f"the demo ended early: {seen}"
        seen += line
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 130, output
    assert "everything was taken down" in output
    assert remains(scratch, seen + output) == []
