"""A laboratory of network namespaces: laptop - gateway - private network, joined by veth pairs.

Names carry a random suffix; leaving the context manager removes everything, also after an error.
"""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]

CLIENT_OUTSIDE = "192.0.2.2"
GATEWAY_OUTSIDE = "192.0.2.1"
GATEWAY_INSIDE = "10.77.0.1"
RESOURCE_A = "10.77.0.10"
RESOURCE_B = "10.77.0.11"


def run(*command: str) -> str:
    """Run a command; its output. Raises with the error text when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Lab:
    """Three namespaces and the processes started in them."""

    suffix: str = field(default_factory=lambda: secrets.token_hex(3))
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """What killed processes leave in the file system, removed at the end."""

    def namespace(self, host: str) -> str:
        """The namespace of ``client``, ``gateway`` or ``resource``."""
        return f"limen-{host}-{self.suffix}"

    def run(self, host: str, *command: str) -> str:
        """Run a command on a host."""
        return run("ip", "netns", "exec", self.namespace(host), *command)

    def start(self, host: str, *arguments: str, **options: object) -> "subprocess.Popen[str]":
        """Start Python on a host with our sources; it is killed at the end of the lab at the latest."""
        process: subprocess.Popen[str] = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace(host), sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=SOURCE,
            **options,  # type: ignore[call-overload]
        )
        self.processes.append(process)
        return process

    def __enter__(self) -> "Lab":
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _build(self) -> None:
        for host in ("client", "gateway", "resource"):
            run("ip", "netns", "add", self.namespace(host))
            self.run(host, "ip", "link", "set", "lo", "up")
        self._join("client", CLIENT_OUTSIDE, "gateway", GATEWAY_OUTSIDE, "out")
        self._join("gateway", GATEWAY_INSIDE, "resource", RESOURCE_A, "in")
        self.run("resource", "ip", "address", "add", f"{RESOURCE_B}/24", "dev", f"in1{self.suffix}")

    def _join(self, left: str, left_address: str, right: str, right_address: str, name: str) -> None:
        ends = (f"{name}0{self.suffix}", f"{name}1{self.suffix}")
        sides = ((left, left_address, ends[0]), (right, right_address, ends[1]))
        where = [self.namespace(host) for host in (left, right)]
        run(
            *("ip", "link", "add", ends[0], "netns", where[0], "type", "veth"),
            *("peer", "name", ends[1], "netns", where[1]),
        )
        for host, address, end in sides:
            self.run(host, "ip", "address", "add", f"{address}/24", "dev", end)
            self.run(host, "ip", "link", "set", end, "up")

    def _remove(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        for host in ("client", "gateway", "resource"):
            with contextlib.suppress(RuntimeError):
                for pid in run("ip", "netns", "pids", self.namespace(host)).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), 9)
                run("ip", "netns", "delete", self.namespace(host))
        for path in self.files:
            path.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """The environment of processes in the lab."""
    return {**os.environ, "PYTHONPATH": f"{SOURCE / 'src'}:{SOURCE}", "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def laboratory() -> Iterator[Lab]:
    """A fresh lab."""
    with Lab() as lab:
        yield lab
