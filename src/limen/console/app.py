"""The console's ASGI application: mount it at ``""``, after everything else."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from limen.console.assets import serve_asset
from limen.console.events import EventSource
from limen.console.live import OpenPages
from limen.console.pages import Desk, page, render_error
from limen.console.views import account, audit, entry, live, overview, people
from limen.control.grants.feed import ChangeFeed
from limen.kernel.errors import LimenError
from limen.kernel.principal import Permission


def console_app(desk: Desk, open_pages: OpenPages, feed: ChangeFeed) -> ASGIApp:
    """All pages. ``open_pages`` must hear of changes: its ``dispatch`` from the feed, its ``touch`` from the ledger."""
    events = EventSource(open_pages, desk.identity, feed.is_current, desk.clock)
    return Starlette(
        routes=[
            page(desk, "/", Permission.SELF, overview.view),
            page(desk, "/access", Permission.SELF, account.view),
            page(desk, "/live", Permission.READ_GRANTS, live.view),
            page(desk, "/people", Permission.READ_DIRECTORY, people.view),
            page(desk, "/audit", Permission.READ_AUDIT, audit.view),
            *entry.routes(desk),
            Route("/events", events.endpoint, methods=["GET"]),
            Route("/static/{name}", serve_asset, methods=["GET"]),
        ],
        exception_handlers={LimenError: render_error, HTTPException: render_error},
    )
