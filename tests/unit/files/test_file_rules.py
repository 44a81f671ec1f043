"""What names, places, keys and networks of the files room may look like."""

from datetime import UTC, datetime, timedelta

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.files import rules
from limen.control.files.model import Place, Provider
from limen.kernel.access import ACTIONS_OF_KIND, ResourceKind
from limen.kernel.errors import Malformed


@given(st.binary(min_size=rules.SLUG_BYTES, max_size=rules.SLUG_BYTES))
def test_slugs_have_one_form(random: bytes) -> None:
    slug = rules.slug_of(random)
    assert len(slug) == rules.SLUG_CHARACTERS
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("name", ["ana", "a.b-c_9", "_x", "a" * 63])
def test_good_usernames(name: str) -> None:
    assert rules.checked_username(name) == name


@pytest.mark.parametrize("name", ["", "Ana", "a b", ".a", "-a", "a" * 64, "a\n", "ü", "a/b", "a\0"])
def test_bad_usernames(name: str) -> None:
    with pytest.raises(Malformed):
        rules.checked_username(name)


@pytest.mark.parametrize(("text", "expected"), [("", ""), ("/a//b/", "a/b"), ("grüße", "grüße")])
def test_prefixes_are_made_canonical(text: str, expected: str) -> None:
    assert rules.checked_prefix(text, "jail") == expected


@pytest.mark.parametrize("text", ["..", "a/../b", ".", "a\\b", "a\0", "a\nb", "x" * 256, "/".join(["y" * 100] * 6)])
def test_bad_prefixes(text: str) -> None:
    with pytest.raises(Malformed):
        rules.checked_prefix(text, "jail")


def test_places_are_made_canonical() -> None:
    place = rules.checked_place(Place(Provider.S3, "https://s3.example.com:9000/", "my-bucket", "eu-1", "/in/"))
    assert place == Place(Provider.S3, "https://s3.example.com:9000", "my-bucket", "eu-1", "in")
    assert rules.checked_place(Place(Provider.LOCAL, root="/a/")) == Place(Provider.LOCAL, root="a")


@pytest.mark.parametrize(
    "place",
    [
        Place(Provider.S3, bucket="ab"),
        Place(Provider.S3, bucket="a/b"),
        Place(Provider.S3, bucket="bucket", root="x"),
        Place(Provider.S3, "file:///etc/passwd", "bucket"),
        Place(Provider.S3, "https://user:pw@host", "bucket"),
        Place(Provider.S3, "https://host/path", "bucket"),
        Place(Provider.S3, "https://host?x=1", "bucket"),
        Place(Provider.S3, "https://host:99999", "bucket"),
        Place(Provider.S3, "https://", "bucket"),
        Place(Provider.S3, bucket="bucket", region="EU West"),
        Place(Provider.S3, bucket="bucket", prefix="../x"),
        Place(Provider.LOCAL),
        Place(Provider.LOCAL, root="../other"),
        Place(Provider.LOCAL, root="a", bucket="bucket"),
    ],
)
def test_bad_places(place: Place) -> None:
    with pytest.raises(Malformed):
        rules.checked_place(place)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa"])
def test_keys_and_fingerprints_agree_with_asyncssh(kind: str) -> None:
    options = {"key_size": 2048} if kind == "ssh-rsa" else {}
    key = asyncssh.generate_private_key(kind, comment="me@here", **options)
    line, fingerprint = rules.parsed_key(key.export_public_key("openssh").decode())
    assert line.split() == key.export_public_key("openssh").decode().split()[:2]
    assert fingerprint == key.get_fingerprint()


def test_weak_and_foreign_keys_are_refused() -> None:
    weak = asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_public_key("openssh").decode()
    good = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
    kind, body = good.split()[:2]
    for line in (weak, "", "ssh-ed25519", "ssh-dss AAAA", f"{kind} {body[:-8]}", f"ssh-rsa {body}", f"{kind} {body}!"):
        with pytest.raises(Malformed):
            rules.parsed_key(line)


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        rules.parsed_key(f"ssh-ed25519 {text}")


def test_sources() -> None:
    assert rules.checked_sources(["203.0.113.9/24", "2001:db8::/32"]) == ("2001:db8::/32", "203.0.113.0/24")
    assert rules.comes_from((), "anything")
    assert rules.comes_from(("203.0.113.0/24",), "203.0.113.77")
    assert rules.comes_from(("203.0.113.0/24",), "::ffff:203.0.113.77")
    assert not rules.comes_from(("203.0.113.0/24",), "203.0.114.1")
    assert not rules.comes_from(("203.0.113.0/24",), "2001:db8::1")
    assert not rules.comes_from(("203.0.113.0/24",), "not an address")
    for bad in (["x"], ["1.2.3.4/33"], ["10.0.0.0/8"] * 33):
        with pytest.raises(Malformed):
            rules.checked_sources(bad)


def test_actions() -> None:
    assert rules.checked_actions([]) == ACTIONS_OF_KIND[ResourceKind.BUCKET]
    assert {str(action) for action in rules.checked_actions(["read", "list"])} == {"read", "list"}
    with pytest.raises(Malformed):
        rules.checked_actions(["connect"])


def test_event_times_are_never_in_the_future_nor_too_old() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)

    def when(offset: float) -> datetime:
        return rules.event_time(now.timestamp() + offset, now, oldest_seconds=3600, skew_seconds=60)

    assert when(-10) == now - timedelta(seconds=10)
    assert when(30) == now
    assert when(500) == now
    assert when(-7200) == now
    assert rules.event_time(float("nan"), now, oldest_seconds=1, skew_seconds=1) == now


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300])
def test_moments_that_are_none(seconds: float) -> None:
    with pytest.raises(Malformed):
        rules.moment(seconds)
