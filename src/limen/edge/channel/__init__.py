"""The agent's side of the agent channel, shared by all enforcement points.

An enforcement point implements :class:`ChannelHandler`, opens its :class:`Identity` (made once by
:func:`enrol`) and runs a :class:`Channel`::

    identity = await enrol(token, state_dir, AgentKind.GATEWAY)      # once
    channel = Channel(load_identity(state_dir), handler)
    await channel.run()                                              # until cancelled, or refused for good

Rules that the channel keeps, so that enforcement points need not:

- It reconnects by itself with jittered exponential backoff, renews its certificate, and sends heartbeats.
- ``lease(seconds)`` says how long the grants may live on from now; ``lapsed()`` says that this time is over
  without renewal, or that the agent was refused for good. ``lost()`` says only that the connection is gone.
- ``Receipt`` and ``Events`` given to :meth:`Channel.send` are kept until they are acknowledged, over
  reconnections too, and may reach the control plane twice. Every other message needs a connection.
- Handler methods are called strictly one after the other.

The protocol is in :mod:`limen.edge.channel.machine`, without I/O.
"""

from limen.edge.channel.driver import Channel
from limen.edge.channel.enrolment import enrol
from limen.edge.channel.errors import AgentRefused, BadIdentity
from limen.edge.channel.identity import Identity, load_identity
from limen.edge.channel.ports import ChannelHandler

__all__ = [
    "AgentRefused",
    "BadIdentity",
    "Channel",
    "ChannelHandler",
    "Identity",
    "enrol",
    "load_identity",
]
