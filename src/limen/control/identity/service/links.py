"""One-time links: the first owner's set-up, a new person's set-up, a password reset.

A link's token is ``ls1.<tenant hex>.<id hex>.<secret>``; the secret is 256 random bits, kept as a SHA-256 hash,
good for 24 hours and one use. Using it up is one statement, so of two racing uses one loses.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from limen.control.identity import rules
from limen.control.identity.errors import LinkUsed
from limen.control.identity.model import TokenPurpose
from limen.control.identity.store import people as store
from limen.db.database import Tx
from limen.kernel.ids import new_id

_TOKEN = re.compile(r"ls1\.([0-9a-f]{32})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Link:
    """A link's token, taken apart."""

    tenant_id: UUID
    id: UUID
    secret_hash: bytes = field(repr=False)


def parse(token: str) -> Link:
    """Take a token apart.

    Raises:
        LinkUsed: when it cannot be one.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise LinkUsed
    return Link(UUID(match[1]), UUID(match[2]), _hash(match[3]))


async def issue(tx: Tx, purpose: TokenPurpose, person_id: UUID | None, now: datetime) -> str:
    """Make a link; earlier unused ones of the same person are void. Returns its token, which is not kept."""
    await store.void_links(tx, person_id, now)
    link_id, secret = new_id(), secrets.token_urlsafe(32)
    await store.insert_link(tx, link_id, purpose, person_id, _hash(secret), now, now + rules.LINK_LIFETIME)
    return f"ls1.{tx.tenant_id.hex}.{link_id.hex}.{secret}"


async def use(tx: Tx, link: Link, now: datetime) -> store.LinkRow:
    """Use a link up.

    Raises:
        LinkUsed: when it is unknown, used, void or too old.
    """
    row = await store.use_link(tx, link.id, link.secret_hash, now)
    if row is None:
        raise LinkUsed
    return row


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
