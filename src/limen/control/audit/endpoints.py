"""HTTP routes of the audit trail: read it, export it, fetch checkpoints to keep. All ask for ``audit.read``."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from limen.control.audit import service
from limen.control.audit.export import Exporter, Window, recent_checkpoints
from limen.control.audit.model import AuditFilter, AuditRecord, Outcome
from limen.control.audit.rules import lines
from limen.db.database import Database
from limen.kernel.errors import Malformed
from limen.kernel.ids import parse_id
from limen.kernel.principal import ActorKind, Permission, Principal
from limen.runtime.http import SecureRouter, View, principal, tenant_of

MAX_CHECKPOINTS = 1000

Caller = Annotated[Principal, Depends(principal)]
Time = Annotated[AwareDatetime | None, Query()]


class RecordView(View):
    """One record. ``source`` and ``personal`` are null where they may not be opened or were erased."""

    id: UUID
    at: datetime
    action: str
    outcome: Outcome
    actor_kind: ActorKind
    actor_id: UUID | None
    object_kind: str
    object_id: UUID | None
    detail: Mapping[str, str | int | bool | None]
    source: str | None
    personal: Mapping[str, str] | None
    erased: bool


class RecordPage(View):
    """Records, newest first; ``next`` is what to pass as ``before`` for the following page."""

    records: list[RecordView]
    next: str | None


class CheckpointList(View):
    """Checkpoints, newest first, each in the form that ``limen-audit-verify --trusted-checkpoint`` reads."""

    checkpoints: list[dict[str, Any]]


class PublicKey(View):
    """The Ed25519 key, in hex, that checkpoints are signed with. For comparing: a verifier takes it from elsewhere."""

    public_key: str


def router(database: Database, exporter: Exporter) -> SecureRouter:
    """The routes of this room."""
    routes = SecureRouter(tags=["audit"])

    @routes.read("/audit", Permission.READ_AUDIT)
    async def read_records(
        who: Caller,
        since: Time = None,
        until: Time = None,
        actor: Annotated[UUID | None, Query()] = None,
        action: Annotated[str, Query(max_length=100, description="prefix, such as 'identity.'")] = "",
        object_kind: Annotated[str, Query(max_length=64)] = "",
        object_id: Annotated[UUID | None, Query(alias="object")] = None,
        outcome: Annotated[Outcome | None, Query()] = None,
        source: Annotated[str, Query(max_length=64, description="exact address")] = "",
        before: Annotated[str, Query(max_length=80, description="'next' of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=service.MAX_LIMIT)] = 100,
    ) -> RecordPage:
        """Records that match, newest first."""
        wanted = AuditFilter(
            since=since,
            until=until,
            actor_id=actor,
            action_prefix=action,
            object_kind=object_kind,
            object_id=object_id,
            outcome=outcome,
            source=source,
            before=_parse_cursor(before) if before else None,
            limit=limit,
        )
        async with database.transaction(tenant_of(who)) as tx:
            found = await service.search(tx, wanted, open_personal=who.may(Permission.READ_AUDIT))
        return RecordPage(
            records=[_view(record) for record in found],
            next=_cursor(found[-1]) if len(found) == limit else None,
        )

    @routes.read("/audit/export", Permission.READ_AUDIT, response_class=StreamingResponse)
    async def export_trail(who: Caller, since: Time = None, until: Time = None) -> StreamingResponse:
        """The trail as JSON lines that ``limen-audit-verify`` checks offline; optionally opened for a window only."""
        tenant_id = tenant_of(who)
        stream = await exporter.begin(tenant_id, who.actor, Window(since, until))
        return StreamingResponse(
            stream,
            media_type="application/jsonl",
            headers={
                "Content-Disposition": f'attachment; filename="audit-{tenant_id}.jsonl"',
                "Cache-Control": "no-store",
            },
        )

    @routes.read("/audit/checkpoints", Permission.READ_AUDIT)
    async def list_checkpoints(
        who: Caller, limit: Annotated[int, Query(ge=1, le=MAX_CHECKPOINTS)] = 20
    ) -> CheckpointList:
        """The newest signed checkpoints over this tenant's records; keep one elsewhere to detect a rewritten past."""
        async with database.transaction(tenant_of(who)) as tx:
            return CheckpointList(checkpoints=await recent_checkpoints(tx, limit))

    @routes.read("/audit/public-key", Permission.READ_AUDIT)
    async def public_key() -> PublicKey:
        """The key in use; the same that ``limen up`` writes to ``audit.pub``."""
        return PublicKey(public_key=(await exporter.public_key()).hex())

    return routes


def _view(record: AuditRecord) -> RecordView:
    return RecordView(
        id=record.id,
        at=record.at,
        action=record.action,
        outcome=record.outcome,
        actor_kind=record.actor_kind,
        actor_id=record.actor_id,
        object_kind=record.object_kind,
        object_id=record.object_id,
        detail=record.detail,
        source=record.source,
        personal=record.personal,
        erased=record.erased,
    )


def _cursor(record: AuditRecord) -> str:
    return f"{lines.time_text(record.at)}~{record.id}"


def _parse_cursor(text: str) -> tuple[datetime, UUID]:
    at, _, record_id = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed("'before' is not the cursor of a page", fix="pass 'next' of the page before as it is")
    return moment, parse_id(record_id, "'before'")
