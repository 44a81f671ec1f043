"""Vault tokens: their text form, their lifetimes, and whether one is good right now.

Text form: ``lv1.<tenant id, 32 hex>.<token id, 32 hex>.<secret, 43 base64url>``. The tenant stands in the token,
so that nothing is ever looked up across tenants; the secret is 256 random bits and only its SHA-256 is stored.

Lifetimes: a token expires ``ttl`` seconds after its creation or last renewal and never later than ``max_ttl``
seconds after its creation. A suspension of the subject ends its tokens for good: lifting it does not bring them
back, as it does not bring back sessions.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from limen.control.vault.errors import NotRenewable, TokenRefused
from limen.control.vault.model import Token
from limen.kernel.access import SubjectKind
from limen.kernel.errors import Malformed

_TEXT = re.compile(r"lv1\.([0-9a-f]{32})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")
SECRET_BYTES = 32
DEFAULT_TTL = 3600
MAX_TTL = {SubjectKind.PERSON: 86400, SubjectKind.WORKLOAD: 32 * 86400}
MAX_DISPLAY = 64


def text_form(tenant_id: UUID, token_id: UUID, secret: bytes) -> str:
    """The token as its holder sees it."""
    return f"lv1.{tenant_id.hex}.{token_id.hex}.{_encoded(secret)}"


def secret_digest(secret: bytes) -> bytes:
    """What is stored of a secret: the SHA-256 of its text form."""
    return hashlib.sha256(_encoded(secret).encode()).digest()


def parse(text: str) -> tuple[UUID, UUID, bytes]:
    """Tenant id, token id and secret digest of a presented token.

    Raises:
        TokenRefused: when it does not have the form of a token.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise TokenRefused
    tenant, token, secret = found.groups()
    return UUID(hex=tenant), UUID(hex=token), hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says about a presented token, read in one statement."""

    token: Token
    secret_hash: bytes
    tenant_active: bool
    subject_active: bool
    suspended: bool
    tenant_slug: str


def same_secret(standing: Standing, digest: bytes) -> bool:
    """Whether the presented secret is the token's, in constant time."""
    return hmac.compare_digest(standing.secret_hash, digest)


def check(standing: Standing, digest: bytes, now: datetime) -> Token:
    """Return the token when it is good at ``now``.

    Raises:
        TokenRefused: otherwise, without saying why.
    """
    token = standing.token
    good = (
        same_secret(standing, digest)
        and token.revoked_at is None
        and now < token.expires_at
        and standing.tenant_active
        and standing.subject_active
        and not standing.suspended
    )
    if not good:
        raise TokenRefused
    return token


def lifetimes(kind: SubjectKind, ttl: int | None, max_ttl: int | None) -> tuple[int, int]:
    """The ``ttl`` and ``max_ttl`` (seconds) of a new token, from what was asked for.

    Raises:
        Malformed: when one is not positive or above the limit of ``kind``, or ``ttl`` is above ``max_ttl``.
    """
    limit = MAX_TTL[kind]
    longest = limit if max_ttl is None else max_ttl
    first = min(DEFAULT_TTL, longest) if ttl is None else ttl
    if not 0 < first <= longest <= limit:
        raise Malformed(
            f"a {kind}'s token lives from 1 second to {limit} seconds, ttl not above max_ttl",
            fix="choose a shorter lifetime",
        )
    return first, longest


def renewed(token: Token, increment: int | None, now: datetime) -> Token:
    """The token after a renewal at ``now`` by ``increment`` seconds (its own ``ttl`` when None or 0).

    The end never passes ``max_ttl`` from the creation, and is capped silently as Vault does.

    Raises:
        NotRenewable: when the token is not renewable.
    """
    if not token.renewable:
        raise NotRenewable
    wanted = now + timedelta(seconds=increment or token.ttl)
    return replace(token, expires_at=min(wanted, token.created_at + timedelta(seconds=token.max_ttl)))


def remaining(token: Token, now: datetime) -> int:
    """Whole seconds that are left."""
    return max(0, int((token.expires_at - now).total_seconds()))


def checked_display(text: str) -> str:
    """A label for a token.

    Raises:
        Malformed: when it is longer than 64 characters or not printable.
    """
    if len(text) > MAX_DISPLAY or not text.isprintable():
        raise Malformed(f"a label has at most {MAX_DISPLAY} printable characters", fix="choose another label")
    return text


def _encoded(secret: bytes) -> str:
    return urlsafe_b64encode(secret).rstrip(b"=").decode()
