"""Calls to the key custody daemon over its Unix socket: 4-byte big-endian length, then one JSON message.

One request, one reply, in order, per connection. keyd refuses a peer whose uid is not on its list
(SO_PEERCRED). No reply ever holds a key-encryption key or a tenant key.
"""

from enum import StrEnum
from uuid import UUID

from limen.wire.codec import Message

MAX_FRAME_BYTES = 4 << 20


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


class CreateTenant(Message, tag="create-tenant"):
    """Make the tenant's keys. Idempotent. Reply: ``Done``."""

    tenant_id: UUID


class LeaseDataKey(Message, tag="lease-data-key"):
    """Lend a data key of a leasable purpose; with ``key_id`` an older one, to read. Reply: ``DataKey``."""

    tenant_id: UUID
    purpose: Purpose
    key_id: bytes = b""


class SealValue(Message, tag="seal-value"):
    """Seal inside keyd under the purpose's current key. Reply: ``Blob``."""

    tenant_id: UUID
    purpose: Purpose
    table: str
    column: str
    row_id: UUID
    revision: int
    plaintext: bytes


class OpenValue(Message, tag="open-value"):
    """Open a blob made by ``SealValue``; refused for purpose ``storage``. Reply: ``Plaintext``."""

    tenant_id: UUID
    purpose: Purpose
    table: str
    column: str
    row_id: UUID
    revision: int
    blob: bytes


class IntakeKey(Message, tag="intake-key"):
    """The public HPKE key to which a user's tool seals storage credentials. Reply: ``PublicKey``."""

    tenant_id: UUID


class AcceptStorageCredential(Message, tag="accept-storage-credential"):
    """Take a credential sealed to the intake key and seal it for storage. Reply: ``Blob``."""

    tenant_id: UUID
    connection_id: UUID
    sealed: bytes


class ResealStorageCredential(Message, tag="reseal-storage-credential"):
    """Re-seal a stored credential to an enrolled file agent, bound to a grant. Reply: ``Blob``."""

    tenant_id: UUID
    connection_id: UUID
    grant_id: UUID
    agent_id: UUID
    blob: bytes


class EnrolAgent(Message, tag="enrol-agent"):
    """Record an agent and issue its first certificate. ``tenant_id`` is None for platform agents.

    ``identity_key`` is DER SubjectPublicKeyInfo (EC P-256), ``sealing_key`` raw X25519. Reply:
    ``Certificate``.
    """

    agent_id: UUID
    tenant_id: UUID | None
    kind: str
    identity_key: bytes
    sealing_key: bytes


class RenewAgent(Message, tag="renew-agent"):
    """A new certificate for the key on record. Reply: ``Certificate``."""

    agent_id: UUID


class RemoveAgent(Message, tag="remove-agent"):
    """Forget an agent: no renewal, no re-sealing any more. Reply: ``Done``."""

    agent_id: UUID


class IssueServerCertificate(Message, tag="issue-server-certificate"):
    """A certificate of the internal authority for the control plane's own key. Reply: ``Certificate``."""

    names: tuple[str, ...]
    identity_key: bytes


class AuthorityCertificates(Message, tag="authority-certificates"):
    """The public roots. Reply: ``Authorities``."""


class Sign(Message, tag="sign"):
    """Sign for a purpose. Reply: ``Signature``."""

    purpose: SigningPurpose
    data: bytes


class SigningKey(Message, tag="signing-key"):
    """The public key of a purpose. Reply: ``PublicKey``."""

    purpose: SigningPurpose


class Health(Message, tag="health"):
    """Is the key backend usable? Reply: ``Done`` or ``Failure``."""


class Done(Message, tag="done"):
    """It is so."""


class DataKey(Message, tag="data-key"):
    """A leased key; the holder forgets it after ``lease_seconds``."""

    key_id: bytes
    key: bytes
    lease_seconds: float


class Blob(Message, tag="blob"):
    """Ciphertext."""

    blob: bytes


class Plaintext(Message, tag="plaintext"):
    """What a vault value says."""

    plaintext: bytes


class PublicKey(Message, tag="public-key"):
    """Raw public key (32 bytes: X25519 or Ed25519 by the question)."""

    key: bytes


class Certificate(Message, tag="certificate"):
    """PEM chain, leaf first."""

    pem: bytes
    not_after: float


class Authorities(Message, tag="authorities"):
    """PEM roots: who signs servers, who signs agents."""

    server_ca_pem: bytes
    agent_ca_pem: bytes


class Signature(Message, tag="signature"):
    """Ed25519, 64 bytes."""

    signature: bytes


class Failure(Message, tag="failure"):
    """Refused. ``code`` is the code of a kernel error."""

    code: str
    message: str
    fix: str = ""


Request = (
    CreateTenant
    | LeaseDataKey
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
