"""Deciding once which authority a server's certificate must come from.

A server that the system's authorities vouch for needs nothing. Otherwise the server's own file of authorities
(``/.well-known/limen-ca.pem``) is fetched over a connection that nobody vouches for, and taken only after a person
has compared its fingerprints, or if it holds the certificate that was pinned with ``--fingerprint``. From then on
only that authority is believed.
"""

import hashlib
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from limen.cli.api import Api, Target, not_limen, said_plainly
from limen.cli.errors import CliError, UntrustedServer, UsageError
from limen.cli.loopback import LoopbackTransport, is_loopback_name
from limen.wire.enrolment import AUTHORITIES_PATH

MAX_AUTHORITY_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate of an authority; ``fingerprint`` is the SHA-256 of its DER form, in hex."""

    pem: bytes
    fingerprint: str

    @property
    def shown(self) -> str:
        """The fingerprint as ``openssl x509 -fingerprint -sha256`` prints it."""
        return ":".join(self.fingerprint[index : index + 2].upper() for index in range(0, 64, 2))


def vouched_for_by_system(server: str) -> bool:
    """Whether the authorities of this machine vouch for the server.

    Raises:
        CliError: when the server cannot be reached at all.
    """
    try:
        with Api(Target(server)) as api:
            api.health()
    except UntrustedServer:
        return False
    return True


def fetch_authorities(server: str) -> list[Authority]:
    """What the server says its authorities are. Nothing is proven by that.

    Raises:
        CliError: when it says nothing of the kind.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    inner = httpx.HTTPTransport(verify=context)
    local = is_loopback_name(urlsplit(server).hostname or "")
    transport = LoopbackTransport(inner) if local else None
    with (
        said_plainly(server),
        httpx.Client(base_url=server, verify=context, transport=transport, timeout=_TIMEOUT_SECONDS) as client,
        client.stream("GET", AUTHORITIES_PATH) as answer,
    ):
        if answer.status_code != 200:
            raise not_limen(server)
        body = b""
        for block in answer.iter_bytes():
            body += block
            if len(body) > MAX_AUTHORITY_BYTES:
                raise not_limen(server)
    try:
        return parse_authorities(body)
    except ValueError:
        raise not_limen(server) from None


def parse_authorities(pem: bytes) -> list[Authority]:
    """The certificates in a PEM file.

    Raises:
        ValueError: when there is none, or one is broken.
    """
    found = []
    for certificate in x509.load_pem_x509_certificates(pem):
        der = certificate.public_bytes(Encoding.DER)
        found.append(Authority(certificate.public_bytes(Encoding.PEM), hashlib.sha256(der).hexdigest()))
    return found


def pinned(authorities: list[Authority], fingerprint: str) -> Authority:
    """The one certificate with this fingerprint; the others that came along are not taken.

    Raises:
        CliError: when there is none.
    """
    wanted = re.sub(r"[:\s]", "", fingerprint).lower().removeprefix("sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise UsageError("--fingerprint is not a SHA-256 in hex", fix="copy all 64 digits")
    for authority in authorities:
        if authority.fingerprint == wanted:
            return authority
    raise CliError(
        "the server's authority has another fingerprint than the one given",
        fix="compare it with ca.pem on the server; somebody may be in between",
    )
