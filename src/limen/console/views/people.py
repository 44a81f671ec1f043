"""``/people``: who there is, who is suspended, and how much each has open."""

from collections import Counter

from starlette.responses import Response

from limen.console.pages import Visit
from limen.console.views.rows import still_live
from limen.kernel.principal import tenant_of

MAX_SEARCH = 200


async def view(visit: Visit) -> Response:
    """Everyone, or those whose name or address contains ``?q=``."""
    desk, who = visit.desk, visit.who
    search = visit.request.query_params.get("q", "")[:MAX_SEARCH].strip()
    directory = desk.identity.directory
    people = await (directory.search_people(who, search) if search else directory.list_people(who))
    async with desk.database.transaction(tenant_of(who)) as tx:
        blocks = [block for block in await desk.ledger.all_blocks(tx) if block.resource_id is None]
        live = still_live(await desk.ledger.live(tx), visit)
    return visit.render(
        "people.html",
        people=sorted(people, key=lambda person: person.name.casefold()),
        suspended={block.subject_id: block for block in blocks},
        open_grants=Counter(record.grant.subject.id for record in live),
        search=search,
    )
