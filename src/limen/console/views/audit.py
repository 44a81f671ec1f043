"""``/audit``: the trail, newest first, filtered and paged. Query: ``action`` (prefix), ``outcome``, ``since`` and
``until`` (UTC, minutes), ``before`` (the cursor of the page before).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.responses import Response

from limen.console.pages import Visit
from limen.console.views.names import summary, who_did
from limen.control.audit.model import AuditFilter, AuditRecord, Outcome
from limen.control.audit.service import search
from limen.kernel.errors import Malformed
from limen.kernel.ids import parse_id
from limen.kernel.principal import tenant_of

PAGE = 50
_MAX_ACTION = 100
_FIELDS = ("action", "outcome", "since", "until")
ROOMS = (
    ("", "Everything"),
    ("identity.", "People and sign-in"),
    ("policy.", "Policies and decisions"),
    ("grants.", "Grants and suspensions"),
    ("devices.", "Gateways and devices"),
    ("resources.", "Resources"),
    ("vault.", "Secrets"),
    ("files.", "Files"),
    ("network.", "Networks"),
    ("audit.", "Audit"),
    ("tenancy.", "Tenant"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One record with the names of who and what."""

    record: AuditRecord
    actor: str
    object: str
    summary: str


async def view(visit: Visit) -> Response:
    """One page of records."""
    query = visit.request.query_params
    problem = ""
    lines: list[Line] = []
    try:
        wanted = parse_filter(query)
        lines = await _read(visit, replace(wanted, limit=PAGE + 1))
    except Malformed as exc:
        problem = f"{exc.message}; {exc.fix}" if exc.fix else exc.message
    more = len(lines) > PAGE
    lines = lines[:PAGE]
    kept = {name: query.get(name, "") for name in _FIELDS if query.get(name)}
    return visit.render(
        "audit.html",
        status=400 if problem else 200,
        lines=lines,
        problem=problem,
        rooms=ROOMS,
        outcomes=list(Outcome),
        chosen={name: query.get(name, "") for name in _FIELDS},
        filtered=bool(kept),
        older=f"/audit?{urlencode({**kept, 'before': cursor(lines[-1].record)})}" if more else "",
        newest=f"/audit?{urlencode(kept)}" if query.get("before") else "",
    )


def parse_filter(query: QueryParams) -> AuditFilter:
    """What the form asks for.

    Raises:
        Malformed: when a field is not what the form would send.
    """
    outcome = query.get("outcome", "")
    if outcome and outcome not in set(Outcome):
        raise Malformed("that is not an outcome", fix="choose one from the list")
    return AuditFilter(
        since=_moment(query.get("since", ""), "from"),
        until=_moment(query.get("until", ""), "until"),
        action_prefix=query.get("action", "").strip()[:_MAX_ACTION],
        outcome=Outcome(outcome) if outcome else None,
        before=_parse_cursor(query.get("before", "")),
    )


def cursor(record: AuditRecord) -> str:
    """What ``before`` must say to continue after this record."""
    return f"{record.at.astimezone(UTC).isoformat()}~{record.id}"


def _moment(text: str, field: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise Malformed(f"'{field}' is not a time", fix="write it like 2026-01-31T14:00") from None


def _parse_cursor(text: str) -> tuple[datetime, UUID] | None:
    if not text:
        return None
    at, _, record_id = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901 - refused just below, for want of a zone
    if moment.tzinfo is None:
        raise Malformed("that page cannot be found", fix="start from the newest records")
    return moment, parse_id(record_id, "the page's cursor")


async def _read(visit: Visit, wanted: AuditFilter) -> list[Line]:
    desk = visit.desk
    async with desk.database.transaction(tenant_of(visit.who)) as tx:
        records = await search(tx, wanted, open_personal=True)
        ids = {found for r in records for found in (r.actor_id, r.object_id) if found is not None}
        names = await desk.subjects.names(tx, frozenset(ids))
        resources = await desk.resources.many(tx, {r.object_id for r in records if r.object_id is not None})
    names |= {resource.id: resource.name for resource in resources}
    names |= {agent.id: agent.name for agent in await desk.registry.list_agents(visit.who)}
    return [
        Line(record, who_did(record, names), names.get(record.object_id or record.id, ""), summary(record))
        for record in records
    ]
