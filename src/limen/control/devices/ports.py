"""What this room needs from outside: the agent authority (keyd) and a connection."""

from typing import Protocol
from uuid import UUID

from limen.wire.keyd import Certificate


class AgentAuthority(Protocol):
    """Issues agent certificates and keeps its own record of whom; the client of keyd is one."""

    async def enrol_agent(
        self, agent_id: UUID, tenant_id: UUID | None, kind: str, identity_key: bytes, sealing_key: bytes
    ) -> Certificate:
        """Record an agent and certify its key."""
        ...

    async def renew_agent(self, agent_id: UUID) -> Certificate:
        """A fresh certificate for the key on record."""
        ...

    async def remove_agent(self, agent_id: UUID) -> None:
        """No certificate and no re-sealing for this agent any more. Idempotent."""
        ...


class Wire(Protocol):
    """One accepted connection, whole messages in and out. ``ConnectionError`` means that it is over."""

    async def receive(self) -> bytes:
        """The next message."""
        ...

    async def transmit(self, data: bytes) -> None:
        """Send one message; returns once it has left our buffers enough to go on."""
        ...

    async def close(self) -> None:
        """End the connection. Idempotent."""
        ...
