"""A running control plane for agents."""

from tests.support.agent_plane import plane

__all__ = ["plane"]
