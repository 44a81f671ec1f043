"""Which hosts we answer to, and whose they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.api.hosts import HostRules
from limen.api.problems import Misdirected
from limen.kernel.errors import LimenError, Malformed

RULES = HostRules("limen.example", frozenset({"vpn.example.net", "10.1.2.3", "2001:db8::1"}))


@pytest.mark.parametrize(
    ("authority", "slug"),
    [
        ("limen.example", None),
        ("limen.example:8443", None),
        ("LIMEN.Example.", None),
        ("acme.limen.example", "acme"),
        ("Acme.Limen.Example:8443", "acme"),
        ("vpn.example.net", None),
        ("10.1.2.3:8443", None),
        ("[2001:db8::1]:8443", None),
        ("127.0.0.1:8443", None),
        ("[::1]:8443", None),
        ("localhost:8443", None),
    ],
)
def test_ours(authority: str, slug: str | None) -> None:
    assert RULES.tenant_slug(authority) == slug


@pytest.mark.parametrize(
    "authority",
    ["example", "evil.example", "limen.example.evil.example", "xlimen.example", "a.b.limen.example", "10.1.2.4",
     "-a.limen.example", "169.254.169.254", "localhost.evil.example", "acme.vpn.example.net"],
)  # fmt: skip
def test_others(authority: str) -> None:
    with pytest.raises(Misdirected):
        RULES.tenant_slug(authority)


@pytest.mark.parametrize(
    "authority",
    ["", "a b", "limen.example:x", "limen.example:", "user@limen.example", "limen.example/x", "[::1", "a_b"],
)
def test_not_hosts(authority: str) -> None:
    with pytest.raises(Malformed):
        RULES.tenant_slug(authority)


@given(st.text(max_size=60))
def test_nothing_else_gets_in(text: str) -> None:
    try:
        slug = RULES.tenant_slug(f"{text}.limen.example")
    except LimenError:
        return
    assert slug == text.lower()
