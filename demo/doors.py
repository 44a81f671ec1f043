"""The real programs that go through Limen: wireguard by ``limen client``, OpenSSH's sftp, bao, hvac, an open page."""

import hashlib
import json
import os
import secrets
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import hvac
from hvac.exceptions import Forbidden

from demo.api import Api
from demo.lab import inside
from demo.processes import Running, StepFailed, attempt, run

PYTHON = sys.executable
BIN = Path(sys.executable).parent
PROBES = Path(__file__).with_name("probes.py")
COOKIE = "__Host-limen"


# --- network ----------------------------------------------------------------------------------------------------


def fetch(namespace: str, url: str, file: Path, seconds: float) -> dict[str, object]:
    """Download a URL inside a namespace."""
    printed = run(inside(namespace, [PYTHON, str(PROBES), "fetch", url, str(file), str(seconds)]), seconds=seconds + 60)
    answer: dict[str, object] = json.loads(printed)
    return answer


def watch(name: str, namespace: str, address: str, port: int, seconds: float, logs: Path) -> Running:
    """Start an endless download inside a namespace and wait for its first bytes."""
    command = inside(namespace, [PYTHON, str(PROBES), "watch", address, str(port), str(seconds)])
    running = Running(name, command, logs)
    running.wait_until(lambda: "first_byte_at" in running.output(), 20, "the long download's first byte")
    return running


def watched(running: Running) -> dict[str, float]:
    """What an endless download reported at its end."""
    running.finish(60)
    report: dict[str, float] = json.loads(running.output().splitlines()[-1])
    return report


# --- files ------------------------------------------------------------------------------------------------------


@dataclass
class SftpUser:
    """One person's way into the file door with OpenSSH's ``sftp``."""

    name: str
    host: str
    port: int
    key: Path
    known_hosts: Path

    def command(self) -> list[str]:
        """The client's command line, up to the batch."""
        options = {
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "StrictHostKeyChecking": "yes",
            "PasswordAuthentication": "no",
            "ConnectTimeout": "15",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["sftp", "-q", "-F", "/dev/null", *flags, "-P", str(self.port)]

    def batch(self, commands: list[str], directory: Path) -> tuple[bool, str]:
        """Run a batch; whether all of it worked, and what was printed."""
        file = directory / f"batch-{secrets.token_hex(4)}"
        file.write_text("\n".join(commands) + "\n", encoding="utf-8")
        done = attempt([*self.command(), "-b", str(file), f"{self.name}@{self.host}"])
        return done.returncode == 0, done.stdout + done.stderr


class LongDownload:
    """An SFTP download that would take long, watched byte by byte through the file it writes into."""

    def __init__(self, user: SftpUser, remote: str, local: Path, logs: Path) -> None:
        self._local = local
        self._last_growth = 0.0
        self._size = 0
        self._stop = threading.Event()
        batch = logs / "long-get.batch"
        batch.write_text(f"get {remote} {local}\n", encoding="utf-8")
        # -l limits to kbit/s, so that the file lasts longer than the demo needs.
        command = [*user.command(), "-l", "40000", "-b", str(batch), f"{user.name}@{user.host}"]
        self._running = Running("long-sftp", command, logs)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._running.wait_until(lambda: self._size > 0, 20, "the long SFTP download's first byte")

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                status = os.stat(self._local)
            except OSError:
                time.sleep(0.001)
                continue
            if status.st_size != self._size:
                self._size = status.st_size
                self._last_growth = status.st_mtime_ns / 1e9
            time.sleep(0.001)

    def last_byte(self) -> float:
        """When the last byte was written, once the client has given up (host clock).

        Raises:
            StepFailed: when it goes on.
        """
        try:
            self._running.finish(20)
        finally:
            self._stop.set()
            self._thread.join()
        return self._last_growth

    def complete(self, size: int) -> bool:
        """Whether the whole file came, which would mean that nothing was cut."""
        return self._size >= size


# --- secrets ----------------------------------------------------------------------------------------------------


def bao(url: str, ca_file: Path, token: str, *arguments: str) -> str:
    """Run the real ``bao`` command line against Limen."""
    environ = {"BAO_ADDR": url, "BAO_CACERT": str(ca_file), "BAO_TOKEN": token, "VAULT_ADDR": url}
    environ |= {"VAULT_CACERT": str(ca_file), "VAULT_TOKEN": token}
    return run([BIN / "bao", *arguments], environ)


@dataclass
class TokenPoll:
    """A vault token in use: polled every 5 ms until it is refused."""

    client: hvac.Client
    mount: str
    path: str
    first_refusal: float = 0.0
    reads: int = 0
    _thread: threading.Thread = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.is_set():
            try:
                self.client.secrets.kv.v2.read_secret_version(
                    path=self.path, mount_point=self.mount, raise_on_deleted_version=True
                )
                self.reads += 1
            except Forbidden:
                self.first_refusal = time.time()
                return
            time.sleep(0.005)

    def refused_at(self, seconds: float) -> float:
        """When the first 403 came; 0 when none did."""
        self._thread.join(seconds)
        self._stop.set()
        return self.first_refusal

    def stop(self) -> None:
        """Stop polling."""
        self._stop.set()
        self._thread.join(10)


# --- console ----------------------------------------------------------------------------------------------------


class OpenPage:
    """A console page left open: its event stream, and its cookie."""

    def __init__(self, api: Api, ca_file: Path, body: dict[str, str]) -> None:
        self._client = httpx.Client(
            base_url=api.url,
            verify=ssl.create_default_context(cafile=str(ca_file)),
            timeout=httpx.Timeout(10, read=60),
        )
        answer = self._client.post("/api/v1/sign-in", json={**body, "cookie": True})
        if answer.status_code != httpx.codes.OK or COOKIE not in self._client.cookies:
            raise StepFailed(f"signing in to the console answered {answer.status_code}")
        self.closed_at = 0.0
        self.unauthorized_at = 0.0
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        if not self._open.wait(10):
            raise StepFailed("the console's event stream did not open")

    def _follow(self) -> None:
        try:
            with self._client.stream("GET", "/events") as stream:
                if stream.status_code == httpx.codes.OK:
                    self._open.set()
                for _ in stream.iter_bytes():
                    pass
        except httpx.HTTPError:
            pass
        self.closed_at = time.time()
        try:
            while self._client.get("/api/v1/me").status_code != httpx.codes.UNAUTHORIZED:
                time.sleep(0.005)
        except httpx.HTTPError:
            return  # the server has stopped: this page was open to the end
        self.unauthorized_at = time.time()

    def ended_at(self, seconds: float) -> float:
        """When both the stream was closed and the cookie refused; 0 when they were not."""
        self._thread.join(seconds)
        return max(self.closed_at, self.unauthorized_at) if self.unauthorized_at else 0.0

    def alive(self) -> bool:
        """Whether the stream is open and the cookie still good."""
        return not self.closed_at and self._client.get("/api/v1/me").status_code == httpx.codes.OK


def sha256(file: Path) -> str:
    """The hash of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def random_file(file: Path, size: int) -> str:
    """Write ``size`` random bytes; returns their hash."""
    with file.open("wb") as out:
        for _ in range(size >> 20):
            out.write(os.urandom(1 << 20))
        out.write(os.urandom(size & ((1 << 20) - 1)))
    return sha256(file)
