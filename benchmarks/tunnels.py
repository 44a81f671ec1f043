"""Two ways from a laptop into a private network, in namespaces: through Limen, and through bare WireGuard.

Both have the same topology (laptop, bridge, gateway, private server), the same ``wireguard-go`` and the same MTU. The
bare one has no packet filter, no connection tracking and no address translation: the server routes back by itself.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.lab import GATEWAY_PRIVATE, SERVER_PRIVATE, Site, inside
from demo.processes import Running, StepFailed, run

from benchmarks.rig import LIMEN, Rig

PORT = 5001
STREAMS_POLICY = "Everyone reaches the streams"
STREAMS = Path(__file__).with_name("streams.py")
_BARE = ("100.70.0.1", "100.70.0.2")
_MTU = 1420


def serve_streams(rig: Rig, site: Site, name: str) -> None:
    """Start the server of :mod:`benchmarks.streams` in the private network."""
    command = inside(site.server, [sys.executable, str(STREAMS), "serve", "0.0.0.0", str(PORT)])
    server = rig.start(f"streams-{name}", command)
    server.wait_until(lambda: "ready" in server.output(), 10, "the server of the private network")


def probe(site: Site, *arguments: str, address: str = SERVER_PRIVATE) -> dict[str, Any]:
    """Run a probe on the laptop."""
    what, *rest = arguments
    command = inside(site.laptop, [sys.executable, str(STREAMS), what, address, str(PORT), *rest])
    found: dict[str, Any] = json.loads(run(command, seconds=120))
    return found


def limen_tunnel(rig: Rig, site: Site, *, cidr: str = f"{SERVER_PRIVATE}/32") -> tuple[Running, Running]:
    """A real gateway and a real client; the resource is allowed."""
    web = [{"protocol": "tcp", "first": PORT, "last": PORT}]
    rig.tenant.add_resource("network", "streams", cidr=cidr, ports=web)
    rig.tenant.allow(STREAMS_POLICY, "streams", "connect")
    return limen_gateway(rig, site), limen_client(rig, site.laptop, rig.tenant.person, "laptop")


def limen_gateway(rig: Rig, site: Site) -> Running:
    """Enrol a gateway and wait until it is connected."""
    token = rig.tenant.owner.post("/agents/tokens", {"kind": "gateway", "name": "gateway"})["token"]
    arguments = ["--state", str(rig.work / "gateway"), "--token", token, "--advertise", site.gateway_address]
    gateway = rig.start("gateway", inside(site.gateway, [*LIMEN, "gateway", *arguments]))

    def online() -> bool:
        agents = rig.tenant.owner.get("/agents")["agents"]
        return any(agent["kind"] == "gateway" and agent["connected"] for agent in agents)

    gateway.wait_until(online, 30, "the gateway")
    return gateway


def limen_client(rig: Rig, namespace: str, person: Any, name: str, *, wait: bool = True) -> Running:
    """Enrol a person's client; with ``wait`` until it knows what it may reach."""
    token = person.post("/agents/tokens", {"kind": "client", "name": name})["token"]
    state = rig.work / f"client-{name}"
    client = rig.start(f"client-{name}", inside(namespace, [*LIMEN, "client", "--state", str(state), "--token", token]))
    if wait:
        client_ready(rig, client, name)
    return client


def client_ready(rig: Rig, client: Running, name: str) -> None:
    """Wait until a client knows what it may reach."""
    status = rig.work / f"client-{name}" / "status.json"
    client.wait_until(lambda: _knows_its_reach(status), 60, f"the client of {name}")


def bare_tunnel(rig: Rig, site: Site) -> tuple[Running, Running]:
    """``wireguard-go`` at both ends, and plain routing."""
    suffix = secrets.token_hex(3)
    ends: list[tuple[Running, str, str]] = []
    keys = [run(["wg", "genkey"]).strip() for _ in range(2)]
    for place, key, address in zip((site.gateway, site.laptop), keys, _BARE, strict=True):
        name = f"bare{len(ends)}{suffix}"
        process = rig.start(name, inside(place, ["env", "LOG_LEVEL=error", "wireguard-go", "-f", name]))
        socket = Path(f"/var/run/wireguard/{name}.sock")
        process.wait_until(socket.exists, 10, "wireguard-go")
        file = rig.work / f"{name}.key"
        file.touch(mode=0o600)
        file.write_text(key, encoding="ascii")
        run(inside(place, ["wg", "set", name, "listen-port", "51999", "private-key", str(file)]))
        run(["ip", "-n", place, "address", "add", f"{address}/24", "dev", name])
        run(["ip", "-n", place, "link", "set", name, "mtu", str(_MTU), "up"])
        ends.append((process, place, name))
    _join(ends[0], _public(keys[1]), [f"{_BARE[1]}/32"], f"{site.laptop_address}:51999")
    _join(ends[1], _public(keys[0]), ["10.77.0.0/24", f"{_BARE[0]}/32"], f"{site.gateway_address}:51999")
    route_privately(site)
    run(["ip", "-n", site.laptop, "route", "replace", "10.77.0.0/24", "dev", ends[1][2], "src", _BARE[1]])
    run(["ip", "-n", site.server, "route", "replace", "100.70.0.0/24", "via", GATEWAY_PRIVATE])
    return ends[0][0], ends[1][0]


def route_privately(site: Site) -> None:
    """Let the gateway's namespace forward."""
    run(inside(site.gateway, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]))


def data_plane_pids(running: Sequence[Running]) -> list[int]:
    """The ``wireguard-go`` processes below these.

    Raises:
        StepFailed: when there is none.
    """
    from benchmarks.measure import tree

    found = []
    for one in running:
        for pid in tree(one.pid):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip().startswith("wireguard"):
                    found.append(pid)
            except OSError:
                continue
    if not found:
        raise StepFailed("no wireguard-go runs")
    return found


def _join(end: tuple[Running, str, str], peer: str, allowed: list[str], endpoint: str) -> None:
    _, place, name = end
    run(inside(place, ["wg", "set", name, "peer", peer, "allowed-ips", ",".join(allowed), "endpoint", endpoint]))


def _public(private: str) -> str:
    done = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _knows_its_reach(status: Path) -> bool:
    try:
        known = json.loads(status.read_text())
    except (OSError, ValueError):
        return False
    return bool(known.get("connected")) and bool(known.get("reachable"))
