"""Reading what agents present: certificates from the TLS layer, public keys and proofs from HTTP bodies."""

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from limen.control.devices.errors import WrongKey
from limen.control.devices.model import PeerCertificate
from limen.crypto import sealing
from limen.kernel.errors import LimenError, Malformed
from limen.wire.enrolment import parse_agent_uri

MAX_KEY_BYTES = 256
_FIX = "use the agent of Limen to enrol"


def peer_certificate(der: bytes) -> PeerCertificate:
    """Read the certificate of a peer. That our authority signed it, the TLS layer has checked.

    Raises:
        Malformed: when it does not name exactly one agent.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, x509.ExtensionNotFound) as exc:
        raise Malformed("the certificate cannot be read", fix="enrol this agent") from exc
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or len(list(names)) != 1:
        raise Malformed("the certificate names no Limen agent", fix="enrol this agent")
    agent = parse_agent_uri(uris[0])
    return PeerCertificate(
        tenant_id=agent.tenant_id,
        agent_id=agent.agent_id,
        kind=agent.kind,
        spki_sha256=sha256(spki).digest(),
        not_after=certificate.not_valid_after_utc,
    )


def check_proof(identity_key: bytes, proof: bytes, statement: bytes) -> None:
    """Check that the sender holds the private key of ``identity_key`` and signed ``statement`` with it.

    Raises:
        WrongKey: when the key is no EC P-256 key in its one DER form, or the signature does not fit.
    """
    try:
        key = load_der_public_key(identity_key) if len(identity_key) <= MAX_KEY_BYTES else None
    except ValueError as exc:
        raise WrongKey("the identity key cannot be read", fix=_FIX) from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongKey("the identity key is not an EC P-256 key", fix=_FIX)
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != identity_key:
        # A second spelling would have a second hash, and the pin compares hashes.
        raise WrongKey("the identity key is not in canonical form", fix=_FIX)
    try:
        key.verify(proof, statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as exc:
        raise WrongKey("the identity key did not sign this request", fix=_FIX) from exc


def check_sealing_key(sealing_key: bytes) -> None:
    """Check that something can be sealed to ``sealing_key``.

    Raises:
        WrongKey: when it is no usable raw X25519 key.
    """
    try:
        sealing.check_public_key(sealing_key)
    except LimenError as exc:
        raise WrongKey("the sealing key is not an X25519 key", fix=_FIX) from exc
