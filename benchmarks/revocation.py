"""How long after the commit of a suspension everything of the person is cut: p50 and p99.

Ten people, each behind a laptop of their own with one real tunnel, ten SFTP sessions and twenty vault tokens, all in
use at once; one after the other is suspended. Times are from ``committed_at`` to the last byte of the tunnel's
download, to the closed SFTP connection as the client sees it, and to a token's first 403. All on one host's clock.

Tokens are polled, so half of :data:`benchmarks.person.WATCH_SECONDS` of the median is waiting for the next poll; the
row "last good answer" is what a token was still worth after the commit (0 when nothing), without that waiting. The
limit beside is the design's: one second.
"""

import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.doors import random_file
from demo.lab import SERVER_PRIVATE, Site, inside
from demo.processes import StepFailed
from demo.processes import run as run_command

from benchmarks.measure import percentile
from benchmarks.report import Row, row
from benchmarks.rig import LIMEN, Rig, listens
from benchmarks.tunnels import client_ready, limen_client, limen_gateway

PORT = 5002
LIMIT_MS, LIMIT = 1000.0, "limit of the design: 1 s"
SESSIONS, TOKENS = 10, 20
START_SECONDS = 60.0
_FILE = "big.bin"


@dataclass(frozen=True, slots=True)
class Cut:
    """Milliseconds from the commit, of one person's things."""

    tunnel: float
    sftp: list[float]
    vault: list[float]
    vault_last_ok: list[float]


