"""The main of ``limen gateway``: one tenant's door into one private network.

``run(settings)`` is what the supervisor calls; ``main`` parses arguments (``python -m limen.processes.gateway``).
With a token the gateway enrols first; without one it uses the identity in its state directory.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from limen.edge.channel import Channel
from limen.edge.gateway.driver import GatewayDriver, GatewaySettings
from limen.edge.gateway.nft import Nft
from limen.edge.gateway.ruleset import NftFilter
from limen.edge.wireguard.keys import interface_name
from limen.edge.wireguard.link import open_links
from limen.edge.wireguard.preflight import check_host
from limen.edge.wireguard.userspace import UserspaceWireGuard
from limen.kernel.clock import SystemClock
from limen.kernel.errors import Malformed
from limen.processes.tunnel import SOFTWARE, Enrolment, enrolled, execute, keep_running, locked
from limen.processes.tunnel import arguments as common_arguments
from limen.wire.agent import AgentKind

DEFAULT_PORT = 51820


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """All that ``limen gateway`` can be told. ``advertise``: addresses at which clients reach it, preferred first."""

    enrolment: Enrolment
    advertise: tuple[str, ...]
    listen_port: int = DEFAULT_PORT


def run(options: GatewayOptions) -> int:
    """Serve until told to stop; returns the exit status (0, or 1 with one line on standard error)."""
    return execute("gateway", lambda: serve(options))


async def serve(options: GatewayOptions) -> None:
    """Check the host, enrol if need be, open the gateway, and keep it until SIGTERM, SIGINT or a permanent refusal.

    Raises:
        LimenError: the host lacks something, enrolment failed, the agent is refused, or the data plane broke.
    """
    check_host(("wireguard-go", "setpriv"), ("CAP_NET_ADMIN",))
    nft = Nft()
    for text in options.advertise:
        _check_address(text)
    identity = await enrolled(options.enrolment, AgentKind.GATEWAY)
    assert identity.tenant_id is not None
    channel = Channel(identity)
    name = interface_name(identity.agent_id)
    settings = GatewaySettings(identity.tenant_id, name, options.listen_port, options.advertise, SOFTWARE)
    with locked(options.enrolment.state):
        packet_filter = NftFilter(nft, f"limen_{name}", name)
        async with open_links() as links:
            driver = GatewayDriver(settings, UserspaceWireGuard(), packet_filter, links, SystemClock(), channel.send)
            words = f"gateway {name} listens on UDP {options.listen_port} at {', '.join(options.advertise)}"
            await keep_running(channel, driver, lambda: print(words, flush=True))


def _check_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise Malformed(
            f"'{text[:64]}' is not an IP address", fix="for example --advertise 198.51.100.7, without a port"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="limen gateway", description="A door of Limen into a private network.")
    common_arguments(parser)
    parser.add_argument(
        "--advertise", action="append", required=True, metavar="ADDRESS", help="address clients reach it at; repeatable"
    )
    parser.add_argument("--listen-port", type=int, default=DEFAULT_PORT, help="UDP port of WireGuard")
    options = parser.parse_args(arguments)
    return run(
        GatewayOptions(
            Enrolment(options.state, options.token, options.server), tuple(options.advertise), options.listen_port
        )
    )


if __name__ == "__main__":
    sys.exit(main())
