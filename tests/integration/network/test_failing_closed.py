"""What happens to packets when the agent, its control plane, or its tunnel goes away; and what is left behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from limen.wire.agent import Applied, CloseGrants, Receipt, Sync
from tests.support.netns import RESOURCE_A, Lab
from tests.support.network_control import GATEWAY_ADDRESS, Fetch, ScriptedAgent, Site

pytestmark = pytest.mark.root


def flowing(site: Site) -> Fetch:
    """An endless transfer under one grant, running."""
    site.serve(f"{RESOURCE_A}:8080")
    resource = site.resource(f"{RESOURCE_A}/32", 8080)
    stream = site.stream(f"{RESOURCE_A}:8080")
    site.answer(resource)
    assert stream.result() == {"flowing": True}
    return stream


def interface(agent: ScriptedAgent) -> str:
    return f"lmn{agent.id.hex[-8:]}"


def process_of(agent: ScriptedAgent) -> int:
    """The agent's own process: ``ip netns exec`` replaces itself by it."""
    return agent.process.pid


@pytest.mark.row("N4")
def test_without_renewal_the_lease_runs_out_in_the_kernel(lab: Lab, tmp_path: Path) -> None:
    site = Site(lab, tmp_path).start()
    stream = flowing(site)
    # The agent is stopped dead right after a renewal: no code of ours runs from here on.
    renewed_at = time.time()
    site.gateway.say("L", "2.0")
    time.sleep(0.3)
    os.kill(process_of(site.gateway), signal.SIGSTOP)
    ended = stream.result()
    os.kill(process_of(site.gateway), signal.SIGCONT)
    assert 1.0 < ended["last"] - renewed_at < 2.6, ended["last"] - renewed_at


@pytest.mark.row("N4")
def test_a_killed_gateway_leaves_nothing_open_and_the_next_start_cleans_up(site: Site, tmp_path: Path) -> None:
    stream = flowing(site)
    killed_at = time.time()
    os.kill(process_of(site.gateway), signal.SIGKILL)
    ended = stream.result()
    assert ended["last"] - killed_at < 1.0, ended["last"] - killed_at
    # The tunnel process went with its parent; the table is still there, and shut.
    assert interface(site.gateway) not in site.lab.run("gateway", "ip", "-brief", "link")
    assert "table inet limen_lmn" in site.lab.run("gateway", "nft", "list", "tables")
    again = ScriptedAgent(site.lab, "gateway", site.tenant, tmp_path, agent_id=site.gateway.id)
    assert again.hello["wireguard_public_key"] != site.gateway.hello["wireguard_public_key"]
    assert f"{interface(again)} " in site.lab.run("gateway", "ip", "-brief", "link")
    listed = site.lab.run("gateway", "nft", "list", "set", "inet", f"limen_{interface(again)}", "grants")
    assert "elements" not in listed


def test_lapse_cuts_and_sync_with_lease_brings_back(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    resource = site.resource(f"{RESOURCE_A}/32", 8080)
    fetch = site.fetch(f"{RESOURCE_A}:8080")
    granted = site.answer(resource)
    assert fetch.result()["right"]
    site.gateway.say("X")
    assert site.fetch(f"{RESOURCE_A}:8080", timeout=1.0).result()["error"]
    site.gateway.say("M", Sync(tenant_id=site.tenant, version=2, tunnels=(granted,)))
    site.gateway.wait_for(Applied)
    assert site.fetch(f"{RESOURCE_A}:8080", timeout=1.0).result()["error"], "open, but without a lease"
    site.gateway.say("L", "60")
    assert site.fetch(f"{RESOURCE_A}:8080", timeout=8.0).result()["right"]


def test_sync_cuts_what_it_does_not_name(site: Site) -> None:
    stream = flowing(site)
    said_at = time.time()
    site.gateway.say("M", Sync(tenant_id=site.tenant, version=7))
    assert site.gateway.wait_for(Receipt).reason == "not-in-sync"
    assert stream.result()["last"] - said_at < 1.0


def test_a_change_that_the_kernel_refuses_leads_to_a_rebuilt_data_plane(site: Site) -> None:
    stream = flowing(site)
    # Someone deletes our table: the next change fails, and everything that is live is made anew.
    table = f"limen_{interface(site.gateway)}"
    site.lab.run("gateway", "nft", "delete", "table", "inet", table)
    site.gateway.say("M", CloseGrants(tenant_id=site.tenant, version=2))
    site.gateway.say("L", "60")
    time.sleep(0.3)
    assert table in site.lab.run("gateway", "nft", "list", "tables")
    assert site.fetch(f"{RESOURCE_A}:8080").result()["right"]
    site.client.process.kill()
    stream.process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_stopped_agent_leaves_the_host_as_it_was(site: Site, number: int) -> None:
    flowing(site)
    assert site.lab.run("gateway", "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
    for agent in (site.client, site.gateway):
        os.kill(process_of(agent), number)
        assert agent.process.wait(30) == 0
    for host in ("gateway", "client"):
        assert "lm" not in "".join(line.split()[0] for line in site.lab.run(host, "ip", "-brief", "link").splitlines())
        assert site.lab.run(host, "nft", "list", "tables") == ""
    assert site.lab.run("gateway", "cat", "/proc/sys/net/ipv4/ip_forward") == "0\n"
    assert "10.77" not in site.lab.run("client", "ip", "route")
    assert not (site.state / "status.json").exists()
    sockets = Path("/var/run/wireguard")
    assert not [one for one in sockets.iterdir() if one.stem in (interface(site.gateway), interface(site.client))]


def test_when_the_tunnel_process_dies_the_agent_ends_with_an_error(site: Site) -> None:
    children = subprocess.run(
        ["ps", "--ppid", str(process_of(site.gateway)), "-o", "pid=,comm="], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    tunnel = next(int(line.split()[0]) for line in children if "wireguard-go" in line)
    os.kill(tunnel, signal.SIGKILL)
    assert site.gateway.process.wait(30) != 0
    assert "limen_" not in site.lab.run("gateway", "nft", "list", "tables")


def test_the_table_touches_no_other_traffic(site: Site) -> None:
    """A host of the outside reaches the gateway and is forwarded by it as before, tunnel or not."""
    flowing(site)
    site.lab.run("client", "ip", "route", "replace", "10.77.0.11/32", "via", "192.0.2.1")
    site.lab.run("resource", "ip", "route", "add", "192.0.2.0/24", "via", "10.77.0.1")
    assert site.ping("10.77.0.11").result() == {"answered": True}
    assert site.ping("192.0.2.1").result() == {"answered": True}
    assert GATEWAY_ADDRESS in site.lab.run("gateway", "ip", "-brief", "address")
