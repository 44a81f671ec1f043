"""Two certificate authorities (RFC 5280, EC P-256): one certifies the control plane's servers, one the
agents.

Rules:

1. An authority's key is made at first start, wrapped by the key backend, and never leaves keyd.
2. A certificate is valid from two hours before it was issued, so that an agent whose clock is an hour slow
   still gets through the handshake and can be told about its clock in words.
3. An agent's certificate says who it is in one URI: ``limen://<tenant id or "platform">/<kind>/<agent
   id>``. It lasts a day and is only good for clients; a server's lasts 90 days and is only good for
   servers.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from limen.crypto.errors import BadKey, Unreadable
from limen.kernel.errors import Malformed
from limen.keyd.errors import KeystoreDamaged
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.keyd.rootkeys import RootKey, RootKeys

AUTHORITY_LIFETIME = timedelta(days=3650)
AGENT_LIFETIME = timedelta(hours=24)
SERVER_LIFETIME = timedelta(days=90)
BACKDATED = timedelta(hours=2)
MAX_NAMES = 64

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class AuthorityKind(StrEnum):
    """Which of the two."""

    SERVER = "server"
    AGENT = "agent"


class AuthorityRecord(Record, frozen=True, kw_only=True):
    """An authority as the keystore holds it: the private key (PKCS #8 DER) wrapped, the certificate in PEM."""

    root: RootKey
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate chain in PEM, leaf first, and when the leaf ends."""

    pem: bytes
    not_after: datetime


class Authority:
    """One unwrapped authority."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    async def load(cls, kind: AuthorityKind, keystore: Keystore, roots: RootKeys, now: datetime) -> "Authority":
        """Read the authority; make it when there is none yet.

        Raises:
            KeystoreDamaged: when there is one that cannot be opened.
        """
        name, slot = f"authority-{kind}", f"authority:{kind}"
        record = keystore.read(Shelf.PLATFORM, name, AuthorityRecord)
        if record is None:
            made = cls._make(kind, now)
            root = await roots.wrap(None, slot, _pkcs8(made._key))
            keystore.write(Shelf.PLATFORM, name, AuthorityRecord(root=root, certificate=made.certificate_pem()))
            return made
        try:
            key = serialization.load_der_private_key(await roots.unwrap(None, slot, record.root), None)
            certificate = x509.load_pem_x509_certificate(record.certificate)
        except (Unreadable, ValueError):
            raise KeystoreDamaged(f"platform/{name}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise KeystoreDamaged(f"platform/{name}")
        root = await roots.refresh(None, slot, record.root)
        if root is not record.root:
            keystore.write(Shelf.PLATFORM, name, AuthorityRecord(root=root, certificate=record.certificate))
        return cls(certificate, key)

    def certificate_pem(self) -> bytes:
        """The authority's own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue_agent(
        self, tenant_id: UUID | None, kind: str, agent_id: UUID, identity_key: bytes, now: datetime
    ) -> Issued:
        """A client certificate for an agent's key (DER SubjectPublicKeyInfo).

        Raises:
            BadKey: when the key is not EC P-256.
        """
        uri = f"limen://{tenant_id or 'platform'}/{kind}/{agent_id}"
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(str(agent_id), names, usage, identity_key, now, AGENT_LIFETIME)

    def issue_server(self, names: tuple[str, ...], identity_key: bytes, now: datetime) -> Issued:
        """A server certificate for DNS names (``*.`` at most in front) and IP addresses.

        Raises:
            Malformed: on a name that is neither, no name, or more than ``MAX_NAMES``.
            BadKey: when the key is not EC P-256.
        """
        if not 0 < len(names) <= MAX_NAMES:
            raise Malformed(f"a server certificate has 1 to {MAX_NAMES} names", fix="name the server's hosts")
        alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue("limen", alternative, usage, identity_key, now, SERVER_LIFETIME)

    def _issue(
        self,
        common_name: str,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        identity_key: bytes,
        now: datetime,
        lifetime: timedelta,
    ) -> Issued:
        public = p256_key(identity_key)
        not_after = min(now + lifetime, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        pem = leaf.public_bytes(serialization.Encoding.PEM) + self.certificate_pem()
        return Issued(pem, leaf.not_valid_after_utc)

    @classmethod
    def _make(cls, kind: AuthorityKind, now: datetime) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        # The serial part keeps two installations apart in a tool that looks authorities up by name.
        serial = x509.random_serial_number()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Limen {kind} authority {serial % 16**8:08x}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(now - 12 * BACKDATED)
            .not_valid_after(now + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)


def p256_key(identity_key: bytes) -> ec.EllipticCurvePublicKey:
    """Parse DER SubjectPublicKeyInfo.

    Raises:
        BadKey: when it is not an EC P-256 key.
    """
    try:
        key = serialization.load_der_public_key(identity_key)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey("an identity key is an EC P-256 public key (DER)", fix="make a new P-256 key")
    return key


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    host = name.lower().removeprefix("*.")
    if len(name) > 253 or not host or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise Malformed(
            f"{name!r} is neither a host name nor an IP address", fix="give names such as limen.example.org"
        )
    return x509.DNSName(name.lower())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
