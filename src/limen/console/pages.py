"""What every page shares: who may see it, how it is rendered, how its errors look."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from limen.console.assets import ASSETS, TEMPLATES
from limen.control.devices.service import AgentHub, AgentRegistry
from limen.control.grants.service import GrantLedger
from limen.control.identity.model import Person
from limen.control.identity.service import IdentityService
from limen.control.policy.service import SubjectSource
from limen.control.resources.service import ResourcesService
from limen.control.tenancy.service import TenancyService
from limen.db.database import Database
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, LimenError, Unauthenticated
from limen.kernel.ids import new_id
from limen.kernel.principal import Permission, Principal
from limen.runtime.http import principal

SIGN_IN = "/sign-in"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """What views read from."""

    database: Database
    clock: Clock
    identity: IdentityService
    tenancy: TenancyService
    ledger: GrantLedger
    resources: ResourcesService
    subjects: SubjectSource
    registry: AgentRegistry
    hub: AgentHub


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page by a signed-in person."""

    request: Request
    desk: Desk
    who: Principal
    person: Person
    now: datetime

    def may(self, permission: Permission) -> bool:
        """Whether the person's role includes it."""
        return self.who.may(permission)

    def render(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page of the signed-in console."""
        return render(
            self.request,
            template,
            status=status,
            now=self.now,
            who=self.who,
            person=self.person,
            may=self.who.may,
            P=Permission,
            csrf=self.request.state.csrf_token,
            **context,
        )


View = Callable[[Visit], Awaitable[Response]]


def page(desk: Desk, path: str, permission: Permission, view: View) -> Route:
    """A route that shows a page to people whose role includes ``permission``; others are asked to sign in (303)."""

    async def endpoint(request: Request) -> Response:
        try:
            who = principal(request)
        except Unauthenticated:
            return RedirectResponse(SIGN_IN, 303)
        if who.person_id is None:
            raise Denied("the console is for people of a tenant", fix="use the command line as an operator")
        person = await desk.identity.directory.get_person(who, who.person_id)
        visit = Visit(request, desk, who, person, desk.clock.now())
        if not who.may(permission):
            raise Denied(f"your role does not include '{permission}'", fix="ask an owner of your tenant")
        return await view(visit)

    return Route(path, endpoint, methods=["GET"])


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    """A page. ``request.state`` must have been filled by the access middleware."""
    html = _environment.get_template(template).render(
        path=request.url.path,
        origin=f"{request.url.scheme}://{request.url.netloc}",
        tenant=request.state.tenant_slug,
        status=status,
        **context,
    )
    return HTMLResponse(html, status)


async def render_error(request: Request, exc: Exception) -> Response:
    """Exception handler of the console: errors as pages."""
    status, message, fix, incident = _told(exc)
    headers = exc.headers if isinstance(exc, HTTPException) else None
    response = render(request, "error.html", status=status, message=message, fix=fix, incident=incident)
    response.headers.update(headers or {})
    return response


def _told(exc: Exception) -> tuple[int, str, str, str]:
    match exc:
        case LimenError():
            incident = str(new_id()) if exc.status >= 500 else ""
            if incident:
                _log.warning("page failed", code=exc.code, reason=exc.message, id=incident)
            return exc.status, exc.message, exc.fix, incident
        case HTTPException(status_code=404):
            return 404, "there is no such page", "check the address, or start from the overview", ""
        case HTTPException():
            return exc.status_code, "this address does not take that kind of request", "start from the overview", ""
    raise exc


# --- what templates call ------------------------------------------------------------------------------------------


def clock_text(at: datetime, now: datetime) -> str:
    """``14:03:22`` today, else ``2 Jun 14:03`` (with the year when it is another one); UTC."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    year = f" {at.year}" if at.year != now.year else ""
    return f"{at.day} {at:%b}{year} {at:%H:%M}"


def left_text(until: datetime, now: datetime) -> str:
    """How long from ``now`` until then, in its two largest units: ``7 h 52 min``, ``45 s``."""
    return span_text(until - now)


def span_text(span: timedelta) -> str:
    """A length of time in its two largest units; nothing is less than zero."""
    seconds = max(0, int(span.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def short_id(value: UUID) -> str:
    """The last eight characters: ids are ordered by time, so that their beginnings are alike."""
    return value.hex[-8:]


def initials(name: str) -> str:
    """One or two letters that stand for a person."""
    words = [word for word in name.split() if word[0].isalnum()]
    picked = [words[0], words[-1]] if len(words) > 1 else words
    return "".join(word[0] for word in picked).upper() or "?"


def _make_environment() -> Environment:
    environment = Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(static=ASSETS.url)
    environment.filters.update(
        clock=clock_text, left=left_text, span=span_text, short_id=short_id, initials=initials, iso=datetime.isoformat
    )
    for name in TEMPLATES:
        environment.get_template(name)  # a mistake in a template must show at the start, not on a page
    return environment


_environment = _make_environment()
