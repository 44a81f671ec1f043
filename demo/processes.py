"""Processes that the demo starts: each writes to a log of its own, and ends with the demo however that ends."""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StepFailed(RuntimeError):
    """A step of the demo did not do what it should; the message is for the person who watches."""


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Running:
    """One process. Use as a context manager, or call :meth:`stop`."""

    def __init__(
        self, name: str, command: Sequence[str | Path], logs: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until ``ready``.

        Raises:
            StepFailed: when the process ends first or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running():
                raise StepFailed(f"{self.name} ended by itself while waiting for {what}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise StepFailed(f"{what} did not happen within {seconds:.0f} s: {self.last_words()}")
            time.sleep(0.02)

    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """The last lines of its log."""
        return " | ".join(self.output().splitlines()[-3:])

    def finish(self, seconds: float) -> int:
        """Wait for it to end by itself; its exit status.

        Raises:
            StepFailed: when it does not.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{self.name} did not end within {seconds:.0f} s") from None

    def stop(self, seconds: float = 20.0) -> None:
        """SIGTERM, then SIGKILL."""
        if not self.running():
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def free_port(address: str) -> int:
    """A TCP port that nobody uses, below the range that the kernel hands out to clients by itself.

    Raises:
        StepFailed: when none was found.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise StepFailed(f"no free port on {address}")


def run(command: Sequence[str | Path], environ: Mapping[str, str] | None = None, seconds: float = 120.0) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        StepFailed: when it fails, with its own last words.
    """
    done = attempt(command, environ, seconds)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise StepFailed(f"{Path(str(command[0])).name} failed: {' | '.join(words)}")
    return done.stdout


def attempt(
    command: Sequence[str | Path], environ: Mapping[str, str] | None = None, seconds: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
        preexec_fn=_end_with_parent,
    )
