"""Calls to the key custody daemon over its Unix socket: 4-byte big-endian length, then one JSON message.

One request, one reply, in order, per connection. keyd refuses a peer whose uid is not on its list
(SO_PEERCRED). No reply ever holds a key-encryption key or a tenant key. A peer that breaks the framing gets
one ``Failure`` and is cut off.
"""

from enum import StrEnum
from uuid import UUID

from limen.kernel.errors import Malformed
from limen.wire.codec import Message, Part, encode

MAX_FRAME_BYTES = 4 << 20
HEADER_BYTES = 4


class Purpose(StrEnum):
    """What a tenant's data key is for; a key of one purpose never serves another."""

    FIELDS = "fields"  # leased: sealed columns
    LOOKUP = "lookup"  # leased: HMAC of e-mail and network addresses
    SESSIONS = "sessions"  # leased: HMAC of session tokens
    VAULT = "vault"  # never leased: secret values are sealed and opened inside keyd
    STORAGE = "storage"  # never leased: bucket credentials, re-sealed to an enrolled agent only


class SigningPurpose(StrEnum):
    """What keyd signs (Ed25519); each purpose has its own key and its own domain-separation prefix."""

    AUDIT_CHECKPOINT = "audit-checkpoint"
    RECEIPT = "receipt"


class _Secret(Message, frozen=True):
    """A message that holds a key or a plaintext: it never shows itself."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class CreateTenant(Message, tag="create-tenant", frozen=True):
    """Make the tenant's keys. Idempotent. Reply: ``Done``."""

    tenant_id: UUID


class LeaseDataKey(Message, tag="lease-data-key", frozen=True):
    """Lend the data keys of a leasable purpose. Reply: ``DataKey``."""

    tenant_id: UUID
    purpose: Purpose


class RotateDataKey(Message, tag="rotate-data-key", frozen=True):
    """Make a new current key; the former ones still open what they sealed. Refused for ``lookup``, whose
    tags would no longer be found, and for ``sessions``. Reply: ``Done``."""

    tenant_id: UUID
    purpose: Purpose


class SealValue(_Secret, tag="seal-value", frozen=True):
    """Seal inside keyd under the purpose's current key. Reply: ``Blob``."""

    tenant_id: UUID
    purpose: Purpose
    table: str
    column: str
    row_id: UUID
    revision: int
    plaintext: bytes


class OpenValue(Message, tag="open-value", frozen=True):
    """Open a blob made by ``SealValue``; refused for purpose ``storage``. Reply: ``Plaintext``."""

    tenant_id: UUID
    purpose: Purpose
    table: str
    column: str
    row_id: UUID
    revision: int
    blob: bytes


class IntakeKey(Message, tag="intake-key", frozen=True):
    """The public HPKE key to which a user's tool seals storage credentials. Reply: ``PublicKey``."""

    tenant_id: UUID


class AcceptStorageCredential(Message, tag="accept-storage-credential", frozen=True):
    """Take a credential sealed to the intake key and seal it for storage. Reply: ``Blob``."""

    tenant_id: UUID
    connection_id: UUID
    sealed: bytes


class ResealStorageCredential(Message, tag="reseal-storage-credential", frozen=True):
    """Re-seal a stored credential to an enrolled file agent, bound to a grant. Reply: ``Blob``."""

    tenant_id: UUID
    connection_id: UUID
    grant_id: UUID
    agent_id: UUID
    blob: bytes


class EnrolAgent(Message, tag="enrol-agent", frozen=True):
    """Record an agent and issue its first certificate. ``tenant_id`` is None for platform agents.

    ``identity_key`` is DER SubjectPublicKeyInfo (EC P-256), ``sealing_key`` raw X25519. Reply:
    ``Certificate``.
    """

    agent_id: UUID
    tenant_id: UUID | None
    kind: str
    identity_key: bytes
    sealing_key: bytes


class RenewAgent(Message, tag="renew-agent", frozen=True):
    """A new certificate for the key on record. Reply: ``Certificate``."""

    agent_id: UUID


class RemoveAgent(Message, tag="remove-agent", frozen=True):
    """Forget an agent: no renewal, no re-sealing any more. Reply: ``Done``."""

    agent_id: UUID


class IssueServerCertificate(Message, tag="issue-server-certificate", frozen=True):
    """A certificate of the internal authority for the control plane's own key. Reply: ``Certificate``."""

    names: tuple[str, ...]
    identity_key: bytes


class AuthorityCertificates(Message, tag="authority-certificates", frozen=True):
    """The public roots. Reply: ``Authorities``."""


class Sign(Message, tag="sign", frozen=True):
    """Sign for a purpose. Reply: ``Signature``."""

    purpose: SigningPurpose
    data: bytes


class SigningKey(Message, tag="signing-key", frozen=True):
    """The public key of a purpose. Reply: ``PublicKey``."""

    purpose: SigningPurpose


class Health(Message, tag="health", frozen=True):
    """Is the key backend usable? Reply: ``Done`` or ``Failure``."""


class Done(Message, tag="done", frozen=True):
    """It is so."""


class FormerKey(Part, frozen=True):
    """A data key that is no longer used to seal."""

    key_id: bytes
    key: bytes

    def __repr__(self) -> str:
        return "FormerKey(...)"


class DataKey(_Secret, tag="data-key", frozen=True):
    """The current key of a purpose and its former ones; the holder forgets them after ``lease_seconds``."""

    key_id: bytes
    key: bytes
    lease_seconds: float
    former: tuple[FormerKey, ...] = ()


class Blob(Message, tag="blob", frozen=True):
    """Ciphertext."""

    blob: bytes


class Plaintext(_Secret, tag="plaintext", frozen=True):
    """What a vault value says."""

    plaintext: bytes


class PublicKey(Message, tag="public-key", frozen=True):
    """Raw public key (32 bytes: X25519 or Ed25519 by the question)."""

    key: bytes


class Certificate(Message, tag="certificate", frozen=True):
    """PEM chain, leaf first."""

    pem: bytes
    not_after: float


class Authorities(Message, tag="authorities", frozen=True):
    """PEM roots: who signs servers, who signs agents."""

    server_ca_pem: bytes
    agent_ca_pem: bytes


class Signature(Message, tag="signature", frozen=True):
    """Ed25519, 64 bytes."""

    signature: bytes


class Failure(Message, tag="failure", frozen=True):
    """Refused. ``code`` is the code of a kernel error."""

    code: str
    message: str
    fix: str = ""


Request = (
    CreateTenant
    | LeaseDataKey
    | RotateDataKey
    | SealValue
    | OpenValue
    | IntakeKey
    | AcceptStorageCredential
    | ResealStorageCredential
    | EnrolAgent
    | RenewAgent
    | RemoveAgent
    | IssueServerCertificate
    | AuthorityCertificates
    | Sign
    | SigningKey
    | Health
)
Reply = Done | DataKey | Blob | Plaintext | PublicKey | Certificate | Authorities | Signature | Failure


def frame(message: Request | Reply) -> bytes:
    """One message ready for the socket.

    Raises:
        Malformed: when it is longer than ``MAX_FRAME_BYTES``.
    """
    body = encode(message)
    check_length(len(body))
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def check_length(length: int) -> None:
    """Refuse a frame length before anything is read or sent.

    Raises:
        Malformed: unless ``0 < length <= MAX_FRAME_BYTES``.
    """
    if not 0 < length <= MAX_FRAME_BYTES:
        raise Malformed(
            f"a message to key custody may have at most {MAX_FRAME_BYTES >> 20} MiB",
            fix="store smaller values",
        )
