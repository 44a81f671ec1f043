"""Grants as the pages list them: with the session or device behind each."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from limen.console.pages import Visit
from limen.control.grants.model import GrantRecord
from limen.control.identity.model import Session, SessionKind
from limen.control.policy.endpoints import GrantNames, GrantView
from limen.kernel.access import DOOR_OF_KIND, Door, GrantState, ResourceKind
from limen.kernel.principal import tenant_of

# Door, its name on pages, and what to say when nothing is open there.
DOORS: tuple[tuple[Door, str, str], ...] = (
    (Door.NETWORK, "Networks", "No tunnel is open"),
    (Door.FILES, "Files", "No SFTP session is open"),
    (Door.VAULT, "Secrets", "No token is in use"),
    (Door.CONSOLE, "Console", "Nobody is signed in"),
)


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One line. ``via`` is what the subject came through, ``source`` an address where it is known."""

    grant: GrantView
    door: Door
    via: str
    source: str
    own: bool
    current: bool

    @property
    def is_session(self) -> bool:
        """Whether it is a sign-in session."""
        return self.door is Door.CONSOLE


def still_live(records: Sequence[GrantRecord], visit: Visit) -> list[GrantRecord]:
    """Those that have not run out, newest first; a grant past its time is marked as expired only a little later."""
    lasting = [r for r in records if r.state is GrantState.LIVE and r.grant.expires_at > visit.now]
    return sorted(lasting, key=lambda record: record.grant.id, reverse=True)


async def grant_rows(visit: Visit, records: Sequence[GrantRecord]) -> list[GrantRow]:
    """Lines for grants, in the given order. Opens transactions of its own; call it outside of one."""
    if not records:
        return []
    desk, who = visit.desk, visit.who
    async with desk.database.transaction(tenant_of(who)) as tx:
        views = await GrantNames(desk.resources, desk.subjects).views(list(records), tx)
    sessions = {session.id: session for session in await desk.identity.sessions.list(who)}
    devices = {agent.id: agent.name for agent in await desk.registry.list_agents(who)}
    rows = []
    for view in views:
        session = sessions.get(view.credential_id) if view.credential_id else None
        rows.append(
            GrantRow(
                grant=view,
                door=DOOR_OF_KIND[ResourceKind(view.door)],
                via=_via(view, session, devices),
                source=session.source if session else "",
                own=view.subject_id == who.person_id,
                current=view.credential_id is not None and view.credential_id == who.session_id,
            )
        )
    return rows


def _via(view: GrantView, session: Session | None, devices: dict[UUID, str]) -> str:
    if session is not None:
        return "browser" if session.kind is SessionKind.COOKIE else "command line"
    if view.device_id is not None:
        return devices.get(view.device_id, "device")
    return {Door.VAULT: "vault token", Door.FILES: "SFTP"}.get(DOOR_OF_KIND[ResourceKind(view.door)], "")
