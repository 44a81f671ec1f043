"""Real packets: client and gateway with wireguard-go and nftables, in namespaces of their own."""

import time

import pytest

from limen.wire.agent import Receipt, RequestAccess
from tests.support.netns import GATEWAY_INSIDE, RESOURCE_A, RESOURCE_B
from tests.support.network_control import GATEWAY_ADDRESS, Site

pytestmark = pytest.mark.root


def test_first_packet_opens_the_way_and_the_transfer_is_whole(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    resource = site.resource(f"{RESOURCE_A}/32", 8080)
    fetch = site.fetch(f"{RESOURCE_A}:8080", blocks=160)
    site.answer(resource)
    result = fetch.result()
    assert result["right"], result
    # The first packet was held and sent on: a lost SYN would cost its retransmission timeout of one second.
    assert result["first_byte"] < 0.9, result


def test_a_resource_without_grant_stays_shut_and_says_so_at_once(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080", f"{RESOURCE_B}:8080")
    allowed = site.resource(f"{RESOURCE_A}/32", 8080)
    shut = site.resource(f"{RESOURCE_B}/32", 8080)
    first = site.fetch(f"{RESOURCE_A}:8080")
    site.answer(allowed)
    assert first.result()["right"]
    second = site.fetch(f"{RESOURCE_B}:8080")
    site.deny(site.question(shut))
    result = second.result()
    assert result["error"] == "errno 113", result  # EHOSTUNREACH
    assert result["seconds"] < 1.0


def test_the_gateway_refuses_what_no_grant_covers_whatever_the_client_does(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080", f"{RESOURCE_A}:9090", f"{RESOURCE_B}:8080")
    allowed = site.resource(f"{RESOURCE_A}/32", 8080)
    first = site.fetch(f"{RESOURCE_A}:8080")
    site.answer(allowed)
    assert first.result()["right"]
    name = f"lmn{site.client.id.hex[-8:]}"
    peer = site.peer()
    everything = ("allowed-ips", "10.77.0.0/24,100.64.0.0/11,192.0.2.0/24")
    site.lab.run("client", "wg", "set", name, "peer", peer.public_key, *everything)
    for place in (RESOURCE_B, GATEWAY_INSIDE, GATEWAY_ADDRESS):
        site.lab.run("client", "ip", "route", "replace", f"{place}/32", "dev", name)
    # Another port, another host, and the gateway itself: on its inner address and on its tunnel address.
    site.lab.start("gateway", "-m", "tests.support.network_traffic", "serve", "0.0.0.0:8080")
    for place in (f"{RESOURCE_A}:9090", f"{RESOURCE_B}:8080", f"{GATEWAY_INSIDE}:8080", f"{GATEWAY_ADDRESS}:8080"):
        result = site.fetch(place, timeout=1.5).result()
        assert result["bytes"] == 0, place
        assert result["error"], place
    assert site.fetch(f"{RESOURCE_A}:8080").result()["right"]


@pytest.mark.row("N3")
def test_revoking_one_grant_cuts_its_live_flow_and_no_other(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080", f"{RESOURCE_B}:8080")
    first, second = site.resource(f"{RESOURCE_A}/32", 8080), site.resource(f"{RESOURCE_B}/32", 8080)
    cut, kept = site.stream(f"{RESOURCE_A}:8080"), site.stream(f"{RESOURCE_B}:8080")
    granted = {}
    for _ in range(2):
        asked = site.client.wait_for(RequestAccess)
        resource = site.resources[asked.resource_id]
        granted[resource.id] = site.allow(asked, resource)
    assert cut.result() == kept.result() == {"flowing": True}
    time.sleep(0.5)
    said_at, receipt = site.revoke(granted[first.id], tell_client=True)
    time.sleep(2.5)
    site.revoke(granted[second.id], tell_client=True)
    ended, other = cut.result(), kept.result()
    # A busy machine may stall a flow before the cut; what counts is that no byte comes long after it.
    assert -2.0 < ended["last"] - said_at < 1.0, ended["last"] - said_at
    assert other["last"] - said_at > 1.0, "the other flow was to go on"
    assert receipt.reason == "suspended"
    assert receipt.bytes_out >= ended["bytes"] > 0
    assert receipt.bytes_in > 0
    assert abs(receipt.last_byte_at - ended["last"]) < 1.0
    assert receipt.cut_at - said_at < 1.0


def test_expiry_cuts_by_itself(site: Site) -> None:
    site.serve(f"{RESOURCE_A}:8080")
    resource = site.resource(f"{RESOURCE_A}/32", 8080)
    stream = site.stream(f"{RESOURCE_A}:8080")
    granted = site.answer(resource, seconds=1.5)
    assert stream.result() == {"flowing": True}
    receipt = site.gateway.wait_for(Receipt)
    ended = stream.result()
    assert ended["last"] - granted.expires_at < 0.5, ended
    assert (receipt.reason, receipt.cut_at) == ("expired", granted.expires_at)
    assert receipt.bytes_out >= ended["bytes"]
