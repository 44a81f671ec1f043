"""Two identical small networks out of network namespaces, one for each tenant, on one machine.

::

    root namespace: limen serve ── bridge ("the internet") ─┬─ laptop-a     ┌─ laptop-b
                                                            ├─ gateway-a ── server-a (private network)
                                                            └─ gateway-b ── server-b (the same addresses)

Everything carries a random suffix and is removed by :meth:`Lab.close`, whatever happened before.
"""

import ipaddress
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PRIVATE_NETWORK = ipaddress.ip_network("10.77.0.0/24")
GATEWAY_PRIVATE = "10.77.0.1"
SERVER_PRIVATE = "10.77.0.10"
OTHER_PRIVATE = "10.77.0.11"


class LabError(RuntimeError):
    """The machine refused a part of the lab; the message is the tool's own."""


def _free_network() -> ipaddress.IPv4Network:
    """A /24 of 10.190.0.0/15 that this machine has no address in."""
    shown = subprocess.run(["ip", "-o", "-4", "address"], capture_output=True, text=True, check=True).stdout
    used = [ipaddress.ip_interface(line.split()[3]).network for line in shown.splitlines()]
    candidates = list(ipaddress.ip_network("10.190.0.0/15").subnets(new_prefix=24))
    for candidate in secrets.SystemRandom().sample(candidates, len(candidates)):
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError("no free network in 10.190.0.0/15 for the lab")


@dataclass(frozen=True, slots=True)
class Site:
    """One tenant's namespaces and their addresses on the bridge."""

    laptop: str
    gateway: str
    server: str
    laptop_address: str
    gateway_address: str


@dataclass
class Lab:
    """The bridge and the sites. ``address`` is where the control plane listens."""

    suffix: str = field(default_factory=lambda: secrets.token_hex(2))
    namespaces: list[str] = field(default_factory=list)
    bridge: str = ""
    _network: ipaddress.IPv4Network = field(default_factory=_free_network)
    _next_host: int = 2

    @property
    def address(self) -> str:
        """The bridge's own address in the root namespace."""
        return str(self._network[1])

    def open(self) -> None:
        """Make the bridge."""
        self.bridge = f"lmnb{self.suffix}"
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/{self._network.prefixlen}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def add_site(self, name: str) -> Site:
        """Make the three namespaces of one tenant and join them."""
        laptop, gateway, server = (f"lmn-{role}-{name}-{self.suffix}" for role in ("laptop", "gateway", "server"))
        for namespace in (laptop, gateway, server):
            _ip("netns", "add", namespace)
            self.namespaces.append(namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        laptop_address = self._join_bridge(laptop)
        gateway_address = self._join_bridge(gateway)
        self._join_private(gateway, server)
        return Site(laptop, gateway, server, laptop_address, gateway_address)

    def close(self) -> None:
        """Remove all of it. Processes inside must have ended."""
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)
        self.namespaces.clear()
        if self.bridge:
            subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
            self.bridge = ""

    def _join_bridge(self, namespace: str) -> str:
        address = str(self._network[self._next_host])
        port = f"lmnp{self.suffix}{self._next_host}"
        self._next_host += 1
        _ip("link", "add", port, "type", "veth", "peer", "name", "wan0", "netns", namespace)
        _ip("link", "set", port, "master", self.bridge, "up")
        _ip("-n", namespace, "address", "add", f"{address}/{self._network.prefixlen}", "dev", "wan0")
        _ip("-n", namespace, "link", "set", "wan0", "up")
        _ip("-n", namespace, "route", "add", "default", "via", self.address)
        return address

    def _join_private(self, gateway: str, server: str) -> None:
        _ip("-n", gateway, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", server)
        length = PRIVATE_NETWORK.prefixlen
        for namespace, addresses in ((gateway, [GATEWAY_PRIVATE]), (server, [SERVER_PRIVATE, OTHER_PRIVATE])):
            for address in addresses:
                _ip("-n", namespace, "address", "add", f"{address}/{length}", "dev", "lan0")
            _ip("-n", namespace, "link", "set", "lan0", "up")


def inside(namespace: str, command: list[str]) -> list[str]:
    """The command line that runs ``command`` in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
