"""Who is asking: principals of the HTTP doors, their permissions, and the actor written to the audit trail."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from limen.kernel.errors import Denied


class Role(StrEnum):
    """Roles of a person inside one tenant (least privilege: the default is ``member``)."""

    OWNER = "owner"
    ADMIN = "admin"
    AUDITOR = "auditor"
    MEMBER = "member"


class Permission(StrEnum):
    """What an API route asks for. Every route names exactly one."""

    PUBLIC = "public"  # no sign-in: health, sign-in itself, one-time set-up
    SELF = "self"  # any signed-in person, for their own things
    OPERATE_PLATFORM = "platform.operate"
    READ_DIRECTORY = "directory.read"
    MANAGE_DIRECTORY = "directory.manage"
    READ_AGENTS = "agents.read"
    MANAGE_AGENTS = "agents.manage"
    READ_RESOURCES = "resources.read"
    MANAGE_RESOURCES = "resources.manage"
    READ_POLICIES = "policies.read"
    MANAGE_POLICIES = "policies.manage"
    READ_GRANTS = "grants.read"
    REVOKE = "grants.revoke"
    READ_AUDIT = "audit.read"


_READ = frozenset(
    {
        Permission.SELF,
        Permission.READ_DIRECTORY,
        Permission.READ_AGENTS,
        Permission.READ_RESOURCES,
        Permission.READ_POLICIES,
        Permission.READ_GRANTS,
        Permission.READ_AUDIT,
    }
)
_MANAGE = _READ | {
    Permission.MANAGE_DIRECTORY,
    Permission.MANAGE_AGENTS,
    Permission.MANAGE_RESOURCES,
    Permission.MANAGE_POLICIES,
    Permission.REVOKE,
}
PERMISSIONS_OF_ROLE: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _MANAGE,
    Role.ADMIN: _MANAGE,
    Role.AUDITOR: _READ,
    Role.MEMBER: frozenset({Permission.SELF}),
}


class ActorKind(StrEnum):
    """Kinds of actors in the audit trail."""

    PERSON = "person"
    WORKLOAD = "workload"
    AGENT = "agent"
    OPERATOR = "operator"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it and from where. ``source`` is an IP address in text; it is sealed before it is stored."""

    kind: ActorKind
    id: UUID | None = None
    source: str = ""


SYSTEM = Actor(ActorKind.SYSTEM)


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in person (``tenant_id`` set) or a platform operator (``operator_id`` set)."""

    tenant_id: UUID | None
    person_id: UUID | None
    session_id: UUID | None
    role: Role | None
    source: str
    operator_id: UUID | None = None

    def may(self, permission: Permission) -> bool:
        """Whether this principal holds ``permission``; operators hold nothing inside a tenant."""
        if self.operator_id is not None:
            return permission is Permission.OPERATE_PLATFORM
        return self.role is not None and permission in PERMISSIONS_OF_ROLE[self.role]

    @property
    def actor(self) -> Actor:
        """The same principal as the audit trail names it."""
        if self.operator_id is not None:
            return Actor(ActorKind.OPERATOR, self.operator_id, self.source)
        return Actor(ActorKind.PERSON, self.person_id, self.source)


def tenant_of(who: Principal) -> UUID:
    """The caller's tenant.

    Raises:
        Denied: for a platform operator, who has none.
    """
    if who.tenant_id is None:
        raise Denied("platform operators cannot see inside a tenant", fix="sign in as a person of the tenant")
    return who.tenant_id
