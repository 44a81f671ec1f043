"""The file door at work: sessions, sign-ins and the agent channel, joined to the pure parts.

:class:`Door` is the :class:`~limen.edge.channel.ChannelHandler` of the SFTP process. ``ssh`` calls it for sign-ins
and for each session's deeds; ``machine`` decides what lives; this module carries the commands out. Cutting a session
is synchronous: its last byte is out before the receipt is written.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

import structlog

from limen.edge.channel.ports import HelloFields
from limen.edge.sftp.files import FileSession
from limen.edge.sftp.ledger import MAX_EVENTS, EventLedger
from limen.edge.sftp.limits import ConnectionLimits, Doorman
from limen.edge.sftp.machine import Account, Command, Cut, Moment, Send, SessionBook
from limen.edge.sftp.ports import Sender
from limen.edge.sftp.storage.connect import StorageConnector
from limen.edge.sftp.storage.errors import StorageError
from limen.kernel.access import Action
from limen.kernel.errors import Denied, LimenError, Unavailable
from limen.wire.agent import (
    AppliedVersion,
    Authenticate,
    AuthenticateAnswer,
    CloseGrants,
    DoorEvent,
    EventsAck,
    FileGrant,
    Receipt,
    Sync,
    Welcome,
)

log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 15.0
BATCH_SECONDS: Final = 0.2
"""Door events wait this long for company before they are sent."""
_LONGEST_WAIT: Final = 1.0


class Connection(Protocol):
    """One client's SSH connection as the door needs it."""

    def cut(self, reason: str) -> None:
        """Drop the connection now; nothing more may reach the client."""
        ...


@dataclass(slots=True)
class Session:
    """A signed-in connection. ``files`` are the SFTP channels opened on it."""

    id: int
    tenant_id: UUID
    grant: FileGrant
    connection: Connection
    files: set[FileSession] = field(default_factory=set)
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks, injected for tests."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic

    def now(self) -> Moment:
        """This instant."""
        return Moment(self.wall(), self.steady())


