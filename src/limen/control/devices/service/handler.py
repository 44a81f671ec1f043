"""What a room behind a kind of agent implements."""

from typing import Any, Protocol

from limen.control.devices.service.session import AgentSession
from limen.kernel.facts import Change
from limen.wire.agent import Hello


class AgentHandler(Protocol):
    """A room behind a kind of agent (network: gateway and client; files: sftp).

    ``connected`` returns before anything else is called for a session. Then ``received`` and ``changed`` may
    run at the same time as one another, each strictly one call after the other. ``disconnected`` is the last.

    An exception ends the session: ``Unavailable`` and unexpected ones so that the agent comes back,
    ``Denied``, ``Malformed`` and ``NotFound`` as a violation of the protocol.
    """

    async def connected(self, session: AgentSession, hello: Hello) -> None:
        """``Welcome`` is sent; send ``Sync`` now. Changes that commit meanwhile follow by ``changed``."""
        ...

    async def received(self, session: AgentSession, message: Any) -> None:
        """A message other than ``Hello``, ``Heartbeat``, ``Renew`` and ``Goodbye``; its kind and tenant are
        already checked, the objects it names are not. A ``Receipt`` may come twice."""
        ...

    async def changed(self, session: AgentSession, change: Change) -> None:
        """One version of a tenant, in order. Agents of a tenant get every change of it that is newer than
        their last ``Sync``, platform agents only those that ended one of their grants."""
        ...

    async def disconnected(self, session: AgentSession) -> None:
        """The session is over; sending raises."""
        ...
