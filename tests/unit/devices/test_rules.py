"""Rules of enrolment and of the channel as tables."""

import math
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.devices import rules
from limen.control.devices.errors import Refused, WrongClock
from limen.control.devices.model import AgentState
from limen.kernel.errors import Malformed
from limen.wire import agent as wire
from limen.wire.agent import AgentKind, AppliedVersion, RefuseCode
from tests.support.agents import (
    NOW,
    OTHER_TENANT,
    TENANT,
    an_agent,
    certificate_of,
    hello_of,
    open_of,
)


@pytest.mark.parametrize("skew", [-30.0, 0.0, 30.0])
def test_small_clock_differences_pass(skew: float) -> None:
    rules.check_clock(NOW.timestamp() + skew, NOW)


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (3600.0, "3600 s ahead of"),
        (-3600.0, "3600 s behind"),
        (30.5, "ahead"),
        (math.nan, "allowed"),
        (math.inf, "allowed"),
    ],
)
def test_wrong_clock_is_named(skew: float, words: str) -> None:
    with pytest.raises(WrongClock, match=words) as caught:
        rules.check_clock(NOW.timestamp() + skew, NOW)
    assert "timedatectl" in caught.value.fix


@pytest.mark.parametrize("host", [1, 2, 255, 256, rules.MAX_TUNNEL_HOST])
def test_tunnel_addresses_lie_in_the_network(host: int) -> None:
    address, length = rules.tunnel_address(host).split("/")
    assert address in map(str, [rules.TUNNEL_NETWORK[host]])
    assert length == "11"


@pytest.mark.parametrize("host", [-1, 0, rules.MAX_TUNNEL_HOST + 1])
def test_tunnel_network_ends(host: int) -> None:
    with pytest.raises(Malformed):
        rules.tunnel_address(host)


@pytest.mark.parametrize("name", ["", " a", "-a", "a/b", "a" * 64, "é", "a\nb", "a\x00"])
def test_bad_names(name: str) -> None:
    with pytest.raises(Malformed):
        rules.checked_name(name)


# --- hello ------------------------------------------------------------------------------------------------


def test_a_good_hello_passes() -> None:
    agent = an_agent()
    rules.check_hello(hello_of(agent), certificate_of(agent), NOW)
    assert rules.check_agent(agent, certificate_of(agent)) is agent


@pytest.mark.parametrize("protocol", [-1, 0, wire.PROTOCOL + 1, 1000])
def test_unfit_protocol(protocol: int) -> None:
    agent = an_agent()
    hello = wire.Hello(protocol=protocol, kind=agent.kind, agent_id=agent.id, software="", now=NOW.timestamp())
    with pytest.raises(Refused) as caught:
        rules.check_hello(hello, certificate_of(agent), NOW)
    assert caught.value.reason is RefuseCode.VERSION


def test_hello_of_another_agent_or_kind() -> None:
    agent = an_agent()
    for claimed in (an_agent(agent_id=UUID(int=11)), an_agent(AgentKind.CLIENT)):
        with pytest.raises(Refused) as caught:
            rules.check_hello(hello_of(claimed), certificate_of(agent), NOW)
        assert caught.value.reason is RefuseCode.IDENTITY


def test_hello_with_a_clock_an_hour_off() -> None:
    agent = an_agent()
    with pytest.raises(Refused, match="3600 s behind") as caught:
        rules.check_hello(hello_of(agent, NOW - timedelta(hours=1)), certificate_of(agent), NOW)
    assert caught.value.reason is RefuseCode.CLOCK
    assert caught.value.reason in wire.PERMANENT_REFUSALS


def test_expired_certificate_is_refused_for_now_only() -> None:
    agent = an_agent()
    with pytest.raises(Refused) as caught:
        rules.check_hello(hello_of(agent), replace(certificate_of(agent), not_after=NOW), NOW)
    assert caught.value.reason not in wire.PERMANENT_REFUSALS


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": OTHER_TENANT},
        {"tenant_id": None},
        {"agent_id": UUID(int=99)},
        {"kind": AgentKind.CLIENT},
        {"kind": AgentKind.SFTP},
        {"spki_sha256": b"x" * 32},
    ],
)
def test_certificate_and_record_must_agree_in_everything(change: dict[str, object]) -> None:
    agent = an_agent()
    with pytest.raises(Refused) as caught:
        rules.check_agent(agent, replace(certificate_of(agent), **change))  # type: ignore[arg-type]
    assert caught.value.reason is RefuseCode.IDENTITY


def test_removed_or_unknown_agents() -> None:
    agent = an_agent()
    with pytest.raises(Refused) as caught:
        rules.check_agent(replace(agent, state=AgentState.REMOVED), certificate_of(agent))
    assert caught.value.reason is RefuseCode.REMOVED
    with pytest.raises(Refused) as caught:
        rules.check_agent(None, certificate_of(agent))
    assert caught.value.reason is RefuseCode.IDENTITY


# --- who may send what ------------------------------------------------------------------------------------

ID = UUID(int=5)
G, C, F = AgentKind.GATEWAY, AgentKind.CLIENT, AgentKind.SFTP


