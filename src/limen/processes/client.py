"""The main of ``limen client``: a person's device on the way to private networks.

``limen client --state DIR [--token TOKEN]`` runs it; ``limen client --state DIR --status`` shows what it does now.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limen.edge.channel import Channel
from limen.edge.client.driver import ClientDriver, ClientSettings
from limen.edge.client.status import StatusFile, read_status
from limen.edge.wireguard.keys import interface_name
from limen.edge.wireguard.link import open_links
from limen.edge.wireguard.preflight import check_host
from limen.edge.wireguard.userspace import UserspaceWireGuard
from limen.kernel.clock import SystemClock
from limen.processes.tunnel import SOFTWARE, Enrolment, enrolled, execute, keep_running, locked
from limen.processes.tunnel import arguments as common_arguments
from limen.wire.agent import AgentKind


def run(enrolment: Enrolment) -> int:
    """Serve until told to stop; returns the exit status (0, or 1 with one line on standard error)."""
    return execute("client", lambda: serve(enrolment))


async def serve(enrolment: Enrolment) -> None:
    """Check the host, enrol if need be, and serve until SIGTERM, SIGINT or a permanent refusal.

    Raises:
        LimenError: the host lacks something, enrolment failed, the agent is refused, or the data plane broke.
    """
    check_host(("wireguard-go", "setpriv"))
    identity = await enrolled(enrolment, AgentKind.CLIENT)
    assert identity.tenant_id is not None
    channel = Channel(identity)
    name = interface_name(identity.agent_id)
    settings = ClientSettings(identity.tenant_id, name, interface_name(identity.agent_id, "lmt"), SOFTWARE)
    with locked(enrolment.state):
        async with open_links() as links:
            driver = ClientDriver(
                settings, UserspaceWireGuard(), links, SystemClock(), StatusFile(enrolment.state), channel.send
            )
            await keep_running(channel, driver, lambda: print(f"client {name} runs", flush=True))


def show_status(state: Path, *, as_json: bool) -> int:
    """Print the status of a running client; 1 when none runs with this state directory."""
    status = read_status(state)
    if status is None:
        print(f"limen client: no client runs with the state in {state} (start it with: limen client)", file=sys.stderr)
        return 1
    print(json.dumps(status, indent=2) if as_json else "\n".join(_lines(status)))
    return 0


def _lines(status: dict[str, Any]) -> list[str]:
    lines = [
        f"connected       {'yes' if status['connected'] else 'no'}",
        f"tunnel address  {status['tunnel_address'] or 'none yet'}",
    ]
    lines += [f"reachable       {entry['name']}  {entry['cidr']}" for entry in status["reachable"]]
    lines += [f"open            {entry['resource']}" for entry in status["grants"]]
    lines += [
        f"refused         {entry['resource']}: {entry['reason']}" + (f" ({entry['fix']})" if entry["fix"] else "")
        for entry in status["denials"]
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="limen client", description="This device's way to private networks.")
    common_arguments(parser)
    parser.add_argument("--status", action="store_true", help="show what the running client does, and leave")
    parser.add_argument("--json", action="store_true", help="with --status: as JSON")
    options = parser.parse_args(arguments)
    if options.status:
        return show_status(options.state, as_json=options.json)
    return run(Enrolment(options.state, options.token, options.server))


if __name__ == "__main__":
    sys.exit(main())
