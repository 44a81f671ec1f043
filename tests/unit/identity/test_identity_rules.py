"""The pure rules of identity."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.identity import rules
from limen.control.identity.rules import Counter, Scope, count_attempt, refused_for
from limen.kernel.errors import Conflict, Denied, Malformed
from limen.kernel.principal import Role

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (" Ada@Example.ORG ", "ada@example.org"),
        ("ada+tag@example.org", "ada+tag@example.org"),
        ("Jose\u0301@example.org", "jos\u00e9@example.org"),
    ],
)
def test_normal_form_of_an_address(given_text: str, expected: str) -> None:
    assert rules.normalise_email(given_text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "ada", "@example.org", "ada@", "ada@localhost", "a@b@example.org", "a b@example.org", "ada@example..org",
     "ada@.example.org", "ada@example.org\x00", "a" * 250 + "@example.org", "a\u202e@example.org"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        rules.normalise_email(text)
    assert not text or text not in caught.value.message


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    try:
        once = rules.normalise_email(text)
    except Malformed:
        return
    assert rules.normalise_email(once) == once


def test_the_same_password_from_another_keyboard() -> None:
    assert rules.check_new_password("caf\u00e9 on the corner") == rules.check_new_password("cafe\u0301 on the corner")
    assert rules.normalise_password("cafe\u0301") == "caf\u00e9".encode()


@pytest.mark.parametrize(("length", "good"), [(11, False), (12, True), (1024, True), (1025, False)])
def test_length_of_a_password(length: int, good: bool) -> None:
    password = ("abcdefghij" * 103)[:length]
    if good:
        assert rules.check_new_password(password) == password.encode()
    else:
        with pytest.raises(Malformed):
            rules.check_new_password(password)


def test_a_password_may_hold_any_character() -> None:
    assert rules.check_new_password("\U0001f512 \x00 \ud800 and more").startswith("\U0001f512".encode())


@pytest.mark.row("I5")
@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0), (4, 0), (5, 60), (9, 60), (10, 300), (19, 300), (20, 3600), (500, 3600)]
)
def test_schedule(failures: int, seconds: int) -> None:
    counter = count_attempt(Scope.ACCOUNT, Counter(failures - 1, NOW - timedelta(seconds=1), None), NOW)
    assert counter.failures == failures
    assert refused_for(counter, NOW) == seconds


@pytest.mark.row("I5")
def test_silence_forgets() -> None:
    old = Counter(30, NOW - timedelta(days=1), None)
    assert count_attempt(Scope.ACCOUNT, old, NOW).failures == 1
    assert count_attempt(Scope.ACCOUNT, old, NOW - timedelta(seconds=1)).failures == 31


@given(st.lists(st.integers(0, 7200), max_size=60))
def test_no_sequence_of_guesses_beats_the_schedule(waits: list[int]) -> None:
    """However an attacker times it, attempts that get through after the fourth are at least 60 s apart."""
    counter, now, through = Counter(), NOW, []
    for wait in waits:
        now += timedelta(seconds=wait)
        if refused_for(counter, now) == 0:
            counter = count_attempt(Scope.ACCOUNT, counter, now)
            through.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(through[4:])]
    assert all(gap >= timedelta(seconds=60) for gap in gaps)


@pytest.mark.parametrize(
    ("source", "network", "address"),
    [
        ("198.51.100.77", "198.51.100.0/24", "198.51.100.77/32"),
        ("::ffff:198.51.100.77", "198.51.100.0/24", "198.51.100.77/32"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/48", "fe80::/64"),
        ("unix", "unix", "unix"),
    ],
)
def test_networks_and_addresses_that_are_counted(source: str, network: str, address: str) -> None:
    assert rules.client_network(source) == network
    assert rules.client_address(source) == address


@pytest.mark.parametrize("by", [Role.ADMIN, Role.AUDITOR, Role.MEMBER])
@pytest.mark.parametrize(("before", "after"), [(None, Role.OWNER), (Role.MEMBER, Role.OWNER), (Role.OWNER, None)])
def test_owners_are_made_and_unmade_by_owners(by: Role, before: Role | None, after: Role | None) -> None:
    with pytest.raises(Denied):
        rules.check_role_change(by, before, after, other_owners=3)
    rules.check_role_change(Role.OWNER, before, after, other_owners=3)


@pytest.mark.parametrize("after", [None, Role.ADMIN, Role.MEMBER])
def test_a_tenant_keeps_an_owner(after: Role | None) -> None:
    with pytest.raises(Conflict):
        rules.check_role_change(Role.OWNER, Role.OWNER, after, other_owners=0)
    rules.check_role_change(Role.OWNER, Role.OWNER, after, other_owners=1)
