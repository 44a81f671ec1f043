"""``/access``: what the signed-in person has open themselves."""

from starlette.responses import Response

from limen.console.pages import Visit
from limen.console.views.rows import grant_rows, still_live
from limen.kernel.principal import tenant_of


async def view(visit: Visit) -> Response:
    """The person's own grants and sessions."""
    desk, who = visit.desk, visit.who
    async with desk.database.transaction(tenant_of(who)) as tx:
        live = still_live(await desk.ledger.live(tx, subjects=[visit.person.id]), visit)
    rows = await grant_rows(visit, live)
    return visit.render(
        "access.html",
        sessions=[row for row in rows if row.is_session],
        grants=[row for row in rows if not row.is_session],
    )
