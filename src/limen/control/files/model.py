"""Connections, SFTP users and keys as values."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limen.kernel.access import Action


class Provider(StrEnum):
    """Where a connection leads."""

    S3 = "s3"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a connection. S3: ``bucket``, ``endpoint`` (empty for AWS), ``region``; local: ``root``.

    ``prefix`` bounds the connection within its bucket or folder.
    """

    provider: Provider
    endpoint: str = ""
    bucket: str = ""
    region: str = ""
    prefix: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection. ``name`` is its resource's; the sealed credential stays in the store."""

    tenant_id: UUID
    id: UUID
    name: str
    slug: str
    place: Place
    has_credential: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SftpUser:
    """A person's way into one connection. ``sources`` are the networks its password may come from (empty: any)."""

    tenant_id: UUID
    id: UUID
    connection_id: UUID
    person_id: UUID
    username: str
    jail: str
    actions: frozenset[Action]
    sources: tuple[str, ...]
    created_at: datetime
    password_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public key of an SFTP user: OpenSSH one-line form without comment, SHA-256 fingerprint."""

    tenant_id: UUID
    id: UUID
    user_id: UUID
    public_key: str
    fingerprint: str
    sources: tuple[str, ...]
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Located:
    """What a slug stands for."""

    tenant_id: UUID
    connection_id: UUID


@dataclass(frozen=True, slots=True)
class SignInClaim:
    """Who an SSH client says it is, and how it would prove it: exactly one of password and key is set."""

    slug: str
    username: str
    source: str
    password: str = field(default="", repr=False)
    public_key: str = ""
    probe: bool = False
