"""The client's machine as transcripts: a packet comes out of the trap, and what follows."""

import struct
from ipaddress import IPv4Address
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.edge.client.machine import (
    ANSWER_SECONDS,
    DENIAL_SECONDS,
    HOLD_SECONDS,
    MAX_HELD_BYTES,
    MAX_HELD_PACKETS,
    SETTLED_SECONDS,
    ClientMachine,
)
from limen.edge.client.packets import HOST_UNREACHABLE, PROHIBITED, TCP, Packet, parse
from limen.edge.client.ports import (
    Ask,
    Command,
    Refuse,
    Reinject,
    RemoveRoute,
    RemoveTunnelPeer,
    Reply,
    Report,
    RouteToTrap,
    RouteToTunnel,
    SetTunnelPeer,
)
from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id
from limen.wire.agent import (
    AccessAnswer,
    Applied,
    GrantEnded,
    NetworkResource,
    Reachable,
    RequestAccess,
    TunnelPeer,
)
from tests.unit.network.worlds import KEYS, OTHER_TENANT, TENANT, ports, resource

PEER = TunnelPeer(agent_id=new_id(), public_key=KEYS[0], endpoint="192.0.2.1:51820", address="100.64.0.1")
NEW_PEER = TunnelPeer(agent_id=PEER.agent_id, public_key=KEYS[1], endpoint="192.0.2.1:51820", address="100.64.0.1")


def packet(destination: str, port: int, size: int = 40) -> Packet:
    head = struct.pack(">BBHHHBBHII", 0x45, 0, size, 0, 0, 64, TCP, 0, 0x64400002, int(IPv4Address(destination)))
    found = parse(head + struct.pack(">HH", 40_000, port) + bytes(size - 24))
    assert found is not None
    return found


class Talk:
    """A machine with its transcript, less the reports."""

    def __init__(self, *resources: NetworkResource) -> None:
        self.machine = ClientMachine(TENANT)
        self.asked: dict[UUID, int] = {}
        self.machine.welcomed(0)
        self.reachable(*resources)

    def heard(self, commands: list[Command]) -> list[Command]:
        for command in commands:
            if isinstance(command, Ask):
                self.asked[command.request.resource_id] = command.request.request_id
        return [command for command in commands if not isinstance(command, Report)]

    def reachable(self, *resources: NetworkResource, version: int = 1, now: float = 0) -> list[Command]:
        return self.heard(self.machine.received(Reachable(tenant_id=TENANT, version=version, resources=resources), now))

    def trapped(self, found: Packet, now: float = 1) -> list[Command]:
        return self.heard(self.machine.trapped(found, now))

    def allow(
        self, found: NetworkResource, *, until: float = 1000, now: float = 1, peer: TunnelPeer = PEER
    ) -> tuple[UUID, list[Command]]:
        grant_id = new_id()
        answer = AccessAnswer(
            request_id=self.asked[found.id],
            allowed=True,
            resource_id=found.id,
            grant_id=grant_id,
            expires_at=until,
            peer=peer,
        )
        return grant_id, self.heard(self.machine.received(answer, now))

    def deny(self, found: NetworkResource, *, now: float = 1, code: str = "denied") -> list[Command]:
        answer = AccessAnswer(
            request_id=self.asked[found.id], allowed=False, resource_id=found.id, code=code, reason="no", fix="ask"
        )
        return self.heard(self.machine.received(answer, now))

    def ended(self, grant_id: UUID, now: float = 2) -> list[Command]:
        message = GrantEnded(tenant_id=TENANT, grant_id=grant_id, reason="suspended")
        return self.heard(self.machine.received(message, now))


def ask(number: int, found: NetworkResource) -> Ask:
    return Ask(RequestAccess(request_id=number, resource_id=found.id))


def tunnel_peer(*cidrs: str, peer: TunnelPeer = PEER) -> SetTunnelPeer:
    return SetTunnelPeer(peer.public_key, peer.endpoint, (*cidrs, "100.64.0.1/32"))


WEB = resource("10.0.0.1/32", ports("tcp", 443))
SHELL = resource("10.0.0.1/32", ports("tcp", 22))
NET = resource("10.0.0.0/24", ports("tcp", 443))


def test_reachable_resources_lead_into_the_trap() -> None:
    talk = Talk()
    applied = Reply(Applied(tenant_id=TENANT, version=4))
    assert talk.reachable(WEB, NET, version=4) == [RouteToTrap("10.0.0.0/24"), RouteToTrap("10.0.0.1/32"), applied]
    assert talk.machine.applied()[0].version == 4
    assert talk.reachable(NET, version=5)[:-1] == [RemoveRoute("10.0.0.1/32")]


