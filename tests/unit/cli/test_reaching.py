"""Servers' addresses, loopback names, and what their authorities are."""

import contextlib
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from limen.cli.api import server_url
from limen.cli.errors import CliError, UsageError
from limen.cli.loopback import LoopbackTransport, is_loopback_name
from limen.cli.trust import parse_authorities, pinned


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://limen.example", "https://limen.example"),
        ("https://Limen.Example:8443/", "https://limen.example:8443"),
        ("limen.example:8443", "https://limen.example:8443"),
        (" https://[::1]:8443 ", "https://[::1]:8443"),
    ],
)
def test_server_urls(text: str, url: str) -> None:
    assert server_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://limen.example",
        "ftp://x",
        "https://",
        "https://x:99999",
        "https://x:y",
        "https://u:p@x",
        "https://x/path",
        "https://x?q",
        "https://x#f",
        "https://[::1",
        "",
    ],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(UsageError):
        server_url(text)


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert server_url(text).startswith("https://")


def test_loopback_names() -> None:
    assert all(map(is_loopback_name, ("localhost", "home.localhost", "LOCALHOST.", "a.b.localhost")))
    assert not any(map(is_loopback_name, ("localhost.example", "xlocalhost", "127.0.0.1", "")))


class Wire(httpx.BaseTransport):
    """Records where requests went; refuses the addresses it was told to."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.seen: list[tuple[str, str, object]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.url.host, request.headers["host"], request.extensions.get("sni_hostname")))
        if request.url.host in self.refused:
            raise httpx.ConnectError(f"refused by {request.url.host}")
        return httpx.Response(200)


def test_loopback_names_need_no_resolver() -> None:
    wire = Wire()
    httpx.Client(transport=LoopbackTransport(wire)).get("https://home.localhost:8443/x")
    assert wire.seen == [("127.0.0.1", "home.localhost:8443", "localhost")]


def test_ipv6_is_tried_when_ipv4_refuses() -> None:
    wire = Wire("127.0.0.1")
    assert httpx.Client(transport=LoopbackTransport(wire)).get("https://localhost/").status_code == 200
    assert [seen[0] for seen in wire.seen] == ["127.0.0.1", "::1"]
    with pytest.raises(httpx.ConnectError, match=r"refused by 127\.0\.0\.1"):
        httpx.Client(transport=LoopbackTransport(Wire("127.0.0.1", "::1"))).get("https://localhost/")


def test_other_names_are_left_alone() -> None:
    wire = Wire()
    httpx.Client(transport=LoopbackTransport(wire)).get("https://limen.example/")
    assert wire.seen == [("limen.example", "limen.example", None)]


def certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_only_the_pinned_certificate_is_taken() -> None:
    good, smuggled = certificate("good"), certificate("smuggled")
    authorities = parse_authorities(smuggled + good)
    der_hash = x509.load_pem_x509_certificate(good).fingerprint(SHA256()).hex()
    for written in (der_hash, der_hash.upper(), authorities[1].shown, f"SHA256:{authorities[1].shown}"):
        assert pinned(authorities, written).pem == good


def test_another_fingerprint_is_not_taken() -> None:
    authorities = parse_authorities(certificate("one"))
    with pytest.raises(CliError, match="another fingerprint"):
        pinned(authorities, "00" * 32)
    for text in ("", "00", "zz" * 32, "00" * 33):
        with pytest.raises(UsageError):
            pinned(authorities, text)


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_what_is_no_authority(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_authorities(pem)
