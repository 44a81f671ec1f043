"""Reads and durable writes of the vault, against a real OpenBao with raft storage and a file audit device.

Both over TLS 1.3 on the loopback, 16 kept-alive connections with a token each, the same client, the same secret of
200 bytes, in turns. Limen runs whole: ``limen up`` with durable PostgreSQL, real keyd, an audit record for every read
that is on disk before the answer. OpenBao writes its audit log without forcing it to disk.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_load import load, request
from benchmarks.measure import interleaved, percentile, tree_cpu_seconds
from benchmarks.openbao import MOUNT, Bao, running_bao
from benchmarks.report import Row, row
from benchmarks.rig import Rig

CONNECTIONS = 16
SECRET = {"password": "x" * 180, "user": "service"}
_BODY = json.dumps({"data": SECRET}).encode()


@dataclass(frozen=True, slots=True)
class Server:
    """One side of the comparison."""

    host: str
    port: int
    ca_file: Path
    tokens: tuple[str, ...]
    pids: tuple[int, ...]

    def reads(self, seconds: float) -> dict[str, float]:
        """Read the same secret over all connections."""
        asked = [request("GET", self._authority, f"/v1/{MOUNT}/data/shared", token) for token in self.tokens]
        return self._measured([_always(one) for one in asked], seconds, b'"password"')

    def writes(self, seconds: float) -> dict[str, float]:
        """Each connection writes new versions of a secret of its own."""
        asked = [
            request("POST", self._authority, f"/v1/{MOUNT}/data/own-{number}", token, _BODY)
            for number, token in enumerate(self.tokens)
        ]
        return self._measured([_always(one) for one in asked], seconds, b'"version"')

    @property
    def _authority(self) -> str:
        return f"{self.host}:{self.port}"

    def _measured(self, asked: list[Callable[[int], bytes]], seconds: float, expected: bytes) -> dict[str, float]:
        before = self._cpu()
        found = load(self.host, self.port, self.ca_file, asked, seconds, expected)
        spent = self._cpu() - before
        return {
            "rate": found.per_second,
            "p50": percentile(found.latencies, 0.5) * 1000,
            "p99": percentile(found.latencies, 0.99) * 1000,
            "cpu": spent / len(found.latencies) * 1000,
        }

    def _cpu(self) -> float:
        return sum(tree_cpu_seconds(pid) for pid in self.pids)


def run(*, quick: bool) -> list[Row]:
    """Reads, then writes."""
    rounds, seconds = (1, 0.5) if quick else (5, 4.0)
    with Rig() as rig, running_bao(CONNECTIONS) as bao:
        ours, peer = _limen(rig), _openbao(bao)
        for server in (ours, peer):
            server.writes(0.5)
            _share(server)
            server.reads(0.5)
        read = interleaved(rounds, lambda: ours.reads(seconds), lambda: peer.reads(seconds))
        written = interleaved(rounds, lambda: ours.writes(seconds), lambda: peer.writes(seconds))
    rows = []
    for what, (mine, its) in (("read", read), ("durable write", written)):
        case = f"{what}, {CONNECTIONS} connections"
        rows += [
            row(case, "requests/s, more is better", mine["rate"], its["rate"], "OpenBao"),
            row(case, "ms p50, less is better", mine["p50"], its["p50"], "OpenBao"),
            row(case, "ms p99, less is better", mine["p99"], its["p99"], "OpenBao"),
            row(case, "CPU ms per request, all processes, less is better", mine["cpu"], its["cpu"], "OpenBao"),
        ]
    return rows


def _limen(rig: Rig) -> Server:
    tenant = rig.tenant
    tenant.add_resource("vault", MOUNT)
    tenant.allow("Everyone uses the app's secrets", MOUNT, "read", "write", "list", "delete")
    tokens = tuple(tenant.person.post("/vault/tokens", {})["token"] for _ in range(CONNECTIONS))
    return Server(rig.address, rig.port, rig.ca_file, tokens, (rig.up_pid,))


def _openbao(bao: Bao) -> Server:
    return Server("127.0.0.1", bao.port, bao.ca_file, bao.tokens, (bao.pid,))


def _share(server: Server) -> None:
    """Write the secret that all connections read."""
    asked = request("POST", f"{server.host}:{server.port}", f"/v1/{MOUNT}/data/shared", server.tokens[0], _BODY)
    load(server.host, server.port, server.ca_file, [_always(asked)], 0.05, b'"version"')


def _always(encoded: bytes) -> Callable[[int], bytes]:
    return lambda _number: encoded
