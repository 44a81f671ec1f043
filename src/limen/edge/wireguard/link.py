"""Links, addresses and routes of this host's network namespace, through netlink.

:class:`Links` is the one place that speaks to rtnetlink. Everything it sets hangs on an interface of ours, so the
kernel removes it together with that interface.
"""

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from limen.edge.wireguard.ports import TunnelFailed


class Links:
    """Operations on interfaces by name."""

    def __init__(self, netlink: Any) -> None:
        self._netlink = netlink

    async def index(self, name: str) -> int | None:
        """The index of an interface; None when there is none of that name."""
        found = await self._netlink.link_lookup(ifname=name)
        return int(found[0]) if found else None

    async def bring_up(self, name: str, *, address: str = "", mtu: int = 0) -> None:
        """Give an interface its address (``address/length``, kept as a host address) and set it up.

        Raises:
            TunnelFailed: when the interface is missing or the kernel refuses.
        """
        index = await self._existing(name)
        with _plainly(f"set up interface {name}"):
            if address:
                await self._netlink.addr(
                    "replace", index=index, address=address.split("/", maxsplit=1)[0], prefixlen=32
                )
            settings: dict[str, Any] = {"state": "up"}
            if mtu:
                settings["mtu"] = mtu
            await self._netlink.link("set", index=index, **settings)

    async def route(self, cidr: str, name: str, *, source: str = "") -> None:
        """Send ``cidr`` through an interface, replacing a route to the same prefix.

        Raises:
            TunnelFailed: when the kernel refuses.
        """
        index = await self._existing(name)
        settings: dict[str, Any] = {"dst": cidr, "oif": index}
        if source:
            settings["prefsrc"] = source
        with _plainly(f"route {cidr} through {name}"):
            await self._netlink.route("replace", **settings)

    async def claim(self, cidr: str, name: str) -> None:
        """Route ``cidr`` through an interface, but take it from no other.

        Raises:
            TunnelFailed: when another interface of this namespace has that route.
        """
        index = await self._existing(name)
        try:
            await self._netlink.route("add", dst=cidr, oif=index)
        except NetlinkError as exc:
            if exc.code != errno.EEXIST:
                raise TunnelFailed(f"the kernel refused to route {cidr}: {exc}") from exc
            if index not in await self._outputs(cidr):
                raise TunnelFailed(
                    f"another interface of this host already routes the tunnel network {cidr}",
                    fix="run one gateway or client per network namespace: tenants use the same addresses",
                ) from None

    async def _outputs(self, cidr: str) -> set[int]:
        wanted, _, length = cidr.partition("/")
        return {
            int(route.get("oif") or 0)
            async for route in await self._netlink.route("dump", family=socket.AF_INET)
            if route.get("dst") == wanted and route["dst_len"] == int(length)
        }

    async def unroute(self, cidr: str, name: str) -> None:
        """Remove a route through an interface of ours; a missing one is fine."""
        index = await self.index(name)
        if index is None:
            return
        with _plainly(f"remove the route to {cidr}", errno.ESRCH, errno.ENOENT):
            await self._netlink.route("del", dst=cidr, oif=index)

    async def delete(self, name: str) -> None:
        """Remove an interface; a missing one is fine."""
        index = await self.index(name)
        if index is not None:
            with _plainly(f"remove interface {name}", errno.ENODEV):
                await self._netlink.link("del", index=index)

    async def _existing(self, name: str) -> int:
        index = await self.index(name)
        if index is None:
            raise TunnelFailed(f"interface {name} has disappeared", fix="restart the agent")
        return index


@asynccontextmanager
async def open_links() -> AsyncIterator[Links]:
    """A netlink socket in the present network namespace."""
    async with AsyncIPRoute() as netlink:  # type: ignore[no-untyped-call]
        yield Links(netlink)


@contextlib.contextmanager
def _plainly(what: str, *tolerated: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as exc:
        if exc.code not in tolerated:
            raise TunnelFailed(f"the kernel refused to {what}: {errno.errorcode.get(exc.code, exc.code)}") from exc