def messages(tenant_id: UUID) -> dict[type, tuple[object, set[AgentKind]]]:
    """One of every message of agents, naming ``tenant_id`` where it can, and the kinds that may send it."""
    applied = (AppliedVersion(tenant_id=tenant_id, version=1),)
    receipt = wire.Receipt(tenant_id=tenant_id, grant_id=ID, reason="expired", cut_at=1.0)
    hello = hello_of(an_agent())
    request = wire.RequestAccess(request_id=1, resource_id=ID)
    sign_in = wire.Authenticate(request_id=1, connection="c", user="u", source="", password="p")
    entries: list[tuple[object, set[AgentKind]]] = [
        (hello, set()),
        (wire.Heartbeat(now=1.0, applied=applied), {G, C, F}),
        (wire.Opened(tenant_id=tenant_id, grant_id=ID), {G}),
        (wire.Applied(tenant_id=tenant_id, version=1), {G, C, F}),
        (receipt, {G, F}),
        (wire.Events(tenant_id=tenant_id, batch=1, events=()), {G, F}),
        (request, {C}),
        (sign_in, {F}),
        (wire.Release(tenant_id=tenant_id, grant_id=ID), {C, F}),
        (wire.Renew(), {G, C, F}),
        (wire.Goodbye(), {G, C, F}),
    ]
    return {type(message): (message, kinds) for message, kinds in entries}


def test_the_table_knows_every_message_of_agents() -> None:
    """A message added to the wire must be given a rule."""
    assert set(messages(TENANT)) == set(wire.FromAgent.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", list(AgentKind))
@pytest.mark.parametrize("message_type", list(messages(TENANT)), ids=lambda t: t.__name__)
def test_kinds_send_only_their_own_messages(kind: AgentKind, message_type: type) -> None:
    message, allowed = messages(TENANT)[message_type]
    if kind in allowed:
        rules.check_message(an_agent(kind), message)
    else:
        with pytest.raises(Refused) as caught:
            rules.check_message(an_agent(kind), message)
        assert caught.value.reason is RefuseCode.DENIED


@pytest.mark.row("T1")
@pytest.mark.parametrize("kind", [G, C])
@pytest.mark.parametrize("message_type", list(messages(TENANT)), ids=lambda t: t.__name__)
def test_no_message_names_another_tenant(kind: AgentKind, message_type: type) -> None:
    """The matrix: every message x the other tenant. Messages that name no tenant have none to name."""
    message, allowed = messages(OTHER_TENANT)[message_type]
    names_tenant = bool(list(rules.tenants_named(message)))
    if kind in allowed and not names_tenant:
        rules.check_message(an_agent(kind), message)
        return
    with pytest.raises(Refused) as caught:
        rules.check_message(an_agent(kind), message)
    assert caught.value.reason is RefuseCode.DENIED


# --- ledger -----------------------------------------------------------------------------------------------


def claim(version: int, tenant_id: UUID = TENANT) -> tuple[AppliedVersion, ...]:
    return (AppliedVersion(tenant_id=tenant_id, version=version),)


def test_nothing_required_nothing_behind() -> None:
    assert rules.VersionLedger().is_current(())


def test_sync_close_and_reachable_require_and_open_does_not() -> None:
    for message in (
        wire.Sync(tenant_id=TENANT, version=3),
        wire.CloseGrants(tenant_id=TENANT, version=3),
        wire.Reachable(tenant_id=TENANT, version=3, resources=()),
    ):
        ledger = rules.VersionLedger()
        ledger.sent(message)
        assert not ledger.is_current(())
        assert not ledger.is_current(claim(2))
        assert ledger.is_current(claim(3))
        ledger.sent(open_of(ID, 9))
        assert ledger.is_current(claim(3))
        assert ledger.is_current(claim(9))


def test_who_claims_the_future_is_not_believed() -> None:
    ledger = rules.VersionLedger()
    ledger.sent(wire.Sync(tenant_id=TENANT, version=3))
    assert not ledger.is_current(claim(4))
    assert not ledger.is_current(claim(2**60))


def test_tenants_are_counted_apart() -> None:
    ledger = rules.VersionLedger()
    ledger.sent(wire.Sync(tenant_id=TENANT, version=3))
    ledger.sent(wire.Sync(tenant_id=OTHER_TENANT, version=8))
    assert not ledger.is_current(claim(3))
    assert ledger.is_current(claim(3) + claim(8, OTHER_TENANT))
    assert not ledger.is_current(claim(3) + claim(7, OTHER_TENANT))


@given(st.lists(st.tuples(st.sampled_from(["sync", "close"]), st.integers(0, 20)), max_size=30))
def test_versions_of_cuts_never_go_back(steps: list[tuple[str, int]]) -> None:
    ledger = rules.VersionLedger()
    highest = -1
    for kind, version in steps:
        message = (
            wire.Sync(tenant_id=TENANT, version=version)
            if kind == "sync"
            else wire.CloseGrants(tenant_id=TENANT, version=version)
        )
        if version < max(highest, 0):
            with pytest.raises(ValueError, match="version"):
                ledger.sent(message)
        else:
            ledger.sent(message)
            highest = version
    if highest >= 0:
        assert ledger.is_current(claim(highest))
        assert not ledger.is_current(claim(highest - 1))