class Door:
    """All sessions of this process. ``sender`` is the agent channel."""

    def __init__(
        self,
        sender: Sender,
        storage: StorageConnector,
        *,
        software: str = "",
        limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - frozen
        clocks: Clocks = Clocks(),
        max_events: int = MAX_EVENTS,
    ) -> None:
        self.doorman = Doorman(limits)
        self._sender = sender
        self._storage = storage
        self._software = software
        self._clocks = clocks
        self._book = SessionBook()
        self._ledger = EventLedger(max_events)
        self._sessions: dict[int, Session] = {}
        self._session_numbers = itertools.count(1)
        self._request_numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[AuthenticateAnswer]] = {}
        self._outbox: asyncio.Queue[Send] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._tidying: set[asyncio.Task[None]] = set()

    # --- running ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep time, send what is due. Runs until cancelled; then cuts everything and tidies up."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_time())
                group.create_task(self._send_outbox())
                group.create_task(self._send_events())
        finally:
            self._execute(self._book.stop(self._clocks.now()))
            await self._tidied()

    async def _keep_time(self) -> None:
        while True:
            self._execute(self._book.tick(self._clocks.now()))
            wait = self._book.wait_seconds(self._clocks.now())
            await asyncio.sleep(_LONGEST_WAIT if wait is None else min(max(wait, 0.001), _LONGEST_WAIT))

    async def _send_outbox(self) -> None:
        while True:
            await self._send(await self._outbox.get())

    async def _send(self, command: Send) -> None:
        try:
            await self._sender.send(command.message)
        except Unavailable:
            if isinstance(command.message, Receipt):  # the channel keeps receipts; anything else a Sync repairs
                log.error("a receipt could not be handed to the channel")

    async def _send_events(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_SECONDS)
            self._wake.clear()
            for batch in self._ledger.due():
                await self._sender.send(batch)

    async def _tidied(self) -> None:
        """Uploads are aborted, then the last receipts and events leave."""
        if self._tidying:
            await asyncio.wait(self._tidying, timeout=ANSWER_SECONDS)
        while not self._outbox.empty():
            await self._send(self._outbox.get_nowait())
        for batch in self._ledger.due():
            await self._sender.send(batch)

    # --- the agent channel ------------------------------------------------------------------------------------

    def hello(self) -> HelloFields:
        """See ``ChannelHandler``."""
        return HelloFields(software=self._software)

    def applied(self) -> tuple[AppliedVersion, ...]:
        """See ``ChannelHandler``."""
        return self._book.applied()

    async def welcomed(self, welcome: Welcome) -> None:
        """See ``ChannelHandler``."""
        self._book.welcomed(self._clocks.now())

    async def received(self, message: object) -> None:
        """See ``ChannelHandler``."""
        now = self._clocks.now()
        match message:
            case CloseGrants():
                self._execute(self._book.close_grants(message.tenant_id, message.version, message.grants, now))
            case AuthenticateAnswer():
                waiting = self._answers.pop(message.request_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case Sync():
                self._execute(self._book.sync(message.tenant_id, message.version, message.files, now))
            case EventsAck():
                self._ledger.acknowledged(message.batch)
                self._wake.set()
            case _:
                log.warning("the control plane sent a message that is not for file agents", kind=type(message).__name__)

    async def lease(self, seconds: float) -> None:
        """See ``ChannelHandler``."""
        self._book.lease(seconds, self._clocks.now())

    async def lapsed(self) -> None:
        """See ``ChannelHandler``."""
        self._execute(self._book.lapsed(self._clocks.now()))

    async def lost(self) -> None:
        """See ``ChannelHandler``."""
        waiting, self._answers = list(self._answers.values()), {}
        for future in waiting:
            if not future.done():
                future.set_exception(Unavailable("the control plane is not connected"))

    # --- what the SSH side calls --------------------------------------------------------------------------------

    async def probe_key(self, account: Account, source: str, public_key: str) -> bool:
        """Whether this key would do; proves nothing and opens nothing."""
        try:
            answer = await self._ask(account, source, public_key=public_key, probe=True)
        except LimenError:
            return False
        return answer.allowed

    async def sign_in(
        self, connection: Connection, account: Account, source: str, *, password: str = "", public_key: str = ""
    ) -> Session:
        """Ask the control plane; open a session under the grant it answers with.

        Raises:
            Denied: no, without a reason.
            Unavailable: there is no control plane or no lease.
        """
        if not self._book.may_sign_in(self._clocks.now()):
            raise Unavailable("the control plane does not answer")
        self._book.sign_in_started(account)
        try:
            answer = await self._ask(account, source, password=password, public_key=public_key, probe=False)
            if not answer.allowed or answer.grant is None or answer.tenant_id is None:
                raise Denied("not allowed")
            number = next(self._session_numbers)
            self._book.open(number, answer.tenant_id, account, answer.grant, self._clocks.now())
            session = Session(number, answer.tenant_id, answer.grant, connection)
            self._sessions[number] = session
            return session
        finally:
            self._execute(self._book.sign_in_ended(account, self._clocks.now()))

    async def open_files(self, session: Session) -> FileSession:
        """One more SFTP channel of a session.

        Raises:
            LimenError: its storage cannot be opened, or the session has been cut meanwhile.
        """
        try:
            jail, storage = await self._storage.open(session.tenant_id, session.grant)
        except LimenError as exc:
            diagnosis = exc.diagnosis if isinstance(exc, StorageError) else exc.message
            log.warning("a connection's storage cannot be opened", diagnosis=diagnosis)
            self.record(session, "files.session.open", "failed", "", 0, diagnosis)
            raise
        if session.ended:
            await storage.close()
            raise Denied("the session has ended")
        actions = frozenset(Action(action) for action in session.grant.actions)
        files = FileSession(jail, actions, storage, _SessionJournal(self, session))
        session.files.add(files)
        self.record(session, "files.session.open", "ok", "", 0, "")
        return files

    async def close_files(self, session: Session, files: FileSession) -> None:
        """An SFTP channel has ended: unfinished uploads go, the rest is recorded."""
        session.files.discard(files)
        await files.abort(session.ended or "disconnected")
        await files.close()

    def gone(self, session: Session) -> None:
        """The connection of a session has ended."""
        session.ended = session.ended or "disconnected"
        self._sessions.pop(session.id, None)
        self._execute(self._book.gone(session.id, self._clocks.now()))

    def record(self, session: Session, action: str, outcome: str, path: str, size: int, detail: str) -> None:
        """One door event."""
        event = DoorEvent(
            grant_id=session.grant.id,
            action=action,
            outcome=outcome,
            at=self._clocks.wall(),
            path=path,
            bytes=size,
            detail=detail,
        )
        self._ledger.record(session.tenant_id, event)
        self._wake.set()

    @property
    def can_record(self) -> bool:
        """Whether new operations may begin."""
        return not self._ledger.full

    def bytes_of(self, grant_id: UUID) -> tuple[int, int]:
        """(bytes in, bytes out) of a live grant so far."""
        return self._book.bytes_of(grant_id)

    def total_bytes(self) -> tuple[int, int]:
        """The same over all live grants."""
        return self._book.total_bytes()

    def moved(self, session: Session, bytes_in: int, bytes_out: int) -> None:
        """Payload, just now."""
        self._book.count(session.id, self._clocks.wall(), bytes_in=bytes_in, bytes_out=bytes_out)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _ask(
        self, account: Account, source: str, *, password: str = "", public_key: str = "", probe: bool
    ) -> AuthenticateAnswer:
        number = next(self._request_numbers)
        answer: asyncio.Future[AuthenticateAnswer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._sender.send(
                Authenticate(
                    request_id=number,
                    connection=account.connection,
                    user=account.user,
                    source=source,
                    password=password,
                    public_key=public_key,
                    probe=probe,
                )
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise Unavailable("the control plane does not answer") from None
        finally:
            self._answers.pop(number, None)

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Cut(number, reason):
                    self._cut(number, reason)
                case Send():
                    self._outbox.put_nowait(command)

    def _cut(self, number: int, reason: str) -> None:
        session = self._sessions.pop(number, None)
        if session is None:
            return
        session.ended = reason
        session.connection.cut(reason)
        for files in session.files:
            files.shut()
            task = asyncio.create_task(files.abort(reason))
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)
        log.info("session cut", session=number, reason=reason)


class _SessionJournal:
    """A session's side of :class:`limen.edge.sftp.files.Journal`."""

    def __init__(self, door: Door, session: Session) -> None:
        self._door = door
        self._session = session

    def writable(self) -> bool:
        return self._door.can_record and not self._session.ended

    def record(self, action: str, outcome: str, path: str, size: int, detail: str) -> None:
        self._door.record(self._session, action, outcome, path, size, detail)

    def moved(self, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        self._door.moved(self._session, bytes_in, bytes_out)
