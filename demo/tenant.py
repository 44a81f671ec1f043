"""One organisation of the demo: an owner who administers, a person who works, their group, and what they may reach."""

import secrets
from dataclasses import dataclass, field

from demo.api import Api

GROUP = "engineering"


@dataclass
class Tenant:
    """A tenant that was set up. ``owner`` and ``person`` are signed-in API clients."""

    slug: str
    owner: Api
    person: Api
    person_id: str
    person_email: str
    person_password: str = field(repr=False)
    group_id: str = ""
    resources: dict[str, str] = field(default_factory=dict)

    def sign_in(self) -> str:
        """Sign the person in once more; returns the session's token."""
        body = {"tenant": self.slug, "email": self.person_email, "password": self.person_password}
        token: str = self.person.as_bearer("").post("/sign-in", body)["token"]
        return token

    def add_resource(self, kind: str, name: str, **attributes: object) -> str:
        """Create a resource as the owner."""
        made = self.owner.post("/resources", {"kind": kind, "name": name, **attributes})
        self.resources[name] = made["id"]
        return str(made["id"])

    def allow(self, name: str, resource: str, *actions: str) -> None:
        """Let the group do ``actions`` on a resource."""
        self.owner.post(
            "/policies",
            {
                "name": name,
                "principals": [self.group_id],
                "resources": [self.resources[resource]],
                "actions": list(actions),
            },
        )


def found_tenant(operator: Api, slug: str, setup_token: str = "") -> Tenant:
    """Open a tenant as the operator (unless its owner's ``setup_token`` is here already), set up its owner, invite
    one person, and put them into a group."""
    anonymous = operator.as_bearer("")
    owner_password, person_password = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
    owner_email, person_email = f"owner@{slug}.example", f"ana@{slug}.example"
    token = setup_token or operator.post("/tenants", {"slug": slug, "name": slug.title()})["setup_token"]
    anonymous.post(
        "/setup",
        {"token": token, "email": owner_email, "name": "Olivia Owner", "password": owner_password},
    )
    owner = operator.as_bearer(_sign_in(anonymous, slug, owner_email, owner_password))
    invited = owner.post("/people", {"email": person_email, "name": "Ana Engineer"})
    anonymous.post("/setup", {"token": invited["setup_token"], "password": person_password})
    group = owner.post("/groups", {"name": GROUP})
    owner.post(f"/groups/{group['id']}/members/{invited['id']}")
    person = operator.as_bearer(_sign_in(anonymous, slug, person_email, person_password))
    return Tenant(slug, owner, person, invited["id"], person_email, person_password, group_id=group["id"])


def _sign_in(anonymous: Api, slug: str, email: str, password: str) -> str:
    token: str = anonymous.post("/sign-in", {"tenant": slug, "email": email, "password": password})["token"]
    return token
