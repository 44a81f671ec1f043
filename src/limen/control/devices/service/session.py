"""One open agent channel, seen from the control plane.

Guarantees:

- *Order.* Messages leave in the order of the calls of :meth:`AgentSession.send`.
- *No waiting.* ``send`` never blocks on the agent: the queue is bounded by count and bytes, and an agent that
  lets it fill is disconnected. A cut for one agent never waits for another.
- *No resurrection.* After the change that ended a grant reached this session, an ``OpenGrant`` of that grant
  cannot be sent any more, and a sign-in that was answered with it is refused, in whatever order the tasks of the
  control plane run.
- *One tenant.* A message of another tenant than the agent's cannot be sent.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from uuid import UUID

from limen.control.devices.errors import Refused
from limen.control.devices.model import Agent
from limen.control.devices.rules import VersionLedger, check_tenant, tenants_named
from limen.kernel.errors import Conflict, Unavailable
from limen.kernel.facts import Change
from limen.wire.agent import (
    MAX_MESSAGE_TO_AGENT_BYTES,
    AppliedVersion,
    AuthenticateAnswer,
    CloseGrants,
    Hello,
    OpenGrant,
    Refuse,
    RefuseCode,
)
from limen.wire.codec import encode

MAX_QUEUED_MESSAGES = 4096
MAX_QUEUED_BYTES = 2 * MAX_MESSAGE_TO_AGENT_BYTES
MAX_QUEUED_CHANGES = 4096
CLOSED_GRANTS_REMEMBERED_SECONDS = 300.0
"""Longer than any request for a grant may run."""


class AgentSession:
    """An accepted agent. Rooms use :attr:`agent`, :attr:`hello` and :meth:`send`; the rest is the hub's."""

    def __init__(
        self, agent: Agent, hello: Hello, source: str = "", *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.agent = agent
        self.hello = hello
        self.source = source  # the peer's network address; never logged
        self.refusal: Refuse | None = None
        self.over = asyncio.Event()  # nothing more is sent; set first
        self.ended = asyncio.Event()  # the handler was told; set last
        self._ledger = VersionLedger()
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._changes: deque[Change] = deque()
        self._wake_writer = asyncio.Event()
        self._wake_changes = asyncio.Event()
        self._closed_grants: OrderedDict[UUID, float] = OrderedDict()
        self._steady = steady

    async def send(self, message: object) -> None:
        """Queue one message of ``wire.agent.ToAgent``. Never waits for the agent.

        Raises:
            Unavailable: when the session is over, or ends now because the agent does not read.
            Refused: when the message is of another tenant than the agent.
            Conflict: for an ``OpenGrant`` of a grant that has ended meanwhile.
            ValueError: when versions go backwards.
        """
        self.post(message)

    def post(self, message: object) -> None:
        """:meth:`send` for callers that are not coroutines."""
        if self.over.is_set():
            raise Unavailable("the agent is not connected", fix="try again once it is")
        for tenant_id in tenants_named(message):
            check_tenant(self.agent, tenant_id)
        if isinstance(message, OpenGrant) and message.tunnel.id in self._closed_grants:
            raise Conflict("the grant has ended meanwhile", fix="ask for access again")
        if isinstance(message, AuthenticateAnswer) and message.grant and message.grant.id in self._closed_grants:
            message = AuthenticateAnswer(request_id=message.request_id, allowed=False)
        self._ledger.sent(message)
        if isinstance(message, CloseGrants):
            self._remember(*(grant.id for grant in message.grants))
        data = encode(message)
        if len(self._out) >= MAX_QUEUED_MESSAGES or self._out_bytes + len(data) > MAX_QUEUED_BYTES:
            self.close(RefuseCode.SLOW, "the agent reads too slowly", fix="look at its load and its network")
            raise Unavailable("the agent does not read its channel", fix="try again once it is back")
        self._out.append(data)
        self._out_bytes += len(data)
        self._wake_writer.set()

    def close(self, code: RefuseCode, message: str, *, fix: str = "") -> None:
        """End the session with a ``Refuse``; what is queued before it is not sent any more. Idempotent."""
        if not self.over.is_set():
            self.refusal = Refuse(code=code, message=message, fix=fix)
            self._end()

    def refuse(self, refusal: Refused) -> None:
        """:meth:`close` with the reason in an error."""
        self.close(refusal.reason, refusal.message, fix=refusal.fix)

    def finish(self) -> None:
        """End the session without a word: the agent has gone or said goodbye."""
        if not self.over.is_set():
            self._end()

    def is_current(self, applied: tuple[AppliedVersion, ...]) -> bool:
        """Whether an agent that has applied this has all that concerns it."""
        return self._ledger.is_current(applied)

    def enqueue(self, change: Change) -> None:
        """Take note of a change at once and let the handler see it in its turn."""
        if self.over.is_set():
            return
        mine = [grant.id for grant in change.revoked if grant.agent_id == self.agent.id]
        if mine:
            self._ledger.require(change.tenant_id, change.version)
            self._remember(*mine)
        if len(self._changes) >= MAX_QUEUED_CHANGES:
            self.close(RefuseCode.SLOW, "the agent's changes are handled too slowly")
            return
        self._changes.append(change)
        self._wake_changes.set()

    async def next_change(self) -> Change:
        """The next change that is not part of the last ``Sync`` already; waits for one."""
        while True:
            while self._changes:
                change = self._changes.popleft()
                if self._ledger.is_news(change.tenant_id, change.version):
                    return change
            self._wake_changes.clear()
            await self._wake_changes.wait()

    async def next_outgoing(self) -> bytes | None:
        """The next message to transmit; waits for one. None once the session is over."""
        while not self.over.is_set():
            if self._out:
                data = self._out.popleft()
                self._out_bytes -= len(data)
                return data
            self._wake_writer.clear()
            await self._wake_writer.wait()
        return None

    def _end(self) -> None:
        self.over.set()
        self._out.clear()
        self._wake_writer.set()

    def _remember(self, *grant_ids: UUID) -> None:
        now = self._steady()
        for grant_id in grant_ids:
            self._closed_grants[grant_id] = now
            self._closed_grants.move_to_end(grant_id)
        while self._closed_grants:
            oldest = next(iter(self._closed_grants))
            if now - self._closed_grants[oldest] < CLOSED_GRANTS_REMEMBERED_SECONDS:
                break
            del self._closed_grants[oldest]
