"""Values for the tests of the network data plane."""

from uuid import UUID

from limen.edge.wireguard.keys import generate_private_key, key_text, public_key
from limen.kernel.ids import new_id
from limen.wire.agent import NetworkResource, PortRange, TunnelGrant

TENANT = UUID("0197a000-0000-7000-8000-000000000001")
OTHER_TENANT = UUID("0197a000-0000-7000-8000-000000000002")
KEYS = [key_text(public_key(generate_private_key())) for _ in range(3)]


def ports(protocol: str, first: int, last: int | None = None) -> PortRange:
    return PortRange(protocol=protocol, first=first, last=first if last is None else last)


def resource(cidr: str, *ranges: PortRange) -> NetworkResource:
    return NetworkResource(id=new_id(), name=cidr, cidr=cidr, ports=ranges)


def grant(
    number: int,
    *,
    client: int = 0,
    until: float = 1000.0,
    on: NetworkResource | None = None,
    key: str | None = None,
) -> TunnelGrant:
    return TunnelGrant(
        id=new_id(),
        number=number,
        expires_at=until,
        peer_public_key=KEYS[client] if key is None else key,
        peer_address=f"100.64.0.{client + 2}",
        resource=on or resource("10.0.0.1/32"),
    )
