"""The control plane's part in the lab, played by the test: one tenant, one gateway, one client."""

import json
import queue
import secrets
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from limen.edge.wireguard.keys import interface_name
from limen.edge.wireguard.uapi import SOCKET_DIRECTORY
from limen.kernel.ids import new_id
from limen.wire.agent import (
    AccessAnswer,
    ClosedGrant,
    CloseGrants,
    FromAgent,
    GrantEnded,
    NetworkResource,
    Opened,
    OpenGrant,
    PortRange,
    Reachable,
    Receipt,
    RequestAccess,
    Sync,
    TunnelGrant,
    TunnelPeer,
    Welcome,
)
from limen.wire.codec import decode, encode
from tests.support.netns import GATEWAY_OUTSIDE, Lab

TUNNEL_NETWORK = "100.64.0.0/11"
CLIENT_ADDRESS = "100.64.0.2"
GATEWAY_ADDRESS = "100.64.0.1"
WAIT = 30.0
"""Starting Python takes seconds on a busy machine; nothing that is measured waits for this."""

M = TypeVar("M")


class ScriptedAgent:
    """A real agent process without a channel; see :mod:`tests.support.network_agent`."""

    def __init__(
        self, lab: Lab, kind: str, tenant: UUID, state: Path, port: int = 51820, agent_id: UUID | None = None
    ) -> None:
        self.id = agent_id or uuid4()
        lab.files.append(SOCKET_DIRECTORY / f"{interface_name(self.id)}.sock")
        self.process = lab.start(
            kind, "-m", "tests.support.network_agent", kind, str(self.id), str(tenant), str(port), str(state)
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.received: list[Any] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.hello: dict[str, Any] = json.loads(self._lines.get(timeout=WAIT))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def say(self, kind: str, payload: object = "") -> None:
        """Call the driver."""
        text = payload if isinstance(payload, str) else encode(payload).decode()
        assert self.process.stdin is not None
        self.process.stdin.write(f"{kind} {text}\n")
        self.process.stdin.flush()

    def wait_for(self, kind: type[M], timeout: float = WAIT) -> M:
        """The next message of a kind; others are kept in ``received``."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._lines.get(timeout=max(0.001, deadline - time.monotonic()))
            message = decode(line, FromAgent)
            self.received.append(message)
            if isinstance(message, kind):
                return message


@dataclass
class Site:
    """A gateway and a client of one tenant in one lab."""

    lab: Lab
    state: Path
    tenant: UUID = field(default_factory=uuid4)
    version: int = 1
    gateway: ScriptedAgent = field(init=False)
    client: ScriptedAgent = field(init=False)
    resources: dict[UUID, NetworkResource] = field(default_factory=dict)

    def start(self, lease: float = 60.0) -> "Site":
        """Start and welcome both agents."""
        self.gateway = ScriptedAgent(self.lab, "gateway", self.tenant, self.state)
        self.client = ScriptedAgent(self.lab, "client", self.tenant, self.state)
        for agent, address in ((self.gateway, GATEWAY_ADDRESS), (self.client, CLIENT_ADDRESS)):
            agent.say("W", self.welcome(address, lease))
        self.gateway.say("M", Sync(tenant_id=self.tenant, version=self.version))
        self.gateway.say("L", str(lease))
        return self

    def restart_gateway(self, lease: float = 60.0) -> None:
        """Kill the gateway and start it again under the same identity."""
        self.gateway.process.kill()
        self.gateway.process.wait()
        self.gateway = ScriptedAgent(self.lab, "gateway", self.tenant, self.state, agent_id=self.gateway.id)
        self.gateway.say("W", self.welcome(GATEWAY_ADDRESS, lease))
        self.gateway.say("M", Sync(tenant_id=self.tenant, version=self.version))
        self.gateway.say("L", str(lease))

    def welcome(self, address: str, lease: float = 60.0) -> Welcome:
        """A greeting for the agent with this tunnel address."""
        return Welcome(
            now=time.time(),
            heartbeat_seconds=10.0,
            lease_seconds=lease,
            tenant_id=self.tenant,
            tunnel_address=f"{address}/11",
            tunnel_network=TUNNEL_NETWORK,
        )

    def resource(self, cidr: str, *ports: int, protocol: str = "tcp") -> NetworkResource:
        """Define a resource and tell the client that it is reachable."""
        ranges = tuple(PortRange(protocol=protocol, first=port, last=port) for port in ports)
        found = NetworkResource(id=new_id(), name=f"{cidr} {ports}", cidr=cidr, ports=ranges)
        self.resources[found.id] = found
        self.tell_reachable()
        return found

    def tell_reachable(self) -> None:
        """Send the client the present list."""
        listed = tuple(self.resources.values())
        self.client.say("M", Reachable(tenant_id=self.tenant, version=self.version, resources=listed))

    def peer(self) -> TunnelPeer:
        """The gateway as the client sees it."""
        endpoint = f"{GATEWAY_OUTSIDE}:{self.gateway.hello['listen_port']}"
        key = self.gateway.hello["wireguard_public_key"]
        return TunnelPeer(agent_id=self.gateway.id, public_key=key, endpoint=endpoint, address=GATEWAY_ADDRESS)

    def grant(self, resource: NetworkResource, seconds: float = 600.0) -> TunnelGrant:
        """Open a grant at the gateway and wait until it is open."""
        granted = TunnelGrant(
            id=new_id(),
            number=1 + secrets.randbelow(2**32 - 1),
            expires_at=time.time() + seconds,
            peer_public_key=self.client.hello["wireguard_public_key"],
            peer_address=CLIENT_ADDRESS,
            resource=resource,
        )
        self.gateway.say("M", OpenGrant(tenant_id=self.tenant, version=self.version, tunnel=granted))
        assert self.gateway.wait_for(Opened).grant_id == granted.id
        return granted

    def answer(self, resource: NetworkResource, seconds: float = 600.0) -> TunnelGrant:
        """Wait for the client's question about ``resource``, then allow it; questions about others are denied."""
        return self.allow(self.question(resource), resource, seconds)

    def allow(self, asked: RequestAccess, resource: NetworkResource, seconds: float = 600.0) -> TunnelGrant:
        """Open a grant, then say yes."""
        granted = self.grant(resource, seconds)
        self.client.say(
            "M",
            AccessAnswer(
                request_id=asked.request_id,
                allowed=True,
                resource_id=resource.id,
                grant_id=granted.id,
                expires_at=granted.expires_at,
                peer=self.peer(),
            ),
        )
        return granted

    def question(self, resource: NetworkResource) -> RequestAccess:
        """Wait for the client's question about ``resource``."""
        while True:
            asked = self.client.wait_for(RequestAccess)
            if asked.resource_id == resource.id:
                return asked
            self.deny(asked)

    def deny(self, asked: RequestAccess) -> None:
        """Say no."""
        refusal = AccessAnswer(
            request_id=asked.request_id, allowed=False, resource_id=asked.resource_id, reason="no policy allows it"
        )
        self.client.say("M", refusal)

    def revoke(self, granted: TunnelGrant, *, tell_client: bool = False) -> tuple[float, Receipt]:
        """Cut a grant; the instant before it was said, and the receipt."""
        self.version += 1
        closed = ClosedGrant(id=granted.id, number=granted.number, reason="suspended")
        said_at = time.time()
        self.gateway.say("M", CloseGrants(tenant_id=self.tenant, version=self.version, grants=(closed,)))
        receipt = self.gateway.wait_for(Receipt)
        if tell_client:
            ended = GrantEnded(tenant_id=self.tenant, grant_id=granted.id, reason="suspended")
            self.client.say("M", ended)
        return said_at, receipt

    # --- traffic ------------------------------------------------------------------------------------------

    def serve(self, *places: str) -> None:
        """Start the TCP server in the private network."""
        process = self.lab.start("resource", "-m", "tests.support.network_traffic", "serve", *places)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}

    def fetch(self, place: str, blocks: int = 16, timeout: float = 5.0) -> "Fetch":
        """Start to fetch; :meth:`Fetch.result` waits for it."""
        arguments = ("-m", "tests.support.network_traffic", "fetch", place, str(blocks), str(timeout))
        return Fetch(self.lab.start("client", *arguments))

    def ping(self, host: str, timeout: float = 2.0) -> "Fetch":
        """Start one ICMP echo request from the client."""
        return Fetch(self.lab.start("client", "-m", "tests.support.network_traffic", "ping", host, str(timeout)))

    def stream(self, place: str) -> "Fetch":
        """Start an endless transfer."""
        return Fetch(self.lab.start("client", "-m", "tests.support.network_traffic", "stream", place))


@dataclass
class Fetch:
    """A transfer that runs in the client's namespace."""

    process: "subprocess.Popen[str]"

    def result(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the transfer ended without a result"
        found: dict[str, Any] = json.loads(line)
        return found
