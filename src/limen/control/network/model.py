"""Network grants and peers in the terms of the agent channel."""

from typing import Any

from limen.control.devices.model import Agent
from limen.control.resources.model import Resource
from limen.kernel.access import Grant
from limen.wire.agent import Hello, NetworkResource, PortRange, TunnelGrant, TunnelPeer


def wire_resource(resource: Resource) -> NetworkResource:
    """A network resource as the data plane sees it."""
    ports: list[dict[str, Any]] = list(resource.attributes.get("ports", []))
    return NetworkResource(
        id=resource.id,
        name=resource.name,
        cidr=resource.attributes["cidr"],
        ports=tuple(PortRange(protocol=one["protocol"], first=one["first"], last=one["last"]) for one in ports),
    )


def wire_grant(grant: Grant, resource: Resource, device: Agent, public_key: str) -> TunnelGrant:
    """A grant as the gateway opens it: for the device's present WireGuard key and its fixed tunnel address."""
    return TunnelGrant(
        id=grant.id,
        number=grant.number,
        expires_at=grant.expires_at.timestamp(),
        peer_public_key=public_key,
        peer_address=device.tunnel_address.partition("/")[0],
        resource=wire_resource(resource),
    )


def wire_peer(gateway: Agent, hello: Hello) -> TunnelPeer:
    """A gateway as the client reaches it: the first address that it advertises."""
    address = hello.addresses[0]
    host = f"[{address}]" if ":" in address else address
    return TunnelPeer(
        agent_id=gateway.id,
        public_key=hello.wireguard_public_key,
        endpoint=f"{host}:{hello.listen_port}",
        address=gateway.tunnel_address.partition("/")[0],
    )
