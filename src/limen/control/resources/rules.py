"""What a resource may look like: pure validation of names and attributes."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from limen.kernel.access import ResourceKind
from limen.kernel.errors import Malformed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
_PORT_PROTOCOLS = ("tcp", "udp")
MAX_PORT_RANGES = 64


_RESERVED_MOUNTS = frozenset({"sys", "auth"})


def checked_name(name: str, kind: ResourceKind) -> str:
    """Return ``name`` if a resource of this kind may have it.

    Raises:
        Malformed: otherwise.
    """
    if not _NAME.fullmatch(name):
        raise Malformed(
            "a name is 1 to 63 letters, digits, spaces, '.', '_' or '-', and starts with a letter or digit",
            fix="choose another name",
        )
    if kind is ResourceKind.VAULT and name.lower() in _RESERVED_MOUNTS:
        raise Malformed(f"'{name}' means something else in the Vault API", fix="choose another name for the mount")
    return name


def checked_attributes(kind: ResourceKind, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canonical attributes of a resource of ``kind``.

    Raises:
        Malformed: when a field is missing, unknown or wrong.
    """
    if kind is not ResourceKind.NETWORK:
        if attributes:
            raise Malformed(f"a {kind} resource takes no attributes", fix="leave them out")
        return {}
    unknown = set(attributes) - {"cidr", "ports"}
    if unknown:
        raise Malformed(f"unknown attribute '{min(unknown)}'", fix="a network resource has cidr and ports")
    return {
        "cidr": _checked_cidr(attributes.get("cidr")),
        "ports": _checked_ports(attributes.get("ports", [])),
    }


def _checked_cidr(value: object) -> str:
    if not isinstance(value, str):
        raise Malformed("a network resource needs a cidr", fix="give an address such as 10.1.2.3 or 10.1.2.0/24")
    try:
        network = ip_network(value, strict=True)
    except ValueError as exc:
        raise Malformed(
            f"'{value[:64]}' is not an IP address or network", fix="write it like 10.1.2.3 or 10.1.2.0/24"
        ) from exc
    if network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified:
        raise Malformed(
            f"{network} is loopback, link-local, multicast or unspecified and cannot be a resource",
            fix="name the address that the gateway reaches it by",
        )
    if network.prefixlen == 0:
        raise Malformed("the whole internet is not a network resource", fix="name the networks you mean")
    return str(network)


def _checked_ports(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_PORT_RANGES:
        raise Malformed(f"ports is a list of at most {MAX_PORT_RANGES} ranges", fix="give fewer ranges")
    return [_checked_range(entry) for entry in value]


def _checked_range(entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or not set(entry) <= {"protocol", "first", "last"}:
        raise Malformed("a port range has protocol, first and last", fix="for example tcp/443")
    protocol, first = entry.get("protocol"), entry.get("first", 0)
    last = entry.get("last", first)
    if protocol == "icmp":
        return {"protocol": "icmp", "first": 0, "last": 0}
    if protocol not in _PORT_PROTOCOLS:
        raise Malformed("the protocol of a port range is tcp, udp or icmp", fix="for example tcp/443")
    if not (type(first) is int and type(last) is int and 1 <= first <= last <= 65535):
        raise Malformed("ports are numbers from 1 to 65535, first not above last", fix="for example tcp/8000-8080")
    return {"protocol": protocol, "first": first, "last": last}
