"""What a slug, a tenant's name and an operator's token look like. Pure."""

import hashlib
import hmac
import re
import unicodedata
from uuid import UUID

from limen.kernel.errors import Malformed, Unauthenticated

_SLUG = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,38}[a-z0-9]")
# Labels that the platform itself may want as a host name, or that would deceive a person reading a URL.
RESERVED_SLUGS = frozenset(
    {"admin", "agents", "api", "app", "auth", "console", "docs", "limen", "login", "mail", "operator", "platform"}
    | {"security", "sso", "static", "status", "support", "vault", "www"}
)
MAX_NAME = 120
_TOKEN = re.compile(r"lo1\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


def check_slug(slug: str) -> str:
    """Return ``slug`` if it can be a tenant's host label.

    Raises:
        Malformed: when it is not a lower-case DNS label of 2 to 40 characters, or is reserved.
    """
    if not _SLUG.fullmatch(slug):
        raise Malformed(
            "slug must be 2 to 40 characters: lower-case letters, digits and single hyphens, starting with a letter",
            fix="choose a short name such as 'acme' or 'acme-labs'",
        )
    if slug in RESERVED_SLUGS:
        raise Malformed("this slug is reserved for the platform", fix="choose another one")
    return slug


def is_slug(text: str) -> bool:
    """Whether a tenant could have this slug; what strangers send is asked before it reaches the database."""
    return _SLUG.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Normalise a tenant's display name (NFC, trimmed).

    Raises:
        Malformed: when it is empty, longer than 120 characters or holds control characters.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not clean or len(clean) > MAX_NAME or any(unicodedata.category(c) in {"Cc", "Cf"} for c in clean):
        raise Malformed(f"name must be 1 to {MAX_NAME} printable characters", fix="shorten it")
    return clean


def operator_token(operator_id: UUID, secret: str) -> str:
    """The text form ``lo1.<id hex>.<secret>``."""
    return f"lo1.{operator_id.hex}.{secret}"


def parse_operator_token(token: str) -> tuple[UUID, str]:
    """Split an operator's token into id and secret.

    Raises:
        Unauthenticated: when it is not of that form.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Unauthenticated("the operator token is not valid", fix="use the token that 'limen up' printed")
    return UUID(match[1]), match[2]


def hash_secret(secret: str) -> bytes:
    """SHA-256 of a 256-bit random secret; a slow hash is needed only for what people choose."""
    return hashlib.sha256(secret.encode()).digest()


def check_secret(secret: str, expected: bytes) -> None:
    """Compare in constant time.

    Raises:
        Unauthenticated: when the secret is another one.
    """
    if not hmac.compare_digest(hash_secret(secret), expected):
        raise Unauthenticated("the operator token is not valid", fix="use the token that 'limen up' printed")
