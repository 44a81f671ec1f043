"""``/live``: every live grant and session, and what is denied until lifted."""

from collections import Counter

from starlette.responses import Response

from limen.console.pages import Visit
from limen.console.views.rows import DOORS, grant_rows, still_live
from limen.kernel.access import DOOR_OF_KIND, Door
from limen.kernel.principal import tenant_of

SHOWN = 200


async def view(visit: Visit) -> Response:
    """All live grants, or those of one door (``?door=``)."""
    desk = visit.desk
    wanted = visit.request.query_params.get("door", "")
    door = Door(wanted) if wanted in set(Door) else None
    async with desk.database.transaction(tenant_of(visit.who)) as tx:
        live = still_live(await desk.ledger.live(tx), visit)
        denials = [block for block in await desk.ledger.all_blocks(tx) if block.resource_id is not None]
        names = await desk.subjects.names(tx, frozenset(block.subject_id for block in denials))
        denied = await desk.resources.many(tx, {block.resource_id for block in denials if block.resource_id})
    counts = Counter(DOOR_OF_KIND[record.grant.resource_kind] for record in live)
    chosen = [r for r in live if door is None or DOOR_OF_KIND[r.grant.resource_kind] is door]
    return visit.render(
        "live.html",
        rows=await grant_rows(visit, chosen[:SHOWN]),
        hidden=max(0, len(chosen) - SHOWN),
        door=door,
        doors=[(each, title, counts[each]) for each, title, _ in DOORS],
        total=len(live),
        denials=denials,
        names=names,
        resource_names={resource.id: resource.name for resource in denied},
    )
