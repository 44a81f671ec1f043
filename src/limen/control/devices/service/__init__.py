"""What other rooms and the process mains use of this room.

:class:`EnrolmentService` makes tokens and turns them into agents; :class:`AgentRegistry` finds, lists and removes
agents. :class:`AgentHub` knows the open sessions; rooms register an :class:`AgentHandler` for the kind of agent
they serve and talk through :class:`AgentSession`. :class:`ChannelServer` runs one accepted connection.
"""

from limen.control.devices.model import Agent, AgentState
from limen.control.devices.ports import AgentAuthority
from limen.control.devices.service.channel import ChannelServer
from limen.control.devices.service.enrolment import EnrolmentService, NewToken, ServerAddress
from limen.control.devices.service.handler import AgentHandler
from limen.control.devices.service.hub import AgentHub
from limen.control.devices.service.registry import AgentRegistry
from limen.control.devices.service.session import AgentSession

__all__ = [
    "Agent",
    "AgentAuthority",
    "AgentHandler",
    "AgentHub",
    "AgentRegistry",
    "AgentSession",
    "AgentState",
    "ChannelServer",
    "EnrolmentService",
    "NewToken",
    "ServerAddress",
]
