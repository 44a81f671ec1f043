"""Several resources on one address, overlapping ones, and other protocols, with real packets."""

import json
import time
from pathlib import Path

import pytest

from limen.kernel.ids import new_id
from limen.wire.agent import GrantEnded, NetworkResource, PortRange, Reachable
from tests.support.netns import RESOURCE_A, RESOURCE_B, Lab, laboratory
from tests.support.network_control import CLIENT_ADDRESS, ScriptedAgent, Site

pytestmark = pytest.mark.root


def test_two_resources_on_one_address_are_granted_and_revoked_apart(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080", f"{RESOURCE_A}:9090")
    web, metrics = site.resource(f"{RESOURCE_A}/32", 8080), site.resource(f"{RESOURCE_A}/32", 9090)
    fetch = site.fetch(f"{RESOURCE_A}:8080", timeout=8)
    first = site.answer(web)
    site.answer(metrics)
    assert fetch.result()["right"]
    assert site.fetch(f"{RESOURCE_A}:9090").result()["right"]
    site.revoke(first, tell_client=True)
    refused = site.fetch(f"{RESOURCE_A}:8080")
    site.deny(site.question(web))
    assert refused.result()["error"] == "errno 113"
    assert site.fetch(f"{RESOURCE_A}:9090").result()["right"]


@pytest.mark.row("N2")
def test_the_grant_on_a_network_covers_its_hosts_and_the_narrower_resource_counts_for_itself(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080", f"{RESOURCE_B}:8080", f"{RESOURCE_B}:9090")
    network, host = site.resource("10.77.0.0/24"), site.resource(f"{RESOURCE_B}/32", 9090)
    fetch = site.fetch(f"{RESOURCE_A}:8080")
    wide = site.answer(network)
    assert fetch.result()["right"]
    # The narrow resource is asked for although the broad grant would let its packets through.
    fetch = site.fetch(f"{RESOURCE_B}:9090", blocks=64)
    narrow = site.answer(host)
    assert fetch.result()["right"]
    assert site.fetch(f"{RESOURCE_B}:8080").result()["right"]
    _, receipt = site.revoke(narrow)
    assert receipt.bytes_out > 64 * 65_536, "counted on the narrow grant"
    # Of the two, the broad one goes on to cover that flow: it was granted for the whole network.
    assert site.fetch(f"{RESOURCE_B}:9090").result()["right"]
    _, receipt = site.revoke(wide)
    assert receipt.bytes_out > 3 * 16 * 65_536


def test_ping_passes_only_where_icmp_is_granted(site: Site) -> None:
    site.resource(f"{RESOURCE_B}/32", 8080)
    icmp = (PortRange(protocol="icmp", first=0, last=0),)
    pingable = NetworkResource(id=new_id(), name="ping", cidr=f"{RESOURCE_A}/32", ports=icmp)
    site.resources[pingable.id] = pingable
    site.tell_reachable()
    ping = site.ping(RESOURCE_A, timeout=5)
    site.answer(pingable)
    assert ping.result() == {"answered": True}
    assert site.ping(RESOURCE_B).result() == {"answered": False}


def test_the_status_file_says_what_is_open_and_what_was_refused(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    web, shut = site.resource(f"{RESOURCE_A}/32", 8080), site.resource(f"{RESOURCE_B}/32", 8080)
    fetch = site.fetch(f"{RESOURCE_A}:8080")
    granted = site.answer(web)
    assert fetch.result()["right"]
    fetch = site.fetch(f"{RESOURCE_B}:8080")
    site.deny(site.question(shut))
    assert fetch.result()["error"]
    path = site.state / "status.json"
    assert path.stat().st_mode & 0o777 == 0o600
    status = json.loads(path.read_text())
    assert status["connected"] is True
    assert status["tunnel_address"] == CLIENT_ADDRESS
    assert [one["id"] for one in status["grants"]] == [str(granted.id)]
    assert [one["reason"] for one in status["denials"]] == ["no policy allows it"]
    assert len(status["reachable"]) == 2


def test_a_grant_that_ends_and_is_given_again_works_at_once(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    web = site.resource(f"{RESOURCE_A}/32", 8080)
    for _ in range(3):
        fetch = site.fetch(f"{RESOURCE_A}:8080")
        granted = site.answer(web)
        result = fetch.result()
        assert result["right"]
        assert result["first_byte"] < 0.9, result
        site.revoke(granted, tell_client=True)


def test_a_new_gateway_key_reaches_the_client_by_asking_again(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    web = site.resource(f"{RESOURCE_A}/32", 8080)
    stream = site.stream(f"{RESOURCE_A}:8080")
    granted = site.answer(web)
    assert stream.result() == {"flowing": True}
    site.restart_gateway()
    site.client.say("M", GrantEnded(tenant_id=site.tenant, grant_id=granted.id, reason="gateway-restarted"))
    fetch = site.fetch(f"{RESOURCE_A}:8080", timeout=8)
    site.answer(web)
    assert fetch.result()["right"]


@pytest.mark.row("N10")
def test_two_tenants_with_the_same_addresses_do_not_meet(tmp_path: Path) -> None:
    with laboratory() as left, laboratory() as right:
        sites = []
        for number, lab in enumerate((left, right)):
            state = tmp_path / str(number)
            state.mkdir()
            site = Site(lab, state).start()
            site.serve(f"{RESOURCE_A}:8080")
            sites.append(site)
        granted = []
        streams = []
        for site in sites:
            resource = site.resource(f"{RESOURCE_A}/32", 8080)
            stream = site.stream(f"{RESOURCE_A}:8080")
            granted.append(site.answer(resource))
            assert stream.result() == {"flowing": True}
            streams.append(stream)
        assert sites[0].client.hello != sites[1].client.hello
        said_at, _ = sites[0].revoke(granted[0], tell_client=True)
        assert streams[0].result()["last"] - said_at < 1.0
        time.sleep(1.0)  # the other tenant's flow goes on meanwhile
        # A message of the other tenant is refused whole, and cuts nothing.
        foreign = Reachable(tenant_id=sites[0].tenant, version=99, resources=())
        sites[1].client.say("M", foreign)
        assert sites[1].client.process.wait(30) != 0
        _, receipt = sites[1].revoke(granted[1])
        assert receipt.last_byte_at > said_at + 0.5


def test_a_second_gateway_in_one_namespace_is_refused(site: Site, lab: Lab, tmp_path: Path) -> None:
    other = ScriptedAgent(lab, "gateway", site.tenant, tmp_path, port=51999)
    other.say("W", site.welcome("100.64.0.9"))
    assert other.process.wait(30) != 0