class Worker:
    """A :mod:`benchmarks.person` process."""

    def __init__(self, site: Site, person_id: str, order: dict[str, Any]) -> None:
        self.person_id = person_id
        self._process = subprocess.Popen(
            inside(site.laptop, [sys.executable, "-m", "benchmarks.person"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps(order))

    def ready(self) -> None:
        """Wait until everything flows."""
        assert self._process.stdout is not None
        spoke, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        if not spoke or self._process.stdout.readline().strip() != "ready":
            raise StepFailed("a person's tunnel, sessions and tokens did not all start")

    def watch(self) -> None:
        """Poll quickly from now on."""
        self._say("watch")

    def cut(self, committed: float) -> Cut:
        """Wait for the end, and read what it saw.

        Raises:
            StepFailed: when something was not cut.
        """
        words, _ = self._process.communicate(timeout=60)
        if self._process.returncode != 0:
            raise StepFailed("a person's process failed")
        seen = json.loads(words.splitlines()[-1])
        if seen["still_running"]:
            raise StepFailed(f"not cut: {', '.join(sorted(set(seen['still_running'])))}")

        def after(at: float) -> float:
            # What stopped before the commit is 0: it was refused by the transaction that commits.
            return max(0.0, (at - committed) * 1000)

        return Cut(
            after(seen["tunnel_last"]),
            [after(at) for at in seen["sftp_closed"]],
            [after(at) for at in seen["vault_refused"]],
            [after(at) for at in seen["vault_last_ok"]],
        )

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def run(*, quick: bool) -> list[Row]:
    """All people."""
    people = 2 if quick else 10
    with Rig(lab=True) as rig:
        cuts = _measured(rig, people)
    rows = []
    for case, values in (
        (f"tunnel, last byte ({people})", [cut.tunnel for cut in cuts]),
        (f"SFTP session, closed ({people * SESSIONS})", [value for cut in cuts for value in cut.sftp]),
        (f"vault token, first 403 ({people * TOKENS})", [value for cut in cuts for value in cut.vault]),
        (f"vault token, last good answer ({people * TOKENS})", [value for cut in cuts for value in cut.vault_last_ok]),
    ):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            rows.append(row(case, f"ms {name}, less is better", percentile(values, share), LIMIT_MS, LIMIT))
    return rows


def _measured(rig: Rig, people: int) -> list[Cut]:
    assert rig.lab is not None
    sites = [rig.lab.add_site(str(number)) for number in range(people)]
    _serve(rig, sites[0])
    gateway_of_all = sites[0]
    limen_gateway(rig, gateway_of_all)
    orders = _orders(rig, sites)
    workers = []
    for site, (person_id, order) in zip(sites, orders, strict=True):
        worker = Worker(site, person_id, order)
        rig.stack.callback(worker.end)
        worker.ready()
        workers.append(worker)
    return [_suspended(rig, worker) for worker in workers]


def _suspended(rig: Rig, worker: Worker) -> Cut:
    worker.watch()
    time.sleep(1.0)
    answer = rig.tenant.owner.post(f"/people/{worker.person_id}/suspend", {"reason": "bench"})
    committed = datetime.fromisoformat(answer["committed_at"]).timestamp()
    return worker.cut(committed)


def _serve(rig: Rig, site: Site) -> None:
    tenant = rig.tenant
    command = [sys.executable, "-m", "benchmarks.person", "drip", "0.0.0.0", str(PORT)]
    server = rig.start("drip", inside(site.server, command))
    server.wait_until(lambda: "ready" in server.output(), 15, "the server of the private network")
    tenant.add_resource(
        "network", "drip", cidr=f"{SERVER_PRIVATE}/32", ports=[{"protocol": "tcp", "first": PORT, "last": PORT}]
    )
    tenant.add_resource("vault", "app")
    made = tenant.owner.post("/connections", {"name": "folder", "provider": "local", "root": "share"})
    tenant.resources["folder"] = made["id"]
    tenant.allow("Everyone reaches the server", "drip", "connect")
    tenant.allow("Everyone uses the app's secrets", "app", "read", "write", "list", "delete")
    tenant.allow("Everyone exchanges files", "folder", "read", "write", "list", "delete")


def _orders(rig: Rig, sites: list[Site]) -> list[tuple[str, dict[str, Any]]]:
    """Make the people, their clients, users and tokens; what each worker shall do."""
    port = _file_door(rig)
    known_hosts = rig.work / "known"
    known_hosts.write_text(run_command(["ssh-keyscan", "-p", str(port), rig.address]), encoding="utf-8")
    people = [(*rig.person(f"person{number}"), f"person{number}") for number in range(len(sites))]
    clients = [
        (limen_client(rig, site.laptop, api, name, wait=False), name)
        for site, (api, _, name) in zip(sites, people, strict=True)
    ]
    orders = []
    for api, person_id, name in people:
        key, login = _sftp_user(rig, person_id, name)
        tokens = [api.post("/vault/tokens", {})["token"] for _ in range(TOKENS)]
        order = {
            "server": SERVER_PRIVATE,
            "server_port": PORT,
            "sessions": SESSIONS,
            "sftp_host": rig.address,
            "sftp_port": port,
            "login": login,
            "key": key,
            "known_hosts": str(known_hosts),
            "file": _FILE,
            "tokens": tokens,
            "host": rig.address,
            "port": rig.port,
            "ca": str(rig.ca_file),
            "secret": "/v1/app/data/shared",
        }
        orders.append((person_id, order))
    _put_file_and_secret(rig, orders[0][1])
    for client, name in clients:
        client_ready(rig, client, name)
    return orders


def _file_door(rig: Rig) -> int:
    port = rig.free_port()
    token = rig.operator.post("/platform/agents/tokens", {"kind": "sftp", "name": "files"})["token"]
    command = [*LIMEN, "sftp", "--state", str(rig.work / "sftp"), "--token", token]
    command += ["--listen", f"{rig.address}:{port}", "--local-root", str(rig.work / "folders")]
    door = rig.start("sftp", command)

    def ready() -> bool:
        agents = rig.operator.get("/platform/agents")["agents"]
        return any(agent["connected"] for agent in agents) and listens(rig.address, port)

    door.wait_until(ready, 30, "the file door")
    return port


def _sftp_user(rig: Rig, person_id: str, name: str) -> tuple[str, str]:
    key = rig.work / f"key-{name}"
    run_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    body = {"connection_id": rig.tenant.resources["folder"], "person_id": person_id, "username": name}
    user = rig.tenant.owner.post("/sftp-users", body)
    public = key.with_suffix(".pub").read_text().strip()
    rig.tenant.owner.post(f"/sftp-users/{user['id']}/keys", {"public_key": public})
    return str(key), user["login"]


def _put_file_and_secret(rig: Rig, order: dict[str, Any]) -> None:
    file = rig.work / _FILE
    random_file(file, 4 << 20)
    batch = rig.work / "put.batch"
    batch.write_text(f"put {file} {_FILE}\n", encoding="utf-8")
    command = ["sftp", "-q", "-F", "/dev/null", "-o", f"IdentityFile={order['key']}", "-o", "IdentitiesOnly=yes"]
    command += ["-o", f"UserKnownHostsFile={order['known_hosts']}", "-P", str(order["sftp_port"])]
    run_command([*command, "-b", str(batch), f"{order['login']}@{order['sftp_host']}"])
    from benchmarks.http_load import load, request

    body = json.dumps({"data": {"password": "x" * 180}}).encode()
    asked = request("POST", f"{rig.address}:{rig.port}", order["secret"], order["tokens"][0], body)
    load(rig.address, rig.port, rig.ca_file, [lambda _number: asked], 0.01, b'"version"')
