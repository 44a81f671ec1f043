"""``/``: what is open, what needs attention, what was refused and what ended lately."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from limen.console.pages import Visit
from limen.console.views.names import who_did
from limen.console.views.rows import DOORS, still_live
from limen.control.audit.model import AuditFilter, AuditRecord, Outcome
from limen.control.audit.service import search
from limen.control.grants.model import Block, GrantRecord
from limen.control.policy.endpoints import GrantNames, GrantView
from limen.db.database import Tx
from limen.kernel.access import DOOR_OF_KIND, Door, GrantState
from limen.kernel.principal import Permission, tenant_of
from limen.wire.agent import AgentKind

_SHOWN = 6
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was denied or failed."""

    record: AuditRecord
    actor: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the page shows of the tenant, read in one transaction."""

    live: list[GrantRecord]
    blocks: list[Block]
    ended: list[GrantView]
    refused: list[Refusal]
    names: dict[UUID, str]
    has_resources: bool


async def view(visit: Visit) -> Response:
    """The overview; who may not see everyone's grants is sent to their own."""
    if not visit.may(Permission.READ_GRANTS):
        return RedirectResponse("/access", 303)
    desk = visit.desk
    async with desk.database.transaction(tenant_of(visit.who)) as tx:
        ledger = await _read(visit, tx)
    gateways = [agent for agent in await desk.registry.list_agents(visit.who) if agent.kind is AgentKind.GATEWAY]
    per_door = Counter(DOOR_OF_KIND[record.grant.resource_kind] for record in ledger.live)
    people_of_door = {
        door: len({r.grant.subject.id for r in ledger.live if DOOR_OF_KIND[r.grant.resource_kind] is door})
        for door in Door
    }
    return visit.render(
        "overview.html",
        doors=[(door, title, about, per_door[door], people_of_door[door]) for door, title, about in DOORS],
        total=len(ledger.live),
        suspended=[block for block in ledger.blocks if block.resource_id is None],
        names=ledger.names,
        gateways=gateways,
        offline=[agent for agent in gateways if desk.hub.session(agent.id) is None],
        refused=ledger.refused,
        ended=ledger.ended,
        has_resources=ledger.has_resources,
    )


async def _read(visit: Visit, tx: Tx) -> Ledger:
    desk = visit.desk
    live = still_live(await desk.ledger.live(tx), visit)
    blocks = await desk.ledger.all_blocks(tx)
    newest = await desk.ledger.newest(tx, _LOOKED_AT)
    over = [r for r in newest if r.state is not GrantState.LIVE and r.ended_at is not None]
    over.sort(key=lambda record: record.ended_at or visit.now, reverse=True)
    ended = await GrantNames(desk.resources, desk.subjects).views(over[:_SHOWN], tx)
    records = [
        record
        for outcome in (Outcome.DENIED, Outcome.FAILED)
        for record in await search(tx, AuditFilter(outcome=outcome, limit=_SHOWN), open_personal=True)
    ]
    records.sort(key=lambda record: (record.at, record.id), reverse=True)
    ids = {block.subject_id for block in blocks}
    ids |= {found for r in records for found in (r.actor_id, r.object_id) if found is not None}
    names = await desk.subjects.names(tx, frozenset(ids))
    return Ledger(
        live=live,
        blocks=blocks,
        ended=ended,
        refused=[Refusal(record, who_did(record, names)) for record in records[:_SHOWN]],
        names=names,
        has_resources=any(not resource.builtin for resource in await desk.resources.list_all(tx)),
    )
