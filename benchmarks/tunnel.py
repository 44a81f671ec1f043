"""Throughput of one TCP stream through the gateway with enforcement, against bare WireGuard of the same back end.

Laptop, gateway and server are network namespaces of one machine, so both ends of the tunnel, the server and the client
share its processors: the ratio is what counts. Processor time is that of both ``wireguard-go`` processes, and of the
whole machine (which has the packet filter's work in it, and whatever else the machine does).
"""

from collections.abc import Sequence
from functools import partial

from demo.lab import Site
from demo.processes import StepFailed

from benchmarks.measure import GIB, cpu_seconds, interleaved
from benchmarks.report import Row, row
from benchmarks.rig import Rig
from benchmarks.tunnels import bare_tunnel, data_plane_pids, limen_tunnel, probe, serve_streams

_PEER = "bare wireguard-go"


def run(*, quick: bool) -> list[Row]:
    """Both directions."""
    rounds, seconds = (1, 1.0) if quick else (5, 4.0)
    with Rig(lab=True) as rig:
        assert rig.lab is not None
        sites = [rig.lab.add_site(name) for name in ("limen", "bare")]
        for site, name in zip(sites, ("limen", "bare"), strict=True):
            serve_streams(rig, site, name)
        ours = data_plane_pids(limen_tunnel(rig, sites[0]))
        bare = data_plane_pids(bare_tunnel(rig, sites[1]))
        for site in sites:
            probe(site, "pull", "0.5")
        rows = []
        for case, what in (("download", "pull"), ("upload", "push")):
            mine, its = interleaved(
                rounds,
                partial(_measured, sites[0], ours, what, seconds),
                partial(_measured, sites[1], bare, what, seconds),
            )
            rows += [
                row(case, "Mbit/s, more is better", mine["mbit_s"], its["mbit_s"], _PEER),
                row(case, "CPU s per GiB, wireguard-go of both ends, less is better", mine["cpu"], its["cpu"], _PEER),
                row(case, "CPU s per GiB, whole machine, less is better", mine["machine"], its["machine"], _PEER),
            ]
    return rows


def _measured(site: Site, pids: Sequence[int], what: str, seconds: float) -> dict[str, float]:
    before = sum(cpu_seconds(pid) for pid in pids)
    found = probe(site, what, str(seconds))
    spent = sum(cpu_seconds(pid) for pid in pids) - before
    if not found["bytes"]:
        raise StepFailed("nothing came through the tunnel")
    moved = found["bytes"] / GIB
    # The probe's warm-up second is in the processes' time, at the same rate as the rest.
    share = found["seconds"] / (found["seconds"] + 1.0)
    return {
        "mbit_s": found["bytes"] * 8 / found["seconds"] / 1e6,
        "cpu": spent * share / moved,
        "machine": found["machine_cpu"] / moved,
    }
