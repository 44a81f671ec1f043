"""The control plane's side of one agent connection, from its first message to its end.

The order of a connection, and what ends it:

1. ``Hello`` within ``HELLO_SECONDS``; protocol, kind, id and clock against the certificate, then the certificate
   against the record. Any mismatch: ``Refuse``, audited.
2. The session enters the hub (a former one of the same agent ends first), ``Welcome``, ``handler.connected``.
3. Reading, changes and writing run side by side until one of them ends or the session is closed from outside.
4. The refusal, if any, is sent and the connection closed; ``handler.disconnected``; the session leaves the hub.

Nothing received is trusted before 1 is through, and every later message is checked for kind and tenant.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from limen.control.devices import rules
from limen.control.devices.errors import Refused, WrongClock
from limen.control.devices.model import PeerCertificate
from limen.control.devices.ports import Wire
from limen.control.devices.service.handler import AgentHandler
from limen.control.devices.service.hub import AgentHub
from limen.control.devices.service.registry import AgentRegistry
from limen.control.devices.service.session import AgentSession
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, LimenError, Malformed, NotFound, Unavailable
from limen.wire.agent import (
    DEFAULT_OFFLINE_TOLERANCE_SECONDS,
    FromAgent,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Receipt,
    ReceiptAck,
    Refuse,
    RefuseCode,
    Renew,
    Renewed,
    Welcome,
)
from limen.wire.codec import decode, encode

HELLO_SECONDS = 10.0
CONNECT_SECONDS = 30.0
FAREWELL_SECONDS = 2.0
HEARTBEAT_SECONDS = 10.0
SILENT_BEATS = 3
MIN_RENEWAL_INTERVAL_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class ChannelServer:
    """Serves accepted connections; the network server around it is :mod:`limen.api.agents`."""

    def __init__(
        self,
        hub: AgentHub,
        registry: AgentRegistry,
        clock: Clock,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        lease_seconds: float = DEFAULT_OFFLINE_TOLERANCE_SECONDS,
    ) -> None:
        self.hub = hub
        self._registry = registry
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._lease_seconds = lease_seconds
        self._rechecks: set[asyncio.Task[None]] = set()
        hub.on_device_changed(self._start_recheck)

    async def serve(self, wire: Wire, peer: PeerCertificate, source: str) -> None:
        """Run one connection to its end. ``source`` is the peer's network address."""
        try:
            session = await self._admit(wire, peer, source)
        except Refused as exc:
            await self._registry.record_refusal(peer, exc.reason, source)
            await _farewell(wire, Refuse(code=exc.reason, message=exc.message, fix=exc.fix))
            return
        except Unavailable as exc:
            await _farewell(wire, Refuse(code=RefuseCode.UNAVAILABLE, message=exc.message, fix=exc.fix))
            return
        except (ConnectionError, TimeoutError):
            await wire.close()
            return
        try:
            await self._serve_session(wire, session, peer)
        finally:
            session.finish()
            self.hub.leave(session)
            session.ended.set()

    async def _admit(self, wire: Wire, peer: PeerCertificate, source: str) -> AgentSession:
        async with asyncio.timeout(HELLO_SECONDS):
            data = await wire.receive()
        try:
            hello = decode(data, Hello)
        except Malformed as exc:
            raise Refused(RefuseCode.MALFORMED, f"the first message is no Hello: {exc.message}") from None
        rules.check_hello(hello, peer, self._clock.now())
        agent = await self._registry.admit(peer, hello.software, source)
        self.hub.handler(agent.kind)
        return AgentSession(agent, hello, source)

    async def _serve_session(self, wire: Wire, session: AgentSession, peer: PeerCertificate) -> None:
        handler = self.hub.handler(session.agent.kind)
        entered = False
        try:
            await self.hub.enter(session)
            # A removal that committed after the record was read found no session to close; look again.
            rules.check_agent(await self._registry.find(peer.tenant_id, peer.agent_id), peer)
            session.post(self._welcome(session))
            entered = True
            await self._run(wire, session, handler, peer.not_after)
        except Exception as exc:
            _close_for(session, exc)
        finally:
            # Shielded: a cancelled connection must still tell its handler, and leave no half-open session.
            await asyncio.shield(self._end(wire, session, handler, entered))

    async def _end(self, wire: Wire, session: AgentSession, handler: AgentHandler, entered: bool) -> None:
        session.finish()
        await _farewell(wire, session.refusal)
        if entered:
            try:
                await handler.disconnected(session)
            except Exception:
                _log.exception("handler failed at the end of a session", agent_id=str(session.agent.id))
        why = session.refusal.code if session.refusal is not None else "closed"
        await self._registry.left(session.agent, session.hello.software, why)

    async def _run(self, wire: Wire, session: AgentSession, handler: AgentHandler, certified_until: datetime) -> None:
        reading = _Reading(self, wire, session, handler, certified_until)
        tasks = {
            asyncio.create_task(session.over.wait()),
            asyncio.create_task(_write(wire, session)),
            asyncio.create_task(reading.run()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _welcome(self, session: AgentSession) -> Welcome:
        agent = session.agent
        return Welcome(
            now=self._clock.now().timestamp(),
            heartbeat_seconds=self._heartbeat_seconds,
            lease_seconds=self._lease_seconds,
            tenant_id=agent.tenant_id,
            tunnel_address=agent.tunnel_address,
            tunnel_network=str(rules.TUNNEL_NETWORK) if agent.tunnel_address else "",
        )

    # --- what the reading side asks for ---

    @property
    def silence_seconds(self) -> float:
        """How long an agent may say nothing."""
        return SILENT_BEATS * self._heartbeat_seconds

    def answer_heartbeat(self, session: AgentSession, beat: Heartbeat, certified_until: datetime) -> None:
        """Acknowledge, and renew the lease of an agent that is current.

        Raises:
            Refused: when its certificate has run out or its clock has gone wrong.
        """
        now = self._clock.now()
        if certified_until <= now:
            raise Refused(RefuseCode.CERTIFICATE, "the agent's certificate has run out", fix="renew it")
        try:
            rules.check_clock(beat.now, now)
        except WrongClock as exc:
            # Not for good: the beat may have waited while the host slept. A wrong clock shows at Hello.
            raise Refused(RefuseCode.SLOW, exc.message, fix=exc.fix) from None
        current = self.hub.may_renew() and session.is_current(beat.applied)
        lease = self._lease_seconds if current else 0.0
        session.post(HeartbeatAck(now=now.timestamp(), lease_seconds=lease))

    async def renew(self, session: AgentSession) -> datetime:
        """Send a fresh certificate; return when it runs out."""
        certificate = await self._registry.renew(session.agent)
        session.post(Renewed(certificate_pem=certificate.pem, not_after=certificate.not_after))
        return datetime.fromtimestamp(certificate.not_after, UTC)

    # --- removed while connected ---

    def _start_recheck(self, session: AgentSession) -> None:
        task = asyncio.create_task(self._recheck(session))
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _recheck(self, session: AgentSession) -> None:
        agent = session.agent
        peer = PeerCertificate(agent.tenant_id, agent.id, agent.kind, agent.spki_sha256, self._clock.now())
        try:
            rules.check_agent(await self._registry.find(agent.tenant_id, agent.id), peer)
        except Exception as exc:
            _close_for(session, exc)


class _Reading:
    """One session's messages in, and its changes, each strictly in order."""

    def __init__(
        self,
        server: ChannelServer,
        wire: Wire,
        session: AgentSession,
        handler: AgentHandler,
        certified_until: datetime,
    ) -> None:
        self._server = server
        self._wire = wire
        self._session = session
        self._handler = handler
        self._certified_until = certified_until
        self._renewed_at = float("-inf")

    async def run(self) -> None:
        """Until the agent says goodbye; raises what ends the session otherwise."""
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._handler.connected(self._session, self._session.hello)
        changes = asyncio.create_task(self._changes())
        messages = asyncio.create_task(self._messages())
        try:
            done, _ = await asyncio.wait({changes, messages}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (changes, messages):
                task.cancel()
            await asyncio.gather(changes, messages, return_exceptions=True)

    async def _changes(self) -> None:
        while True:
            await self._handler.changed(self._session, await self._session.next_change())

    async def _messages(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._server.silence_seconds):
                    data = await self._wire.receive()
            except TimeoutError:
                raise Refused(RefuseCode.SLOW, "the agent has been silent for too long") from None
            message: Any = decode(data, FromAgent)
            rules.check_message(self._session.agent, message)
            if isinstance(message, Goodbye):
                return
            await self._message(message)

    async def _message(self, message: Any) -> None:
        if isinstance(message, Heartbeat):
            self._server.answer_heartbeat(self._session, message, self._certified_until)
        elif isinstance(message, Renew):
            await self._renew()
        else:
            await self._handler.received(self._session, message)
            if isinstance(message, Receipt):
                self._session.post(ReceiptAck(tenant_id=message.tenant_id, grant_id=message.grant_id))

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at < MIN_RENEWAL_INTERVAL_SECONDS:
            raise Refused(RefuseCode.DENIED, "the agent renews its certificate too often")
        self._renewed_at = now
        self._certified_until = await self._server.renew(self._session)


async def _write(wire: Wire, session: AgentSession) -> None:
    while (data := await session.next_outgoing()) is not None:
        await wire.transmit(data)


async def _farewell(wire: Wire, refusal: Refuse | None) -> None:
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            if refusal is not None:
                await wire.transmit(encode(refusal))
    await wire.close()


def _close_for(session: AgentSession, exc: Exception) -> None:
    """End a session because of ``exc``; nothing that could hold a secret is sent or logged."""
    match exc:
        case ConnectionError():
            session.finish()
        case Refused():
            session.refuse(exc)
        case Malformed():
            session.close(RefuseCode.MALFORMED, exc.message, fix=exc.fix)
        case Denied() | NotFound():
            session.close(RefuseCode.DENIED, "the message names something that is not this agent's")
        case LimenError() | TimeoutError():
            _log.warning("agent session ends", agent_id=str(session.agent.id), error=str(exc))
            session.close(RefuseCode.UNAVAILABLE, "the control plane cannot serve this agent now")
        case _:
            _log.error("agent session failed", agent_id=str(session.agent.id), exc_info=exc)
            session.close(RefuseCode.UNAVAILABLE, "the control plane cannot serve this agent now")
