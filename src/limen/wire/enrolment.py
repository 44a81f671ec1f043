"""Enrolment of an agent: the one-time token as text, the HTTP bodies, the name in a certificate.

How an agent joins, in order:

1. A person (or, for platform agents, an operator) makes a one-time token. Its text carries the server's URL
   and the SHA-256 of the authorities file, so that a host needs nothing else.
2. The agent makes its keys, fetches ``AUTHORITIES_PATH`` without trusting the connection, compares the hash,
   and from then on trusts only these authorities.
3. It posts :class:`EnrolRequest` and gets :class:`Enrolled` with its certificate.
4. Certificates renew over the channel; one that ran out while the host was switched off renews by
   :class:`RenewRequest`, signed with the enrolled key.

Keys: ``identity_key`` is DER SubjectPublicKeyInfo of an EC P-256 key, ``sealing_key`` raw X25519 (32 bytes).
Signatures are ECDSA with SHA-256 in DER over ``*_statement``. Times are Unix seconds (float, UTC).
"""

import base64
import binascii
import hashlib
from uuid import UUID

from limen.kernel.errors import Malformed
from limen.wire.agent import AgentKind
from limen.wire.codec import Message, Part, decode, encode

AUTHORITIES_PATH = "/.well-known/limen-ca.pem"
ENROL_PATH = "/api/v1/agents/enrol"
RENEW_PATH = "/api/v1/agents/renew"
TOKEN_PREFIX = "le1."  # noqa: S105 (the public start of every token)
TOKEN_LIFETIME_SECONDS = 15 * 60
MAX_TOKEN_CHARACTERS = 4096
_URI_PREFIX = "limen://"
_PLATFORM = "platform"
_FIX = "copy the whole token, from 'le1.' to its end, or make a new one"


class EnrolmentToken(Part, frozen=True):
    """What a token text says. ``tenant_id`` is None for a platform agent; ``secret`` is 32 random bytes."""

    tenant_id: UUID | None
    token_id: UUID
    kind: AgentKind
    secret: bytes
    server: str
    authorities_sha256: bytes

    def text(self) -> str:
        """The token as a person copies it."""
        return TOKEN_PREFIX + base64.urlsafe_b64encode(encode(self)).decode().rstrip("=")

    @property
    def secret_hash(self) -> bytes:
        """What the control plane stores. A plain hash will do, since the secret is 256 random bits."""
        return hashlib.sha256(self.secret).digest()


def parse_token(text: str) -> EnrolmentToken:
    """Read a token text.

    Raises:
        Malformed: when it is cut off, altered, or no enrolment token at all.
    """
    text = text.strip()
    if not text.startswith(TOKEN_PREFIX) or len(text) > MAX_TOKEN_CHARACTERS:
        raise Malformed("this is not an enrolment token", fix=_FIX)
    body = text[len(TOKEN_PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        token: EnrolmentToken = decode(raw, EnrolmentToken)
    except (binascii.Error, ValueError, Malformed) as exc:
        raise Malformed("the enrolment token is damaged", fix=_FIX) from exc
    if len(token.secret) != 32 or len(token.authorities_sha256) != 32:
        raise Malformed("the enrolment token is damaged", fix=_FIX)
    if not token.server.startswith("https://"):
        raise Malformed("the enrolment token names a server that is not https", fix=_FIX)
    return token


class EnrolRequest(Message, tag="enrol", frozen=True):
    """Body of ``POST ENROL_PATH``. ``proof`` signs :func:`enrol_statement` with the identity key."""

    token: str
    kind: AgentKind
    identity_key: bytes
    sealing_key: bytes
    proof: bytes
    software: str
    now: float


class Enrolled(Message, tag="enrolled", frozen=True):
    """The answer: who the agent is now, its certificate (PEM chain, leaf first) and where its channel is."""

    agent_id: UUID
    tenant_id: UUID | None
    kind: AgentKind
    name: str
    certificate_pem: str
    not_after: float
    channel_url: str
    tunnel_address: str = ""


class RenewRequest(Message, tag="renew-request", frozen=True):
    """Body of ``POST RENEW_PATH``. ``proof`` signs :func:`renew_statement` with the identity key."""

    tenant_id: UUID | None
    agent_id: UUID
    identity_key: bytes
    proof: bytes
    now: float


class RenewedCertificate(Message, tag="renewed-certificate", frozen=True):
    """A fresh certificate for the enrolled key."""

    certificate_pem: str
    not_after: float


def enrol_statement(token_id: UUID, sealing_key: bytes) -> bytes:
    """What the identity key signs at enrolment; it ties the sealing key and this token to the key."""
    return b"limen-enrol-v1\x00" + token_id.bytes + sealing_key


def renew_statement(agent_id: UUID, now: float) -> bytes:
    """What the identity key signs to renew without a channel. ``now`` is rounded to the second."""
    return b"limen-renew-v1\x00" + agent_id.bytes + int(now).to_bytes(8, "big")


class CertifiedAgent(Part, frozen=True):
    """What an agent certificate says in its one URI name."""

    tenant_id: UUID | None
    agent_id: UUID
    kind: AgentKind


def agent_uri(agent: CertifiedAgent) -> str:
    """The URI subject alternative name: ``limen://<tenant or "platform">/<kind>/<agent>``."""
    return f"{_URI_PREFIX}{agent.tenant_id or _PLATFORM}/{agent.kind}/{agent.agent_id}"


def parse_agent_uri(uri: str) -> CertifiedAgent:
    """Read :func:`agent_uri` back.

    Raises:
        Malformed: for any other text.
    """
    parts = uri.removeprefix(_URI_PREFIX).split("/")
    if not uri.startswith(_URI_PREFIX) or len(parts) != 3:
        raise _not_an_agent()
    tenant, kind, agent = parts
    try:
        found = CertifiedAgent(
            tenant_id=None if tenant == _PLATFORM else UUID(tenant),
            agent_id=UUID(agent),
            kind=AgentKind(kind),
        )
    except ValueError as exc:
        raise _not_an_agent() from exc
    if agent_uri(found) != uri:  # one spelling only
        raise _not_an_agent()
    return found


def _not_an_agent() -> Malformed:
    return Malformed("the certificate names no Limen agent", fix="enrol this agent")
