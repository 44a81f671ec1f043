"""A platform started with ``limen up``, and the command line run against it as people run it."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from demo.processes import free_port

from limen.processes.main import main

PROGRAM = [sys.executable, "-m", "limen.processes.main"]
READY = "Ctrl-C stops it"
PATIENCE_SECONDS = 60.0
PASSWORD = "a lamp beside the old door"
OWNER = "olive@home.example"


@dataclass(frozen=True)
class Done:
    """One finished command."""

    status: int
    out: str
    err: str


@dataclass
class Terminal:
    """A home directory to run commands in. Everything below it belongs to one person."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return {**kept, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"), **self.variables}

    def run(self, *words: object, given: str = "") -> Done:
        """Run ``limen`` with these words; ``given`` is its standard input.

        In this process, since starting Python a hundred times would take longer than all the rest.
        """
        results, remarks = io.BytesIO(), io.BytesIO()
        out, err = (io.TextIOWrapper(stream, encoding="utf-8") for stream in (results, remarks))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in os.environ:
                patch.delenv(name)
            for name, value in self.environ.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8"))
            status = main([str(word) for word in words])
        out.flush()
        err.flush()
        return Done(status, results.getvalue().decode(), remarks.getvalue().decode())

    def ok(self, *words: object, given: str = "") -> str:
        """Run; it must succeed. What it printed."""
        done = self.run(*words, given=given)
        assert done.status == 0, (words, done)
        return done.out.rstrip("\n")

    def json(self, *words: object, given: str = "") -> Any:
        """Run with ``--json``; nothing but JSON may be printed."""
        done = self.run(*words, "--json", given=given)
        assert (done.status, done.err) == (0, ""), (words, done)
        return json.loads(done.out)

    def refused(self, *words: object, given: str = "", status: int = 1) -> str:
        """Run; it must fail in one line, and print no result."""
        done = self.run(*words, given=given)
        assert (done.status, done.out, done.err.count("\n")) == (status, "", 1), (words, done)
        assert re.fullmatch(r"limen: .+ \(.+\)\n", done.err), done.err
        return done.err

    def answer(self, words: Sequence[str], answers: Sequence[tuple[str, str]]) -> Done:
        """Run at a real terminal and type each answer after its question. ``out`` is all that the terminal showed."""
        keyboard, terminal = pty.openpty()
        child = subprocess.Popen(
            words, stdin=terminal, stdout=terminal, stderr=terminal, env=self.environ, start_new_session=True
        )
        os.close(terminal)
        shown = ""
        try:
            for question, answer in answers:
                shown += _read_until(keyboard, question)
                os.write(keyboard, answer.encode() + b"\n")
            shown += _read_until(keyboard, None)
            return Done(child.wait(PATIENCE_SECONDS), shown.replace("\r\n", "\n"), "")
        finally:
            child.kill()
            child.wait()
            os.close(keyboard)


@dataclass
class Installation:
    """A running platform. ``owner`` is signed in as the first tenant's owner once a test has set that up."""

    data: Path
    greeting: str
    homes: Path

    @property
    def ca(self) -> Path:
        return self.data / "ca.pem"

    @property
    def url(self) -> str:
        return self.commands[0].split("--server ")[1].split()[0]

    @property
    def link(self) -> str:
        found = re.search(r"https://\S+/setup/\S+", self.greeting)
        assert found is not None
        return found[0]

    @property
    def commands(self) -> list[str]:
        """The commands that ``limen up`` says to type, as it printed them."""
        return [line.strip() for line in self.greeting.splitlines() if line.strip().startswith("limen ")]

    def terminal(self, name: str) -> Terminal:
        """The home directory of that name; made at the first call."""
        home = self.homes / name
        home.mkdir(mode=0o700, exist_ok=True)
        return Terminal(home)

    def signed_in(self, name: str, email: str, tenant: str) -> Terminal:
        """A terminal that is signed in."""
        found = self.terminal(name)
        words = ("--server", self.url, "--ca", self.ca, "--tenant", tenant, "--email", email)
        found.ok("login", *words, "--password-stdin", given=PASSWORD + "\n")
        return found


@contextmanager
def installation(directory: Path) -> Iterator[Installation]:
    """``limen up`` in a directory that everybody may enter; stopped at the end."""
    data = directory / "data"
    ports = ("--port", str(free_port("127.0.0.1")), "--agent-port", str(free_port("127.0.0.1")))
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "limen.processes.main", "up", "--data", str(data), *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    try:
        printed = ""
        while READY not in printed:
            line = running.stdout.readline()
            assert line, f"it ended: {printed}"
            printed += line
        homes = directory / "homes"
        homes.mkdir()
        yield Installation(data, printed, homes)
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.communicate(timeout=PATIENCE_SECONDS)
        finally:
            running.kill()


def _read_until(keyboard: int, question: str | None) -> str:
    """What the terminal shows up to the question, or to the end."""
    deadline, shown = time.monotonic() + PATIENCE_SECONDS, b""
    while question is None or question.encode() not in shown:
        assert time.monotonic() < deadline, shown
        try:
            block = os.read(keyboard, 4096)
        except OSError:  # EIO: nobody has the terminal open any more
            block = b""
        if not block:
            assert question is None, f"it ended before {question!r}: {shown!r}"
            break
        shown += block
    return shown.decode()
