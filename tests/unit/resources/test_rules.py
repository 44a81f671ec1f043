"""What a resource may look like."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.resources.rules import checked_attributes, checked_name
from limen.kernel.access import ResourceKind
from limen.kernel.errors import Malformed


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"cidr": 7},
        {"cidr": "here"},
        {"cidr": "10.0.0.1/8"},
        {"cidr": "127.0.0.1"},
        {"cidr": "169.254.1.1"},
        {"cidr": "224.0.0.1"},
        {"cidr": "::1"},
        {"cidr": "fe80::1"},
        {"cidr": "0.0.0.0/0"},
        {"cidr": "10.0.0.1", "host": "x"},
        {"cidr": "10.0.0.1", "ports": "tcp/80"},
        {"cidr": "10.0.0.1", "ports": [{"protocol": "sctp", "first": 1, "last": 2}]},
        {"cidr": "10.0.0.1", "ports": [{"protocol": "tcp", "first": 0, "last": 2}]},
        {"cidr": "10.0.0.1", "ports": [{"protocol": "tcp", "first": 9, "last": 2}]},
        {"cidr": "10.0.0.1", "ports": [{"protocol": "tcp", "first": 1, "last": 65536}]},
        {"cidr": "10.0.0.1", "ports": [{"protocol": "tcp", "first": True, "last": 2}]},
    ],
)
def test_wrong_networks_are_refused_with_a_fix(attributes: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        checked_attributes(ResourceKind.NETWORK, attributes)
    assert caught.value.fix


def test_the_canonical_form_is_stable() -> None:
    once = checked_attributes(ResourceKind.NETWORK, {"cidr": "10.1.2.3", "ports": [{"protocol": "tcp", "first": 443}]})
    assert once == {"cidr": "10.1.2.3/32", "ports": [{"protocol": "tcp", "first": 443, "last": 443}]}
    assert checked_attributes(ResourceKind.NETWORK, once) == once


@given(st.text(max_size=80))
def test_a_name_is_kept_or_refused_never_changed(name: str) -> None:
    try:
        assert checked_name(name, ResourceKind.NETWORK) == name
    except Malformed:
        return
    assert name.isascii()
    assert 1 <= len(name) <= 63


def test_a_mount_cannot_shadow_the_vault_api() -> None:
    with pytest.raises(Malformed):
        checked_name("Sys", ResourceKind.VAULT)
    assert checked_name("sys", ResourceKind.NETWORK) == "sys"
