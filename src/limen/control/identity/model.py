"""People, groups, sessions and what the policy engine asks of them, as data."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limen.kernel.principal import Principal, Role

EVERYONE = "everyone"


class PersonState(StrEnum):
    """``invited`` until a credential is set; suspension is a block in the grants room, not a state here."""

    INVITED = "invited"
    ACTIVE = "active"
    REMOVED = "removed"


class SessionKind(StrEnum):
    """How the session's token travels."""

    COOKIE = "cookie"
    BEARER = "bearer"


class SignInMethod(StrEnum):
    """How the person proved who they are."""

    PASSWORD = "password"  # noqa: S105 - the name of a method


class EndReason(StrEnum):
    """Why a session ended; each is a cause that row I2 of the requirements names."""

    SIGN_OUT = "sign-out"
    ENDED_BY_PERSON = "ended-by-person"
    ENDED_BY_ADMIN = "ended-by-admin"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105 - a reason
    PASSWORD_RESET = "password-reset"  # noqa: S105 - a reason
    ROLE_CHANGED = "role-changed"
    PERSON_REMOVED = "person-removed"
    NOT_ADMITTED = "not-admitted"
    SUSPENDED = "suspended"


class TokenPurpose(StrEnum):
    """What a one-time token is for."""

    OWNER_SETUP = "owner-setup"
    PERSON_SETUP = "person-setup"
    PASSWORD_RESET = "password-reset"  # noqa: S105 - a purpose


@dataclass(frozen=True, slots=True)
class Invitation:
    """An unused one-time link, looked at."""

    tenant_id: UUID
    purpose: TokenPurpose


@dataclass(frozen=True, slots=True)
class Person:
    """A person of one tenant, opened for those allowed to see them."""

    id: UUID
    email: str
    name: str
    role: Role
    state: PersonState
    created_at: datetime


@dataclass(frozen=True, slots=True)
class InvitedPerson:
    """A new person with the token of their one-time set-up link (24 hours, shown once)."""

    person: Person
    setup_token: str


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of people; the built-in one, ``everyone``, holds every person without saying so."""

    id: UUID
    name: str
    builtin: bool
    created_at: datetime
    member_ids: frozenset[UUID] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class PersonFacts:
    """What a decision may rest on. ``groups`` always holds the tenant's ``everyone`` while the person is active.

    ``sign_in_method`` is that of the session asked about (``credential_id``): ``None`` when there is no such
    open session, for example because the credential is a vault token or a key.
    """

    person_id: UUID
    state: PersonState
    role: Role
    groups: frozenset[UUID]
    sign_in_method: SignInMethod | None = None

    @property
    def active(self) -> bool:
        """Whether the person may hold grants at all."""
        return self.state is PersonState.ACTIVE


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one person. ``source`` is an address in text, opened for those allowed to see it."""

    id: UUID
    person_id: UUID
    kind: SessionKind
    method: SignInMethod
    source: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """What a successful sign-in hands out: the token is shown once and never stored."""

    session_id: UUID
    tenant_id: UUID
    person_id: UUID
    kind: SessionKind
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class CheckedSession:
    """A session that is alive right now."""

    principal: Principal
    kind: SessionKind
    csrf_token: str = field(repr=False)
    expires_at: datetime
