"""A whole Limen for one benchmark: ``limen up`` on an address of this machine, one tenant, its owner, people.

Built from the demo's parts; everything carries a random name, and ``with`` takes all of it down again.
"""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from demo.api import Api
from demo.lab import Lab
from demo.processes import Running, StepFailed, free_port
from demo.tenant import Tenant, found_tenant

SLUG = "bench"
LIMEN = [sys.executable, "-m", "limen.processes.main"]


class Rig:
    """``lab`` is there when the benchmark needs namespaces; the platform then listens on its bridge."""

    def __init__(self, *, lab: bool = False) -> None:
        self.stack = ExitStack()
        self.lab = Lab() if lab else None
        self.work = Path()
        self._others: list[Running] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        # All at once, but for the platform that they say goodbye to: each alone would be waited for in turn.
        for one in self._others:
            if one.running():
                os.kill(one.pid, signal.SIGTERM)
        self.stack.close()

    def start(self, name: str, command: list[str]) -> Running:
        """Start a process that ends with the rig."""
        running = self.stack.enter_context(Running(name, command, self.logs))
        if name != "up":
            self._others.append(running)
        return running

    def wait(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until ``ready``.

        Raises:
            StepFailed: when the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise StepFailed(f"{what} was not ready within {seconds:.0f} s")
            time.sleep(0.05)

    def serve_pid(self) -> int:
        """The process id of ``limen serve``."""
        return self._child("limen.processes.serve.main")

    def keyd_pid(self) -> int:
        """The process id of ``limen keyd``."""
        return self._child("limen.processes.keyd")

    @property
    def up_pid(self) -> int:
        """The process id of ``limen up``; PostgreSQL, keyd and serve are its children."""
        return self._up.pid

    def free_port(self) -> int:
        """A free TCP port where the platform listens."""
        return free_port(self.address)

    def person(self, name: str) -> tuple[Api, str]:
        """Invite one more person into the tenant's group; their signed-in API, and their id."""
        email, password = f"{name}@{SLUG}.example", secrets.token_urlsafe(18)
        anonymous, owner = self.operator.as_bearer(""), self.tenant.owner
        invited = owner.post("/people", {"email": email, "name": name.title()})
        anonymous.post("/setup", {"token": invited["setup_token"], "password": password})
        owner.post(f"/groups/{self.tenant.group_id}/members/{invited['id']}")
        token = anonymous.post("/sign-in", {"tenant": SLUG, "email": email, "password": password})["token"]
        return self.operator.as_bearer(token), str(invited["id"])

    def _start(self) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="limen-bench-", dir="/tmp"))
        self.stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.work.chmod(0o711)
        self.logs = self.work / "logs"
        self.logs.mkdir(mode=0o700)
        self.data = self.work / "data"
        if self.lab is not None:
            self.stack.callback(self.lab.close)
            self.lab.open()
        self.address = self.lab.address if self.lab is not None else "127.0.0.1"
        self.port, self.agent_port = self.free_port(), self.free_port()
        command = [*LIMEN, "up", "--data", str(self.data), "--host", self.address, "--name", self.address]
        command += ["--port", str(self.port), "--agent-port", str(self.agent_port), "--tenant", SLUG]
        self._up = self.start("up", command)
        self._up.wait_until(lambda: "Ctrl-C stops it" in self._up.output(), 90, "limen up")
        self.url = f"https://{self.address}:{self.port}"
        self.ca_file = self.data / "ca.pem"
        self.operator = Api(self.url, self.ca_file, (self.data / "operator.token").read_text().strip())
        link = (self.data / "owner-link").read_text().strip()
        self.tenant: Tenant = found_tenant(self.operator, SLUG, link.rpartition("/")[2])

    def _child(self, module: str) -> int:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if module.encode() in words and parent == self._up.pid:
                    return int(entry.name)
        raise StepFailed(f"{module} does not run")


def listens(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as attempt:
        return attempt.connect_ex((address, port)) == 0
