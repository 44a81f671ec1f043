"""Which host names we answer to, and which tenant a host label means.

``<base domain>`` and ``<slug>.<base domain>``, the configured names, and loopback addresses; anything else is
misdirected, so that no forged Host header reaches a link, a cache or a cookie.
"""

import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from limen.api.problems import Misdirected
from limen.kernel.errors import Malformed

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class HostRules:
    """``base_domain`` in lower case without a port; ``names`` are further DNS names or IP addresses of this server."""

    base_domain: str
    names: frozenset[str] = frozenset()

    def tenant_slug(self, authority: str) -> str | None:
        """The tenant's slug of a Host header's value; ``None`` where the host is nobody's in particular.

        Raises:
            Malformed: when it is not a host name with an optional port.
            Misdirected: when it is none of ours.
        """
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            raise Malformed("the Host header is missing or not a host name", fix="use the server's URL as given")
        host = match["host"].lower().strip("[]").removesuffix(".")
        if host in self.names or host in (self.base_domain, "localhost") or _is_loopback(host):
            return None
        label, dot, rest = host.partition(".")
        if dot and rest == self.base_domain and _LABEL.fullmatch(label):
            return label
        raise Misdirected("this server does not answer to that host name", fix="use the server's URL as given")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HostCheck:
    """Refuses other hosts; sets ``request.state.tenant_slug``."""

    def __init__(self, app: ASGIApp, rules: HostRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            slug = self._rules.tenant_slug(hosts[0] if len(hosts) == 1 else "")
            scope.setdefault("state", {})["tenant_slug"] = slug
        await self._app(scope, receive, send)
