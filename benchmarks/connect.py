"""From the first packet to the first byte: cold through Limen, against the way without any tunnel.

Cold means that nothing was open before: the client holds the first packet, asks for access, the policy is decided,
the grant written and opened at the gateway, WireGuard shakes hands, and the packet goes on its way. Before each try
the policy was deleted, which ended the grant and the tunnel's peer, and made anew. The peer is the same TCP connection
over plain routing. Namespaces on one machine have no latency of their own, so the difference is what Limen itself
takes; the design allows 3 round trips and 100 ms.
"""

import time

from demo.lab import SERVER_PRIVATE
from demo.processes import run as run_command

from benchmarks.measure import median, percentile
from benchmarks.report import Row, row
from benchmarks.rig import Rig
from benchmarks.tunnels import STREAMS_POLICY, limen_tunnel, probe, route_privately, serve_streams

BUDGET_MS = 100.0


def run(*, quick: bool) -> list[Row]:
    """Tries in turns."""
    tries = 2 if quick else 15
    with Rig(lab=True) as rig:
        assert rig.lab is not None
        site, plain = rig.lab.add_site("limen"), rig.lab.add_site("plain")
        serve_streams(rig, site, "limen")
        serve_streams(rig, plain, "plain")
        limen_tunnel(rig, site)
        route_privately(plain)
        run_command(["ip", "-n", plain.laptop, "route", "add", "10.77.0.0/24", "via", plain.gateway_address])
        run_command(["ip", "-n", plain.server, "route", "add", "default", "via", "10.77.0.1"])
        cold, warm, direct = [], [], []
        for _ in range(tries):
            cold.append(probe(site, "first")["seconds"] * 1000)
            warm.append(probe(site, "first")["seconds"] * 1000)
            direct.append(probe(plain, "first")["seconds"] * 1000)
            _close_and_allow(rig)
    what = f"connect to {SERVER_PRIVATE}"
    return [
        row(f"{what}, cold", "ms p50, less is better", median(cold), median(direct), "plain routing"),
        row(f"{what}, cold", "ms p90, less is better", percentile(cold, 0.9), BUDGET_MS, "budget without latency"),
        row(f"{what}, grant open", "ms p50, less is better", median(warm), median(direct), "plain routing"),
    ]


def _close_and_allow(rig: Rig) -> None:
    """Delete the policy, wait until the grant has ended, and make the policy anew."""
    owner = rig.tenant.owner
    for policy in owner.get("/policies")["policies"]:
        if policy["name"] == STREAMS_POLICY:
            owner.delete(f"/policies/{policy['id']}")

    def ended() -> bool:
        grants = owner.get("/grants")["grants"]
        return not any(grant["door"] == "network" and grant["state"] == "live" for grant in grants)

    rig.wait(ended, 10, "the end of the grant")
    rig.tenant.allow(STREAMS_POLICY, "streams", "connect")
    time.sleep(1.0)  # the client hears of it
