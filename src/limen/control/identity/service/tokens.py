"""Session tokens (HS256 JWT, RFC 7519) and the CSRF token bound to each.

A token says which session of which tenant it is, nothing about rights: role and state are read from the
database at every use. ``kid`` names the tenant's key, so keys can change while sessions live on.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from limen.control.identity.errors import SessionEnded
from limen.control.identity.model import SessionKind
from limen.control.identity.ports import SessionKey, SessionKeys
from limen.kernel.errors import Unauthenticated

ISSUER = "limen"
MAX_TOKEN = 2048
_CSRF_LABEL = b"limen csrf v1\0"
_AUDIENCE = {SessionKind.COOKIE: "limen-browser", SessionKind.BEARER: "limen-api"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    tenant_id: UUID
    session_id: UUID
    person_id: UUID
    kind: SessionKind
    expires_at: datetime


def issue(key: SessionKey, claims: Claims, now: datetime) -> str:
    """Sign a token."""
    header = {"alg": "HS256", "typ": "JWT", "kid": key.key_id.hex()}
    payload = {
        "iss": ISSUER,
        "aud": _AUDIENCE[claims.kind],
        "sub": str(claims.person_id),
        "sid": str(claims.session_id),
        "tid": str(claims.tenant_id),
        "iat": int(now.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
    }
    return jwt.encode(header, payload, OctKey.import_key(key.key), algorithms=["HS256"])


async def verify(keys: SessionKeys, token: str, now: datetime) -> tuple[Claims, SessionKey]:
    """Check signature, issuer, audience and time; return what the token says and the key it was signed with.

    Raises:
        Unauthenticated: when the token is not one of ours.
        SessionEnded: when its time is over.
        Unavailable: when the key cannot be had.
    """
    tenant_id, key_id = _peek(token)
    key = await keys.by_id(tenant_id, key_id)
    if key is None:
        raise _not_ours()
    try:
        claims = jwt.decode(token, OctKey.import_key(key.key), algorithms=["HS256"]).claims
        kind = {audience: kind for kind, audience in _AUDIENCE.items()}[claims["aud"]]
        checked = Claims(
            tenant_id=UUID(claims["tid"]),
            session_id=UUID(claims["sid"]),
            person_id=UUID(claims["sub"]),
            kind=kind,
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )
        if claims["iss"] != ISSUER or checked.tenant_id != tenant_id:
            raise _not_ours()
    except (JoseError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as exc:
        raise _not_ours() from exc
    if checked.expires_at <= now:
        raise SessionEnded
    return checked, key


def csrf_token(key: SessionKey, session_id: UUID) -> str:
    """The token a browser must repeat in ``X-CSRF-Token``: an HMAC, so that no other site can know it."""
    digest = hmac.new(key.key, _CSRF_LABEL + session_id.bytes, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _peek(token: str) -> tuple[UUID, bytes]:
    """Read tenant and key id, which say how to verify; nothing else of an unverified token is looked at."""
    if len(token) > MAX_TOKEN or token.count(".") != 2:
        raise _not_ours()
    header, payload, _ = token.split(".")
    try:
        return UUID(_part(payload)["tid"]), bytes.fromhex(_part(header)["kid"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise _not_ours() from exc


def _part(text: str) -> dict[str, str]:
    try:
        part = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, UnicodeError) as exc:
        raise ValueError("not base64url") from exc
    if not isinstance(part, dict):
        raise TypeError("not an object")
    return part


def _not_ours() -> Unauthenticated:
    return Unauthenticated("the session token is not valid", fix="sign in again (limen login)")
