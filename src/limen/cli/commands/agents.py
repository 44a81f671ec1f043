"""Agents: gateways and devices of the tenant, and the platform's own."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from limen.cli.api import Api
from limen.cli.command import Command
from limen.cli.commands.options import add_operator
from limen.cli.names import AGENT, PLATFORM_AGENT, Names
from limen.cli.render import Columns, at, moment, table
from limen.cli.run import Run, removed


def list_agents(run: Run, _given: Namespace) -> None:
    """The tenant's agents, or one's own devices."""
    _show(run, run.api.get("/agents"))


def token(run: Run, given: Namespace) -> None:
    """A one-time token for a gateway, or for a device of one's own."""
    body = {"kind": given.kind, "name": given.name, "site": given.site}
    _show_token(run, run.api.post("/agents/tokens", body))


def remove(run: Run, given: Namespace) -> None:
    """Remove an agent."""
    agent_id = run.names.id_of(AGENT, given.agent)
    run.api.delete(f"/agents/{agent_id}")
    removed(run, "removed", agent_id, f"Agent {given.agent} is removed; what it held open is shut")


def list_platform_agents(run: Run, given: Namespace) -> None:
    """Agents that serve all tenants."""
    _show(run, _operator(run, given).get("/platform/agents"))


def platform_token(run: Run, given: Namespace) -> None:
    """A one-time token for an agent that serves all tenants."""
    body = {"kind": given.kind, "name": given.name}
    _show_token(run, _operator(run, given).post("/platform/agents/tokens", body))


def remove_platform_agent(run: Run, given: Namespace) -> None:
    """Remove an agent of the platform."""
    api = _operator(run, given)
    agent_id = Names(api.get).id_of(PLATFORM_AGENT, given.agent)
    api.delete(f"/platform/agents/{agent_id}")
    removed(run, "removed", agent_id, f"Agent {given.agent} is removed; what it held open is shut")


def _operator(run: Run, given: Namespace) -> Api:
    return run.operator(given.operator_token_file, given.server, given.ca)


def _show(run: Run, answer: Mapping[str, Any]) -> None:
    columns: Columns = {
        "agent": "name",
        "kind": "kind",
        "site": "site",
        "connected": "connected",
        "last seen": at("last_seen_at"),
        "tunnel address": "tunnel_address",
        "id": "id",
    }
    run.out.result(answer, table(answer["agents"], columns, empty="No agents"))


def _show_token(run: Run, answer: Mapping[str, Any]) -> None:
    run.out.shown_once(
        answer,
        answer["token"],
        f"Good once, until {moment(answer['expires_at'])}; not shown again. On the agent's machine, as root:",
        f"  limen {answer['kind']} --state /var/lib/limen-{answer['kind']} --token TOKEN",
    )


def _token_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", required=True, choices=("gateway", "client"), help="client: a device of your own")
    parser.add_argument("--name", required=True, help="what it is called")
    parser.add_argument("--site", default="", help="where it is")


def _platform_token_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", required=True, choices=("sftp",))
    parser.add_argument("--name", required=True, help="what it is called")
    add_operator(parser)


def _agent_argument(parser: ArgumentParser) -> None:
    parser.add_argument("agent", help="name or id")


def _platform_agent_arguments(parser: ArgumentParser) -> None:
    _agent_argument(parser)
    add_operator(parser)


COMMANDS = (
    Command(("agent", "list"), "Gateways and devices, and which are connected.", list_agents),
    Command(("agent", "token"), "A one-time token for a gateway or a device of yours.", token, _token_arguments),
    Command(("agent", "remove"), "Remove an agent at once.", remove, _agent_argument),
)
PLATFORM_COMMANDS = (
    Command(("platform", "list"), "Agents that serve all tenants.", list_platform_agents, add_operator),
    Command(("platform", "token"), "A one-time token for such an agent.", platform_token, _platform_token_arguments),
    Command(("platform", "remove"), "Remove such an agent.", remove_platform_agent, _platform_agent_arguments),
)