def test_first_packet_asks_waits_and_goes_on() -> None:
    talk, first = Talk(WEB), packet("10.0.0.1", 443)
    assert talk.trapped(first) == [ask(1, WEB)]
    again = packet("10.0.0.1", 443)
    assert talk.trapped(again) == []
    _, commands = talk.allow(WEB)
    assert commands == [tunnel_peer("10.0.0.1/32"), RouteToTunnel("10.0.0.1/32"), Reinject((first, again))]


def test_denied_packets_are_refused_at_once_and_for_a_while() -> None:
    talk, first = Talk(WEB), packet("10.0.0.1", 443)
    talk.trapped(first)
    assert talk.deny(WEB, now=1) == [Refuse((first,), PROHIBITED)]
    assert talk.trapped(first, now=1 + DENIAL_SECONDS - 0.1) == [Refuse((first,), PROHIBITED)]
    assert talk.trapped(first, now=1 + DENIAL_SECONDS) == [ask(2, WEB)]
    assert talk.machine.status()["denials"] == []


def test_a_new_list_of_reachable_resources_ends_denials() -> None:
    talk, first = Talk(WEB), packet("10.0.0.1", 443)
    talk.trapped(first)
    talk.deny(WEB)
    talk.reachable(WEB, version=2)
    assert talk.trapped(first, now=1.5) == [ask(2, WEB)]


def test_a_packet_that_nothing_matches_is_refused_without_asking() -> None:
    talk, wrong = Talk(WEB), packet("10.0.0.1", 25)
    assert talk.trapped(wrong) == [Refuse((wrong,), PROHIBITED)]


def test_all_resources_on_an_address_are_asked_for_the_wanted_one_first() -> None:
    talk, first = Talk(WEB, SHELL, NET), packet("10.0.0.1", 22)
    commands = talk.trapped(first)
    assert commands[0] == ask(1, SHELL)
    assert {command.request.resource_id for command in commands if isinstance(command, Ask)} == {
        WEB.id,
        SHELL.id,
        NET.id,
    }
    assert talk.allow(SHELL)[1] == [], "the route waits for the others: it would swallow their packets"
    # Only the broad one covers the /24, so its answer moves that route.
    assert talk.allow(NET)[1] == [tunnel_peer("10.0.0.0/24"), RouteToTunnel("10.0.0.0/24")]
    assert talk.deny(WEB) == [
        tunnel_peer("10.0.0.0/24", "10.0.0.1/32"),
        RouteToTunnel("10.0.0.1/32"),
        Reinject((first,)),
    ]


def test_the_route_to_a_narrow_resource_is_not_taken_by_the_grant_on_a_broad_one() -> None:
    talk = Talk(SHELL, NET)
    talk.trapped(packet("10.0.0.7", 443))
    assert talk.allow(NET)[1][-2:] == [RouteToTunnel("10.0.0.0/24"), Reinject((packet("10.0.0.7", 443),))]
    # 10.0.0.1 still leads into the trap, so that SHELL gets asked for.
    assert talk.trapped(packet("10.0.0.1", 22), now=2) == [ask(2, SHELL)]


@pytest.mark.parametrize("how", ["told", "expiry", "lapse"])
def test_when_a_grant_is_over_the_route_goes_back_and_the_peer_goes(how: str) -> None:
    talk = Talk(WEB)
    talk.trapped(packet("10.0.0.1", 443))
    grant_id, _ = talk.allow(WEB, until=50)
    expected = [RouteToTrap("10.0.0.1/32"), RemoveTunnelPeer(KEYS[0])]
    if how == "told":
        assert talk.ended(grant_id) == expected
    elif how == "lapse":
        assert talk.heard(talk.machine.lapsed(2)) == expected
    else:
        assert talk.machine.next_wake() == 50
        assert talk.heard(talk.machine.tick(50)) == expected
    assert talk.trapped(packet("10.0.0.1", 443), now=51) == [ask(2, WEB)]


def test_the_end_of_one_grant_leaves_the_other_resource_on_its_address_reachable() -> None:
    talk = Talk(WEB, SHELL)
    talk.trapped(packet("10.0.0.1", 443))
    talk.allow(WEB)
    grant_id, _ = talk.allow(SHELL)
    assert talk.ended(grant_id, now=2) == [RouteToTrap("10.0.0.1/32"), RemoveTunnelPeer(KEYS[0])]
    held = packet("10.0.0.1", 443)
    assert talk.trapped(held, now=3) == [ask(3, SHELL)]
    assert talk.deny(SHELL, now=3) == [
        tunnel_peer("10.0.0.1/32"),
        RouteToTunnel("10.0.0.1/32"),
        Reinject((held,)),
    ]
    # The denial keeps the route for a while; then the trap looks again.
    assert talk.heard(talk.machine.tick(3 + SETTLED_SECONDS))[0] == RouteToTrap("10.0.0.1/32")


