"""Open pages of this process, and what tells them that something changed. No I/O.

Rules:

1. A page belongs to one session. It is *over* when that session's credential or console grant ends; being over is
   final and seen before any other news.
2. A change that names the page's person or tenant leaves a *doubt*: the holder of the page checks its session again.
3. Anything else in the tenant *touches* the page. Many touches before it looks are one.
4. :meth:`OpenPages.shut` closes all pages for good: the process stops.
5. Everything runs on the event loop's thread; callbacks only set flags and wake.
"""

import asyncio
from uuid import UUID

from limen.kernel.errors import RateLimited, Unavailable
from limen.kernel.facts import Change, FactKind
from limen.kernel.principal import Principal, tenant_of

MAX_PAGES_OF_SESSION = 16
MAX_PAGES = 4096
_ABOUT_PERSON = frozenset({FactKind.PERSON, FactKind.BLOCK, FactKind.TENANT})


class OpenPage:
    """One open page's news. Read the flags, act, then :meth:`wait`."""

    def __init__(self, who: Principal) -> None:
        self.tenant_id = tenant_of(who)
        self.person_id = who.person_id
        self.session_id = who.session_id
        self.over = False
        self.shut = False
        self.doubt = False
        self.touched = False
        self._wake = asyncio.Event()

    def hear(self, change: Change) -> None:
        """Take in one change of the page's tenant."""
        ended = {grant.credential_id for grant in change.revoked}
        ended |= {fact.id for fact in change.facts if fact.kind is FactKind.CREDENTIAL}
        about_me = (self.person_id, self.tenant_id)
        self.over = self.over or self.session_id in ended
        self.doubt = self.doubt or any(fact.kind in _ABOUT_PERSON and fact.id in about_me for fact in change.facts)
        self.touch()

    def touch(self) -> None:
        """Something that the page may show is different now."""
        self.touched = True
        self._wake.set()

    def close(self) -> None:
        """The process stops."""
        self.shut = True
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Until there is news, or ``seconds`` have passed."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


class OpenPages:
    """All open pages. Subscribe :meth:`dispatch` to the change feed and :meth:`touch` to the grant ledger."""

    def __init__(self) -> None:
        self._by_tenant: dict[UUID, set[OpenPage]] = {}
        self._count = 0
        self._shut = False

    def __len__(self) -> int:
        return self._count

    def open(self, who: Principal) -> OpenPage:
        """Begin to listen for a signed-in person. :meth:`leave` must follow.

        Raises:
            Unavailable: when the process stops or has too many pages open.
            RateLimited: when this session has too many pages open.
        """
        if self._shut or self._count >= MAX_PAGES:
            raise Unavailable("no more pages can be kept up to date now", fix="try again in a moment")
        page = OpenPage(who)
        pages = self._by_tenant.setdefault(page.tenant_id, set())
        if sum(other.session_id == page.session_id for other in pages) >= MAX_PAGES_OF_SESSION:
            raise RateLimited("too many open pages in this session", retry_after=30, fix="close some tabs")
        pages.add(page)
        self._count += 1
        return page

    def leave(self, page: OpenPage) -> None:
        """Stop listening; a second time does nothing."""
        pages = self._by_tenant.get(page.tenant_id, set())
        if page in pages:
            pages.remove(page)
            self._count -= 1
        if not pages:
            self._by_tenant.pop(page.tenant_id, None)

    def dispatch(self, change: Change) -> None:
        """Hand a change to the pages of its tenant. Callback of the change feed."""
        for page in self._by_tenant.get(change.tenant_id, ()):
            page.hear(change)

    def touch(self, tenant_id: UUID) -> None:
        """A grant was issued or ran out in this tenant. Callback of the grant ledger."""
        for page in self._by_tenant.get(tenant_id, ()):
            page.touch()

    def shut(self) -> None:
        """Close all pages; none can be opened afterwards."""
        self._shut = True
        for pages in self._by_tenant.values():
            for page in pages:
                page.close()
