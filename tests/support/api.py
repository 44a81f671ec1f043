"""The HTTP shell with routes and credentials that a test makes up, without a database or a socket."""

from dataclasses import dataclass, field

import httpx
from starlette.types import ASGIApp

from limen.api.access import Authenticated
from limen.control.identity.model import SessionKind
from limen.kernel.errors import LimenError, Unauthenticated
from limen.kernel.principal import Principal


@dataclass
class FixedAuthenticator:
    """``api.access.Authenticator`` with a table of credentials; an error in the table is raised."""

    known: dict[str, Authenticated | LimenError] = field(default_factory=dict)
    slugs: dict[str, object] = field(default_factory=dict)
    asked: list[tuple[str, SessionKind, str]] = field(default_factory=list)

    async def authenticate(self, credential: str, kind: SessionKind, source: str) -> Authenticated:
        """Look up."""
        self.asked.append((credential, kind, source))
        answer = self.known.get(credential, Unauthenticated("unknown credential"))
        if isinstance(answer, LimenError):
            raise answer
        return answer

    async def belongs_to(self, principal: Principal, slug: str) -> bool:
        """By the table of slugs."""
        return principal.tenant_id is not None and self.slugs.get(slug) == principal.tenant_id


def client_of(app: ASGIApp, host: str = "limen.test", source: str = "203.0.113.7") -> httpx.AsyncClient:
    """An HTTP client of an application, without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(source, 40000))
    return httpx.AsyncClient(transport=transport, base_url=f"https://{host}")
