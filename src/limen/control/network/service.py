"""Session set-up and the handlers of gateway and client agents.

Order of a set-up: decide and write the grant for one gateway; push ``OpenGrant`` to that gateway and wait for its
``Opened``; only then answer the client. A grant that its gateway did not open ends, so that the next try makes a
new one.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from limen.control.devices.service import AgentHub, AgentRegistry, AgentSession
from limen.control.grants.model import CutReceipt
from limen.control.grants.service import GrantLedger
from limen.control.network.errors import GatewaySilent, NoGateway
from limen.control.network.model import wire_grant, wire_peer, wire_resource
from limen.control.policy.service import AccessRequest, PolicyAdministrator
from limen.control.resources.service import ResourcesService
from limen.db.database import Database, Tx
from limen.kernel.access import Action, Grant, ResourceKind, Subject, SubjectKind
from limen.kernel.errors import Conflict, LimenError, Malformed, NotFound, Unavailable
from limen.kernel.facts import Change, FactKind
from limen.wire.agent import (
    DEFAULT_OFFLINE_TOLERANCE_SECONDS,
    AccessAnswer,
    AgentKind,
    Applied,
    ClosedGrant,
    CloseGrants,
    GrantEnded,
    Hello,
    Opened,
    OpenGrant,
    Reachable,
    Receipt,
    RequestAccess,
    Sync,
    TunnelGrant,
)

OPEN_SECONDS = 5.0
MAX_SET_UPS = 64
"""Set-ups that one client may have under way at once."""

_CONNECT = frozenset({Action.CONNECT})
_log = structlog.get_logger(__name__)


class Openings:
    """Grants pushed to a gateway whose ``Opened`` is awaited."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, asyncio.Future[None]] = {}

    async def push(self, gateway: AgentSession, message: OpenGrant) -> None:
        """Push and wait.

        Raises:
            GatewaySilent: when the gateway does not open it in time.
            Unavailable: when it is not connected any more.
        """
        opened = self._waiting.setdefault(message.tunnel.id, asyncio.get_running_loop().create_future())
        await gateway.send(message)
        over = asyncio.ensure_future(gateway.over.wait())
        either: list[asyncio.Future[Any]] = [opened, over]
        try:
            await asyncio.wait(either, timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            self._waiting.pop(message.tunnel.id, None)
        if not opened.done():
            raise GatewaySilent

    def opened(self, grant_id: UUID) -> None:
        """The gateway's word."""
        waiting = self._waiting.get(grant_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class GatewayHandler:
    """Gateways: told their grants, believed about them.

    A gateway makes its WireGuard key at each start. A key that this process has not seen therefore means that the
    clients' sessions with the former one are void: they are told, ask again, and get the same grants with the new
    key. A gateway that stays away beyond the offline tolerance has let its grants lapse: they end here too, so that
    clients are sent elsewhere or told.
    """

    def __init__(
        self,
        database: Database,
        ledger: GrantLedger,
        resources: ResourcesService,
        registry: AgentRegistry,
        hub: AgentHub,
        openings: Openings,
        offline_seconds: float = DEFAULT_OFFLINE_TOLERANCE_SECONDS,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._resources = resources
        self._registry = registry
        self._hub = hub
        self._openings = openings
        self._offline_seconds = offline_seconds
        self._keys: dict[UUID, str] = {}
        self._absent: dict[UUID, asyncio.Task[None]] = {}

    async def connected(self, session: AgentSession, hello: Hello) -> None:
        """Send the whole set of live grants. One whose client is away goes without its key (see ``TunnelGrant``)."""
        absence = self._absent.pop(session.agent.id, None)
        if absence is not None:
            absence.cancel()
        if not hello.wireguard_public_key or not hello.listen_port or not hello.addresses:
            raise Malformed("a gateway names its key, port and addresses", fix="start it with --advertise ADDRESS")
        async with self._database.transaction(_tenant(session)) as tx:
            version = await tx.lock_version(share=True)
            grants = await self._ledger.live_of_agent(tx, session.agent.id)
            tunnels = [tunnel for grant in grants if (tunnel := await self._tunnel(tx, grant)) is not None]
        await session.send(Sync(tenant_id=_tenant(session), version=version, tunnels=tuple(tunnels)))
        if self._keys.get(session.agent.id) != hello.wireguard_public_key:
            self._keys[session.agent.id] = hello.wireguard_public_key
            await self._tell_clients(grants, "gateway-restarted")

    async def received(self, session: AgentSession, message: Any) -> None:
        """``Opened``, ``Applied`` and ``Receipt``."""
        match message:
            case Opened(grant_id=grant_id):
                self._openings.opened(grant_id)
            case Applied():
                return  # the channel keeps count of versions
            case Receipt():
                await self._receipt(session, message)
            case _:
                raise Malformed("a gateway does not send this message")

    async def changed(self, session: AgentSession, change: Change) -> None:
        """Cut what ended; the version moves on in any case."""
        mine = tuple(
            ClosedGrant(id=grant.id, number=grant.number, reason=grant.reason)
            for grant in change.revoked
            if grant.agent_id == session.agent.id
        )
        await session.send(CloseGrants(tenant_id=change.tenant_id, version=change.version, grants=mine))

    async def disconnected(self, session: AgentSession) -> None:
        """Its grants live on its lease; once that is over they end here too."""
        self._absent[session.agent.id] = asyncio.create_task(self._give_up(session))

    async def _give_up(self, session: AgentSession) -> None:
        agent_id = session.agent.id
        await asyncio.sleep(self._offline_seconds)
        self._absent.pop(agent_id, None)
        try:
            async with self._database.transaction(_tenant(session)) as tx:
                grants = await self._ledger.live_of_agent(tx, agent_id)
                for grant in grants:
                    await self._ledger.end(tx, grant.id, agent_id, "gateway-offline")
        except Unavailable as exc:
            _log.warning("grants of an absent gateway stay until they expire", reason=exc.message)
            return
        if grants:
            _log.warning("a gateway stays away; its grants have ended", agent_id=str(agent_id), grants=len(grants))
        await self._tell_clients(grants, "gateway-offline")

    async def _tell_clients(self, grants: list[Grant], reason: str) -> None:
        for grant in grants:
            device_id = grant.subject.device_id
            client = self._hub.session(device_id) if device_id is not None else None
            if client is not None:
                ended = GrantEnded(tenant_id=grant.subject.tenant_id, grant_id=grant.id, reason=reason)
                with contextlib.suppress(Unavailable):
                    await client.send(ended)

    async def _tunnel(self, tx: Tx, grant: Grant) -> TunnelGrant | None:
        device_id = grant.subject.device_id
        device = await self._registry.active_agent(tx, device_id) if device_id is not None else None
        found = await self._resources.many(tx, [grant.resource_id])
        if device is None or not found:
            return None
        client = self._hub.session(device.id)
        return wire_grant(grant, found[0], device, client.hello.wireguard_public_key if client else "")

    async def _receipt(self, session: AgentSession, message: Receipt) -> None:
        receipt = CutReceipt(
            grant_id=message.grant_id,
            agent_id=session.agent.id,
            reason=message.reason,
            cut_at=_instant(message.cut_at),
            last_byte_at=_instant(message.last_byte_at) if message.last_byte_at else None,
            bytes_in=message.bytes_in,
            bytes_out=message.bytes_out,
        )
        try:
            async with self._database.transaction(_tenant(session)) as tx:
                await self._ledger.take_receipt(tx, receipt)
        except NotFound:
            # Not an error, or the gateway would send it for ever: the channel acknowledges what was handled.
            _log.warning("receipt for a grant that is not this gateway's", agent_id=str(session.agent.id))


class ClientHandler:
    """Clients: told what they may reach, answered when they ask, told when a grant is over."""

    def __init__(
        self,
        database: Database,
        administrator: PolicyAdministrator,
        ledger: GrantLedger,
        resources: ResourcesService,
        hub: AgentHub,
        openings: Openings,
    ) -> None:
        self._database = database
        self._administrator = administrator
        self._ledger = ledger
        self._resources = resources
        self._hub = hub
        self._openings = openings
        self._held: dict[AgentSession, dict[UUID, UUID]] = {}  # grant -> resource, per client
        self._set_ups: dict[AgentSession, set[asyncio.Task[None]]] = {}

    async def connected(self, session: AgentSession, hello: Hello) -> None:
        """Send what is reachable now."""
        if not hello.wireguard_public_key:
            raise Malformed("a client names its WireGuard key")
        self._held[session] = {}
        self._set_ups[session] = set()
        async with self._database.transaction(_tenant(session)) as tx:
            version = await tx.lock_version(share=True)
        await session.send(Sync(tenant_id=_tenant(session), version=version))
        await self._tell_reachable(session, version)

    async def received(self, session: AgentSession, message: Any) -> None:
        """``RequestAccess`` and ``Applied``. Set-ups run side by side, so that a silent gateway holds up no other."""
        match message:
            case RequestAccess():
                running = self._set_ups[session]
                if len(running) >= MAX_SET_UPS:
                    raise Unavailable("too many requests for access at once", fix="wait for the answers")
                task = asyncio.create_task(self._answer(session, message))
                running.add(task)
                task.add_done_callback(running.discard)
            case Applied():
                return
            case _:
                raise Malformed("a client does not send this message")

    async def changed(self, session: AgentSession, change: Change) -> None:
        """Name the grants that are over, then what is reachable under the new facts."""
        held = self._held[session]
        for grant in change.revoked:
            if held.pop(grant.id, None) is not None:
                await session.send(GrantEnded(tenant_id=change.tenant_id, grant_id=grant.id, reason=grant.reason))
        if any(fact.kind is not FactKind.CREDENTIAL for fact in change.facts):
            await self._tell_reachable(session, change.version)

    async def disconnected(self, session: AgentSession) -> None:
        """Forget it; its set-ups end."""
        self._held.pop(session, None)
        for task in self._set_ups.pop(session, set()):
            task.cancel()

    async def _tell_reachable(self, session: AgentSession, version: int) -> None:
        found = await self._administrator.reachable(
            _tenant(session), _subject(session), ResourceKind.NETWORK, session.source
        )
        resources = tuple(wire_resource(resource) for resource in found)
        await session.send(Reachable(tenant_id=_tenant(session), version=version, resources=resources))

    async def _answer(self, session: AgentSession, asked: RequestAccess) -> None:
        try:
            answer = await self._set_up(session, asked)
        except LimenError as exc:
            answer = _refusal(asked, exc)
        except Exception:
            _log.exception("session set-up failed", agent_id=str(session.agent.id))
            answer = AccessAnswer(
                request_id=asked.request_id,
                allowed=False,
                resource_id=asked.resource_id,
                reason="the control plane failed to set the access up",
                fix="try again; its log says more",
            )
        if not session.over.is_set():
            await session.send(answer)

    async def _set_up(self, session: AgentSession, asked: RequestAccess) -> AccessAnswer:
        gateway = await self._choose_gateway(session)
        request = AccessRequest(
            subject=_subject(session),
            resource_id=asked.resource_id,
            actions=_CONNECT,
            source=session.source,
            agent_id=gateway.agent.id,
        )
        grant = await self._administrator.request_access(request)
        async with self._database.transaction(_tenant(session)) as tx:
            resource = await self._resources.get(tx, asked.resource_id)
        tunnel = wire_grant(grant, resource, session.agent, session.hello.wireguard_public_key)
        self._held[session][grant.id] = resource.id
        try:
            await self._openings.push(
                gateway, OpenGrant(tenant_id=_tenant(session), version=grant.version, tunnel=tunnel)
            )
        except (Unavailable, Conflict):
            self._held[session].pop(grant.id, None)
            await self._end_unopened(session, gateway, grant)
            raise
        return AccessAnswer(
            request_id=asked.request_id,
            allowed=True,
            resource_id=resource.id,
            grant_id=grant.id,
            expires_at=grant.expires_at.timestamp(),
            peer=wire_peer(gateway.agent, gateway.hello),
        )

    async def _choose_gateway(self, session: AgentSession) -> AgentSession:
        """The gateway that already carries this device, else the one with the fewest live grants.

        Raises:
            NoGateway: when none of the tenant is connected.
        """
        online = self._hub.sessions(AgentKind.GATEWAY, _tenant(session))
        if not online:
            raise NoGateway
        if len(online) == 1:
            return online[0]
        async with self._database.transaction(_tenant(session)) as tx:
            own = {entry.grant.agent_id for entry in await self._ledger.live(tx, devices=[session.agent.id])}
            load = {one: len(await self._ledger.live_of_agent(tx, one.agent.id)) for one in online}
        return min(online, key=lambda one: (one.agent.id not in own, load[one], one.agent.id))

    async def _end_unopened(self, session: AgentSession, gateway: AgentSession, grant: Grant) -> None:
        async with self._database.transaction(_tenant(session)) as tx:
            await self._ledger.end(tx, grant.id, gateway.agent.id, "the gateway did not open it")


def _tenant(session: AgentSession) -> UUID:
    tenant_id = session.agent.tenant_id
    if tenant_id is None:
        raise Malformed("this agent belongs to no tenant")
    return tenant_id


def _subject(session: AgentSession) -> Subject:
    """The person who enrolled the client, through exactly that device."""
    person_id = session.agent.person_id
    if person_id is None:
        raise Malformed("this client belongs to no person")
    return Subject(_tenant(session), SubjectKind.PERSON, person_id, device_id=session.agent.id)


def _refusal(asked: RequestAccess, error: LimenError) -> AccessAnswer:
    return AccessAnswer(
        request_id=asked.request_id,
        allowed=False,
        resource_id=asked.resource_id,
        code=error.code,
        reason=error.message,
        fix=error.fix,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
