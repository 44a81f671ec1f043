"""Resources: network resources and vault mounts. Buckets come with their connections."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from limen.cli.command import Command
from limen.cli.commands.options import repeated
from limen.cli.errors import UsageError
from limen.cli.names import RESOURCE
from limen.cli.parsing import port, spread
from limen.cli.render import Columns, plain, table
from limen.cli.run import Run, removed

KINDS = ("network", "bucket", "vault", "console")


def list_resources(run: Run, given: Namespace) -> None:
    """All resources."""
    answer = run.api.get("/resources", kind=given.kind)
    columns: Columns = {"resource": "name", "kind": "kind", "network": "cidr", "ports": _ports, "id": "id"}
    run.out.result(answer, table(answer["resources"], columns, empty="No resources"))


def create(run: Run, given: Namespace) -> None:
    """Make a resource."""
    body: dict[str, Any] = {"kind": given.kind, "name": given.name}
    if given.kind == "network":
        if not given.cidr:
            raise UsageError("a network resource needs --cidr", fix="for example --cidr 10.0.0.5/32 --port tcp/443")
        body |= {"cidr": given.cidr, "ports": [port(text) for text in spread(given.port)]}
    elif given.cidr or given.port:
        raise UsageError(f"--cidr and --port are not for a {given.kind} resource", fix="leave them out")
    answer = run.api.post("/resources", body)
    run.out.result(answer, f"Resource {plain(answer['name'])} is made ({answer['id']}); nobody may reach it yet")
    run.out.note("Allow it with: limen policy create")


def delete(run: Run, given: Namespace) -> None:
    """Delete a resource."""
    resource_id = run.names.id_of(RESOURCE, given.resource)
    run.api.delete(f"/resources/{resource_id}")
    removed(run, "deleted", resource_id, f"Resource {given.resource} is deleted; what was open to it is shut")


def _ports(resource: Mapping[str, Any]) -> object:
    if resource["kind"] != "network":
        return None
    return [_port(entry) for entry in resource["ports"]] or "all"


def _port(entry: Mapping[str, Any]) -> str:
    if entry["protocol"] == "icmp":
        return "icmp"
    last = "" if entry["first"] == entry["last"] else f"-{entry['last']}"
    return f"{entry['protocol']}/{entry['first']}{last}"


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", choices=KINDS, default="", help="only these")


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("kind", choices=("network", "vault"))
    parser.add_argument("name")
    parser.add_argument("--cidr", default="", help="network: addresses behind a gateway, such as 10.0.0.5/32")
    repeated(parser, "--port", "PORT", "network: tcp/443, udp/5000-5100 or icmp (none means all)")


def _resource_argument(parser: ArgumentParser) -> None:
    parser.add_argument("resource", help="name or id")


COMMANDS = (
    Command(("resource", "list"), "Resources.", list_resources, _list_arguments),
    Command(
        ("resource", "create"),
        "Make a network resource or a vault mount.",
        create,
        _create_arguments,
        more="examples: limen resource create network wiki --cidr 10.0.0.5/32 --port tcp/443\n"
        "          limen resource create vault app",
    ),
    Command(("resource", "delete"), "Delete a resource; what is open to it shuts.", delete, _resource_argument),
)
