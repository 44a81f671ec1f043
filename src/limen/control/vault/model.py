"""Secrets, versions, tokens, workloads and passages as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limen.kernel.access import Action, SubjectKind
from limen.kernel.principal import Actor, ActorKind


class WorkloadState(StrEnum):
    """A removed workload stays on record; its tokens and grants end."""

    ACTIVE = "active"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Workload:
    """A program that can hold grants."""

    id: UUID
    name: str
    state: WorkloadState
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A vault token without its secret. ``ttl`` and ``max_ttl`` are seconds; ``max_ttl`` counts from creation."""

    tenant_id: UUID
    id: UUID
    accessor: str
    subject_kind: SubjectKind
    subject_id: UUID
    display: str
    created_at: datetime
    expires_at: datetime
    ttl: int
    max_ttl: int
    renewable: bool
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token; ``text`` is shown once and never stored."""

    token: Token
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as a request presented it, not yet believed. ``digest`` is the SHA-256 of its secret.

    ``namespace`` and ``host_label`` are the tenant's slug as header and host name give it; empty when they do not.
    """

    tenant_id: UUID
    id: UUID
    digest: bytes = field(repr=False)
    text: str = field(repr=False)
    source: str
    namespace: str
    host_label: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that was checked for this request, with the tenant's slug."""

    token: Token
    tenant_slug: str
    source: str
    text: str = field(repr=False)

    @property
    def actor(self) -> Actor:
        """The subject as the audit trail names it."""
        return Actor(ActorKind(self.token.subject_kind), self.token.subject_id, self.source)


@dataclass(frozen=True, slots=True)
class Passage:
    """One authorised request: who, which mount, which action, under which grant."""

    bearer: Bearer
    mount_id: UUID
    mount: str
    action: Action
    grant_id: UUID

    @property
    def tenant_id(self) -> UUID:
        """The tenant of the token, and so of everything that this passage reaches."""
        return self.bearer.token.tenant_id


@dataclass(frozen=True, slots=True)
class Mount:
    """A vault resource that the bearer can reach."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Head:
    """What a secret is, apart from its versions. ``delete_after`` is seconds, 0 for never."""

    current_version: int
    oldest_version: int
    max_versions: int
    cas_required: bool
    delete_after: int
    metadata_version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """The dates of one version."""

    number: int
    created_at: datetime
    deletion_time: datetime | None
    destroyed: bool

    def readable(self, now: datetime) -> bool:
        """Whether the value may be shown at ``now``."""
        return not self.destroyed and (self.deletion_time is None or self.deletion_time > now)


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """Settings to change; ``None`` leaves one as it is. An empty ``custom_metadata`` clears it.

    ``custom_patch`` changes single keys of the custom metadata instead; a key of value ``None`` is removed.
    """

    max_versions: int | None = None
    cas_required: bool | None = None
    delete_after: int | None = None
    custom_metadata: Mapping[str, str] | None = None
    custom_patch: Mapping[str, str | None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is to change."""
        return (
            self.max_versions is None
            and self.cas_required is None
            and self.delete_after is None
            and self.custom_metadata is None
            and self.custom_patch is None
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a write answers."""

    version: Version
    custom_metadata: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One version as read. ``value`` is the JSON text of the data, ``None`` when the version is not readable."""

    version: Version
    custom_metadata: Mapping[str, str] | None
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretMetadata:
    """A secret's settings and the dates of all its versions."""

    head: Head
    custom_metadata: Mapping[str, str] | None
    versions: tuple[Version, ...]
