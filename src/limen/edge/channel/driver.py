"""The I/O around :mod:`limen.edge.channel.machine`: sockets, clocks, files, and the calls to the handler.

Three tasks: the *loop* feeds the machine and never waits for anything else; the *connection* reads and writes the
WebSocket; the *worker* calls the handler, one call at a time. A handler that hangs therefore delays neither
heartbeats nor reading, but what it has not applied is not reported, so that the lease is not renewed.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from limen.edge.channel import machine as m
from limen.edge.channel.enrolment import renew_without_channel
from limen.edge.channel.errors import AgentRefused
from limen.edge.channel.identity import Identity
from limen.edge.channel.ports import ChannelHandler
from limen.kernel.clock import Clock, SystemClock
from limen.kernel.errors import LimenError, Malformed, Unavailable
from limen.runtime.tls import agent_client_context
from limen.wire.agent import (
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_TO_AGENT_BYTES,
    PROTOCOL,
    Events,
    Heartbeat,
    Hello,
    Receipt,
    Refuse,
    ToAgent,
)
from limen.wire.codec import decode, encode

DIAL_SECONDS = 10.0
CLOSE_SECONDS = 2.0
MAX_QUEUED_CALLS = 10_000
MAX_QUEUED_MESSAGES = 10_000
RENEW_AT_SHARE_OF_LIFE = 2 / 3
EXPIRY_MARGIN_SECONDS = 60.0
_LONGEST_SLEEP_SECONDS = 5.0
"""Timers of the event loop stand still while the host sleeps; this bounds how late the lease notices."""

_log = structlog.get_logger(__name__)


def boot_time() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Channel:
    """The channel of one agent. Make one, hand it to the handler for :meth:`send`, then :meth:`run` it."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock | None = None,
        steady: Callable[[], float] = boot_time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.identity = identity
        self._clock = clock or SystemClock()
        self._steady = steady
        self._jitter = jitter
        self._machine = m.ChannelMachine()
        self._events: asyncio.Queue[m.Event] = asyncio.Queue()
        self._calls: asyncio.Queue[m.Command] = asyncio.Queue()
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._connection: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._handler: ChannelHandler | None = None
        self._refusal: Refuse | None = None

    @property
    def online(self) -> bool:
        """Whether the control plane has welcomed the present connection."""
        return self._machine.online

    async def send(self, message: Any) -> None:
        """Send one message of ``wire.agent.FromAgent``.

        ``Receipt`` and ``Events`` are accepted at any time and delivered at least once.

        Raises:
            Unavailable: for every other message, when there is no connection.
            ValueError: when it is larger than ``MAX_MESSAGE_BYTES``.
        """
        if not self.online and not isinstance(message, Receipt | Events):
            raise Unavailable("the control plane is not connected", fix="the agent reconnects by itself")
        if len(encode(message)) > MAX_MESSAGE_BYTES:
            # Before it is kept: it would fail again at every reconnection.
            raise ValueError(f"{type(message).__name__} is larger than a message may be")
        self._step(m.Send(message))

    def applied_changed(self) -> None:
        """Say that ``applied()`` has a new answer outside of a ``received`` call."""
        if self._handler is not None:
            self._post(m.AppliedNow(self._handler.applied()))

    def stop(self) -> None:
        """Say goodbye and let :meth:`run` return."""
        self._post(m.Stop())

    async def run(self, handler: ChannelHandler) -> None:
        """Keep the channel open until :meth:`stop`, cancellation, or a permanent refusal.

        Raises:
            AgentRefused: the control plane refuses for good: the agent was removed, its clock is wrong, its
                release does not fit, or another process uses its identity. ``lapsed`` was called before.
            BadIdentity: the state directory became unusable.
        """
        if self._handler is not None:
            raise RuntimeError("a channel runs once")
        self._handler = handler
        worker = asyncio.create_task(self._work(handler))
        try:
            self._post(self._certified())
            while self._machine.phase is not m.Phase.OVER:
                self._step(await self._next_event(worker))
            await self._drain_calls(worker)
        finally:
            await self._shut(worker)
        if self._refusal is not None:
            raise AgentRefused(self._refusal.code, self._refusal.message, fix=self._refusal.fix)

    # --- loop ---

    def _post(self, event: m.Event) -> None:
        self._events.put_nowait(event)

    def _step(self, event: m.Event) -> None:
        for command in self._machine.handle(event, self._steady()):
            self._execute(command)

    async def _next_event(self, worker: asyncio.Task[None]) -> m.Event:
        if worker.done():
            worker.result()
        wake = self._machine.next_wake()
        seconds = _LONGEST_SLEEP_SECONDS if wake is None else wake - self._steady()
        try:
            async with asyncio.timeout(min(max(seconds, 0.0), _LONGEST_SLEEP_SECONDS)):
                return await self._events.get()
        except TimeoutError:
            return m.Tick()

    def _execute(self, command: m.Command) -> None:
        match command:
            case m.Dial():
                self._out = asyncio.Queue(MAX_QUEUED_MESSAGES)
                self._connection = asyncio.create_task(self._connect(self._out))
            case m.SayHello():
                self._transmit(self._hello())
            case m.SayHeartbeat():
                self._transmit(Heartbeat(now=self._clock.now().timestamp(), applied=self._applied()))
            case m.Transmit(message):
                self._transmit(message)
            case m.HangUp(reason):
                _log.info("channel closes", reason=reason)
                self._hang_up()
            case m.SaveCertificate(pem):
                self._save_certificate(pem)
            case m.Fail(refusal):
                self._refusal = refusal
            case _:
                self._call(command)

    def _call(self, command: m.Command) -> None:
        if self._calls.qsize() >= MAX_QUEUED_CALLS and isinstance(command, m.Deliver):
            # The handler is stuck. What is lost here comes back with the Sync of the next connection.
            self._cut("the enforcement point is too slow")
            return
        self._calls.put_nowait(command)

    def _transmit(self, message: Any) -> None:
        self._put_out(encode(message))

    def _put_out(self, data: bytes | None) -> None:
        try:
            self._out.put_nowait(data)
        except asyncio.QueueFull:
            self._cut("the control plane reads too slowly")

    def _hang_up(self) -> None:
        self._put_out(None)
        asyncio.get_running_loop().call_later(2 * CLOSE_SECONDS, self._abort, self._connection)

    def _cut(self, reason: str) -> None:
        _log.warning("channel is cut", reason=reason)
        self._abort(self._connection)

    def _abort(self, connection: "asyncio.Task[None] | None") -> None:
        """End a connection without waiting for the peer. Closing it properly waits until all that was written has
        left, which a peer that is gone makes last for ever."""
        if connection is None or connection is not self._connection:
            return
        if self._socket is not None:
            self._socket.transport.abort()
        else:
            connection.cancel()

    def _hello(self) -> Hello:
        assert self._handler is not None
        fields = self._handler.hello()
        return Hello(
            protocol=PROTOCOL,
            kind=self.identity.kind,
            agent_id=self.identity.agent_id,
            software=fields.software,
            now=self._clock.now().timestamp(),
            wireguard_public_key=fields.wireguard_public_key,
            listen_port=fields.listen_port,
            addresses=fields.addresses,
        )

    def _applied(self) -> Any:
        assert self._handler is not None
        return self._handler.applied()

    # --- certificate ---

    def _certified(self) -> m.Certified:
        not_before, not_after = self.identity.certificate_life()
        renew_at = not_before + (not_after - not_before) * RENEW_AT_SHARE_OF_LIFE
        return m.Certified(renew_at - self._clock.now().timestamp())

    def _save_certificate(self, pem: bytes) -> None:
        self.identity.replace_certificate(pem)
        self._post(self._certified())
        _log.info("certificate renewed")

    async def _renew_if_run_out(self) -> None:
        _, not_after = self.identity.certificate_life()
        if not_after - self._clock.now().timestamp() < EXPIRY_MARGIN_SECONDS:
            self._save_certificate(await renew_without_channel(self.identity, self._clock))

    # --- connection ---

    async def _connect(self, out: "asyncio.Queue[bytes | None]") -> None:
        try:
            await self._renew_if_run_out()
            async with connect(
                self.identity.agent.channel_url,
                ssl=self._tls(),
                proxy=None,
                compression=None,
                max_size=MAX_MESSAGE_TO_AGENT_BYTES,
                open_timeout=DIAL_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=None,  # heartbeats are the proof of life
                user_agent_header=None,
            ) as socket:
                self._post(m.Dialled())
                await self._talk(socket, out)
        except AgentRefused as exc:
            self._post(m.Arrived(Refuse(code=exc.reason, message=exc.message, fix=exc.fix)))
        except LimenError as exc:
            _log.warning("channel failed", error=exc.message, fix=exc.fix)
        except (OSError, EOFError, TimeoutError, WebSocketException) as exc:
            _log.warning("channel failed", server=self.identity.agent.channel_url, error=_reason(exc))
        finally:
            self._post(m.Dropped(self._jitter()))

    def _tls(self) -> ssl.SSLContext:
        return agent_client_context(
            self.identity.certificate_path, self.identity.key_path, self.identity.authorities_path
        )

    async def _talk(self, socket: ClientConnection, out: "asyncio.Queue[bytes | None]") -> None:
        writer = asyncio.create_task(self._write(socket, out))
        self._socket = socket
        try:
            async for data in socket:
                self._post(m.Arrived(decode(data, ToAgent)))
        except Malformed:
            socket.transport.abort()
            raise
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, WebSocketException):
                await writer
            self._socket = None

    async def _write(self, socket: ClientConnection, out: "asyncio.Queue[bytes | None]") -> None:
        while True:
            data = await out.get()
            if data is None:
                await socket.close()
                return
            await socket.send(data, text=True)

    # --- handler ---

    async def _work(self, handler: ChannelHandler) -> None:
        while True:
            command = await self._calls.get()
            try:
                await self._one_call(handler, command)
            except Exception:
                _log.exception("the enforcement point failed on a message", command=type(command).__name__)
                self._cut("the enforcement point failed")
            finally:
                self._calls.task_done()

    async def _one_call(self, handler: ChannelHandler, command: m.Command) -> None:
        match command:
            case m.TellWelcomed(welcome):
                await handler.welcomed(welcome)
                # Who has nothing to apply (a file agent without sessions) earns its lease now, not with a later beat.
                self._post(m.AppliedNow(handler.applied()))
            case m.Deliver(message):
                await handler.received(message)
                self._post(m.AppliedNow(handler.applied()))
            case m.TellLease(until):
                seconds = until - self._steady()
                if seconds > 0:
                    await handler.lease(seconds)
            case m.Lapse():
                await handler.lapsed()
            case m.TellLost():
                await handler.lost()

    async def _drain_calls(self, worker: asyncio.Task[None]) -> None:
        done = asyncio.ensure_future(self._calls.join())
        await asyncio.wait({done, worker}, return_when=asyncio.FIRST_COMPLETED, timeout=DIAL_SECONDS)
        done.cancel()

    async def _shut(self, worker: asyncio.Task[None]) -> None:
        if self._connection is not None and self._machine.phase is m.Phase.OVER:
            await asyncio.wait({self._connection}, timeout=CLOSE_SECONDS)  # let the goodbye leave
        if self._socket is not None:
            self._socket.transport.abort()
        tasks = [task for task in (self._connection, worker) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reason(exc: BaseException) -> str:
    """A plain line for the log."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the control plane's certificate is not valid: {exc.verify_message}"
    return str(exc) or type(exc).__name__
