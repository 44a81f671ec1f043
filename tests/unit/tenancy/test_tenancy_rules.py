"""Slugs, names, operators' tokens."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.tenancy import rules
from limen.kernel.errors import Malformed, Unauthenticated
from limen.kernel.ids import new_id


@pytest.mark.parametrize("slug", ["acme", "a1", "acme-labs", "a" * 40])
def test_good_slugs(slug: str) -> None:
    assert rules.check_slug(slug) == slug


@pytest.mark.parametrize(
    "slug",
    ["", "a", "Acme", "1acme", "-acme", "acme-", "ac--me", "acme.labs", "ac me", "a" * 41, "acme\n", "äcme", "xn--cme",
     "www", "api", "static", "vault"],
)  # fmt: skip
def test_bad_slugs(slug: str) -> None:
    with pytest.raises(Malformed):
        rules.check_slug(slug)


@given(st.text(max_size=45))
def test_every_accepted_slug_is_a_dns_label_that_the_database_takes(text: str) -> None:
    try:
        slug = rules.check_slug(text)
    except Malformed:
        return
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", slug)


def test_names() -> None:
    assert rules.check_name("  Acme Ltd ") == "Acme Ltd"
    for bad in ("", "  ", "x" * 121, "a\tb", "a\u200bb"):
        with pytest.raises(Malformed):
            rules.check_name(bad)


def test_operator_tokens_come_apart_again() -> None:
    operator, secret = new_id(), "A" * 43
    assert rules.parse_operator_token(rules.operator_token(operator, secret)) == (operator, secret)
    rules.check_secret(secret, rules.hash_secret(secret))
    with pytest.raises(Unauthenticated):
        rules.check_secret("B" * 43, rules.hash_secret(secret))


@given(st.text(max_size=100))
def test_anything_else_is_no_operator_token(text: str) -> None:
    with pytest.raises(Unauthenticated):
        rules.parse_operator_token("lo1." + text)