def test_silence_of_the_control_plane_becomes_host_unreachable() -> None:
    talk, first = Talk(WEB), packet("10.0.0.1", 443)
    talk.trapped(first, now=1)
    assert talk.machine.next_wake() == 1 + ANSWER_SECONDS
    assert talk.heard(talk.machine.tick(1 + ANSWER_SECONDS)) == [Refuse((first,), HOST_UNREACHABLE)]


def test_questions_are_asked_again_after_a_reconnect() -> None:
    talk, first = Talk(WEB), packet("10.0.0.1", 443)
    talk.machine.lost(1)
    assert talk.trapped(first, now=1) == [], "nobody to ask"
    assert talk.heard(talk.machine.welcomed(2)) == [ask(2, WEB)]
    assert talk.allow(WEB, now=2)[1][-1] == Reinject((first,))


def test_after_a_reconnect_a_gateways_new_key_replaces_the_old_one_without_moving_the_route() -> None:
    talk = Talk(WEB)
    talk.trapped(packet("10.0.0.1", 443))
    talk.allow(WEB)
    assert talk.heard(talk.machine.welcomed(2)) == [ask(2, WEB)]
    assert talk.allow(WEB, now=2, peer=NEW_PEER)[1] == [
        RemoveTunnelPeer(KEYS[0]),
        tunnel_peer("10.0.0.1/32", peer=NEW_PEER),
    ]


def test_after_a_reconnect_only_the_policys_no_ends_a_grant() -> None:
    talk = Talk(WEB)
    talk.trapped(packet("10.0.0.1", 443))
    talk.allow(WEB)
    talk.heard(talk.machine.welcomed(2))
    assert talk.deny(WEB, now=2, code="no-gateway-online") == []
    talk.heard(talk.machine.welcomed(3))
    assert talk.deny(WEB, now=3, code="denied") == [RouteToTrap("10.0.0.1/32"), RemoveTunnelPeer(KEYS[0])]


def test_an_answer_to_an_old_question_changes_nothing() -> None:
    talk = Talk(WEB)
    talk.trapped(packet("10.0.0.1", 443))
    talk.asked[WEB.id] = 99
    assert talk.allow(WEB)[1] == []


def test_a_resource_that_is_not_reachable_any_more_loses_route_and_grant() -> None:
    talk = Talk(WEB)
    talk.trapped(packet("10.0.0.1", 443))
    talk.allow(WEB)
    assert talk.reachable(version=2, now=2)[:-1] == [RemoveRoute("10.0.0.1/32"), RemoveTunnelPeer(KEYS[0])]
    assert talk.machine.status()["grants"] == []


def test_another_tenants_message_is_an_error() -> None:
    with pytest.raises(Malformed):
        Talk().machine.received(Reachable(tenant_id=OTHER_TENANT, version=9, resources=(WEB,)), 0)


def test_a_network_that_holds_its_own_gateway_is_refused() -> None:
    around = resource("192.0.2.0/24")
    talk, first = Talk(around), packet("192.0.2.77", 443)
    talk.trapped(first)
    assert talk.allow(around)[1] == [Refuse((first,), PROHIBITED)]
    assert "its own gateway" in talk.machine.status()["denials"][0]["reason"]


def test_ipv6_resources_are_left_alone() -> None:
    assert Talk().reachable(resource("fd00::/64"), version=2) == [Reply(Applied(tenant_id=TENANT, version=2))]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(40, 1420), min_size=300, max_size=600))
def test_held_packets_are_bounded(sizes: list[int]) -> None:
    talk = Talk(WEB)
    for size in sizes:
        talk.trapped(packet("10.0.0.1", 443, size))
    sent = next(command for command in talk.allow(WEB)[1] if isinstance(command, Reinject))
    assert len(sent.packets) <= MAX_HELD_PACKETS
    assert sum(len(one.data) for one in sent.packets) <= MAX_HELD_BYTES


def test_held_packets_are_bounded_in_time() -> None:
    talk, first = Talk(WEB, SHELL), packet("10.0.0.1", 443)
    talk.trapped(first, now=0)
    talk.allow(WEB, now=0)
    # SHELL stays unanswered: at the latest then the route moves, and the packet goes on.
    commands = talk.heard(talk.machine.tick(ANSWER_SECONDS))
    assert commands[-1] == Reinject((first,))
    assert ANSWER_SECONDS < HOLD_SECONDS
