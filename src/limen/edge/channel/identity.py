"""An agent's identity on disk: one directory of mode 0700, key files of mode 0600.

=====================  =================================================================
``agent.json``         who the agent is and where its channel is (:class:`AgentFile`)
``identity.key``       EC P-256 private key, PKCS#8 PEM; its SPKI hash is the agent's name
``sealing.key``        raw X25519 private key, 32 bytes; storage credentials are sealed to it
``cert.pem``           the certificate chain, leaf first; replaced at renewal
``ca.pem``             the authorities of the control plane, pinned by the token's hash
=====================  =================================================================

Files are written to a temporary name, synced and renamed, ``agent.json`` last: a directory without it is an
enrolment that did not finish, and is not an identity.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from limen.edge.channel.errors import BadIdentity
from limen.kernel.errors import Malformed
from limen.wire.agent import AgentKind
from limen.wire.codec import Part, decode, encode

AGENT_FILE = "agent.json"
IDENTITY_KEY = "identity.key"
SEALING_KEY = "sealing.key"
CERTIFICATE = "cert.pem"
AUTHORITIES = "ca.pem"

_ENROL = "enrol this agent again with a new token, into an empty state directory"


class AgentFile(Part, frozen=True):
    """What ``agent.json`` holds; nothing of it is secret."""

    agent_id: UUID
    tenant_id: UUID | None
    kind: AgentKind
    name: str
    server: str
    channel_url: str
    tunnel_address: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """A loaded identity. ``sealing_private_key`` is raw X25519; the TLS key is used by path and by signature."""

    directory: Path
    agent: AgentFile
    key: ec.EllipticCurvePrivateKey
    sealing_private_key: bytes

    @property
    def agent_id(self) -> UUID:
        """The agent's id."""
        return self.agent.agent_id

    @property
    def tenant_id(self) -> UUID | None:
        """The agent's tenant; None for a platform agent."""
        return self.agent.tenant_id

    @property
    def kind(self) -> AgentKind:
        """What the agent is."""
        return self.agent.kind

    @property
    def certificate_path(self) -> Path:
        """The certificate chain."""
        return self.directory / CERTIFICATE

    @property
    def key_path(self) -> Path:
        """The TLS private key."""
        return self.directory / IDENTITY_KEY

    @property
    def authorities_path(self) -> Path:
        """The authorities that this agent trusts."""
        return self.directory / AUTHORITIES

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo of the TLS key."""
        return spki(self.key)

    def sign(self, statement: bytes) -> bytes:
        """ECDSA with SHA-256, DER."""
        return self.key.sign(statement, ec.ECDSA(hashes.SHA256()))

    def certificate_life(self) -> tuple[float, float]:
        """(not before, not after) of the certificate on disk, Unix seconds.

        Raises:
            BadIdentity: when it cannot be read.
        """
        return certificate_life(self.certificate_path.read_bytes(), self.certificate_path)

    def replace_certificate(self, pem: bytes) -> None:
        """Put a renewed certificate in place; the key must be the same.

        Raises:
            BadIdentity: when it is not a certificate of this agent's key.
        """
        try:
            leaf = x509.load_pem_x509_certificate(pem)
        except ValueError as exc:
            raise BadIdentity("the renewed certificate cannot be read", fix=_ENROL) from exc
        if leaf.public_key() != self.key.public_key():
            raise BadIdentity("the renewed certificate is for another key", fix=_ENROL)
        write_private(self.certificate_path, pem)


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo of the public half."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate_life(pem: bytes, path: Path) -> tuple[float, float]:
    """(not before, not after) of the leaf in ``pem``, Unix seconds.

    Raises:
        BadIdentity: when it cannot be read.
    """
    try:
        leaf = x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise BadIdentity(f"{path} is not a certificate", fix=_ENROL) from exc
    return leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()


def prepare_directory(directory: Path) -> None:
    """Make the state directory, or take an existing one that holds no identity yet.

    Raises:
        BadIdentity: when it holds one, is no directory of ours, or cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (directory / AGENT_FILE).exists():
            raise BadIdentity(
                f"{directory} already holds the identity of an agent",
                fix="run that agent, or give another state directory (--state)",
            )
        if directory.stat().st_uid != os.geteuid():
            raise BadIdentity(f"{directory} belongs to another user", fix="give a directory of your own")
        directory.chmod(0o700)
    except OSError as exc:
        raise BadIdentity(
            f"cannot use {directory} as state directory: {exc.strerror}",
            fix="give a directory that this user may write to (--state)",
        ) from exc


def save_identity(
    directory: Path,
    agent: AgentFile,
    *,
    key: ec.EllipticCurvePrivateKey,
    sealing_private_key: bytes,
    certificate_pem: bytes,
    authorities_pem: bytes,
) -> Identity:
    """Write a fresh identity and return it.

    Raises:
        BadIdentity: when the directory cannot be written.
    """
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(directory / IDENTITY_KEY, pem)
    write_private(directory / SEALING_KEY, sealing_private_key)
    write_private(directory / CERTIFICATE, certificate_pem)
    write_private(directory / AUTHORITIES, authorities_pem)
    write_private(directory / AGENT_FILE, encode(agent))
    return Identity(directory, agent, key, sealing_private_key)


def load_identity(directory: Path) -> Identity:
    """Read the identity that :func:`enrol` left in ``directory``.

    Raises:
        BadIdentity: when there is none, a file is damaged, does not fit, or others may read a key.
    """
    agent_path = directory / AGENT_FILE
    try:
        agent: AgentFile = decode(agent_path.read_bytes(), AgentFile)
    except FileNotFoundError:
        raise BadIdentity(
            f"{directory} holds no agent yet", fix="enrol first: give a one-time token (--token)"
        ) from None
    except OSError as exc:
        raise BadIdentity(
            f"cannot read {agent_path}: {exc.strerror}", fix="run as the user who enrolled this agent"
        ) from exc
    except Malformed as exc:
        raise BadIdentity(f"{agent_path} is damaged", fix=_ENROL) from exc
    key = _load_key(_read_private(directory / IDENTITY_KEY), directory / IDENTITY_KEY)
    sealing = _read_private(directory / SEALING_KEY)
    if len(sealing) != 32:
        raise BadIdentity(f"{directory / SEALING_KEY} is damaged", fix=_ENROL)
    certificate = _read(directory / CERTIFICATE)
    certificate_life(certificate, directory / CERTIFICATE)
    if x509.load_pem_x509_certificate(certificate).public_key() != key.public_key():
        raise BadIdentity(f"certificate and key in {directory} do not belong together", fix=_ENROL)
    _read(directory / AUTHORITIES)
    return Identity(directory, agent, key, sealing)


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` atomically by a file of mode 0600.

    Raises:
        BadIdentity: when that fails; the former file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise BadIdentity(
            f"cannot write {path}: {exc.strerror}", fix="make the state directory writable and not full"
        ) from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadIdentity(f"cannot read {path}: {exc.strerror}", fix=_ENROL) from exc


def _read_private(path: Path) -> bytes:
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise BadIdentity(
            f"others may read the key {path}", fix=f"chmod 600 {path}, and enrol again if anyone could have"
        )
    return data


def _load_key(pem: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as exc:
        raise BadIdentity(f"the key {path} is damaged", fix=_ENROL) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadIdentity(f"the key {path} is not an EC P-256 key", fix=_ENROL)
    return key
