"""Workloads: programs that use secrets under policies of their own."""

from argparse import ArgumentParser, Namespace

from limen.cli.command import Command
from limen.cli.commands.vault import show_token, token_arguments, token_wish
from limen.cli.names import WORKLOAD
from limen.cli.render import Columns, at, plain, table
from limen.cli.run import Run, removed


def list_workloads(run: Run, _given: Namespace) -> None:
    """All workloads."""
    answer = run.api.get("/workloads")
    columns: Columns = {"workload": "name", "state": "state", "since": at("created_at"), "id": "id"}
    run.out.result(answer, table(answer["workloads"], columns, empty="No workloads"))


def create(run: Run, given: Namespace) -> None:
    """Make a workload."""
    answer = run.api.post("/workloads", {"name": given.name})
    run.out.result(answer, f"Workload {plain(answer['name'])} is made ({answer['id']})")


def token(run: Run, given: Namespace) -> None:
    """A vault token for a workload."""
    workload_id = run.names.id_of(WORKLOAD, given.workload)
    show_token(run, run.api.post(f"/workloads/{workload_id}/token", token_wish(given)))


def remove(run: Run, given: Namespace) -> None:
    """Remove a workload."""
    workload_id = run.names.id_of(WORKLOAD, given.workload)
    run.api.delete(f"/workloads/{workload_id}")
    removed(run, "removed", workload_id, f"Workload {given.workload} is removed; its tokens are worthless")


def _name_argument(parser: ArgumentParser) -> None:
    parser.add_argument("name")


def _workload_argument(parser: ArgumentParser) -> None:
    parser.add_argument("workload", help="name or id")


def _token_arguments(parser: ArgumentParser) -> None:
    _workload_argument(parser)
    token_arguments(parser)


COMMANDS = (
    Command(("workload", "list"), "Workloads.", list_workloads),
    Command(("workload", "create"), "Make a workload.", create, _name_argument),
    Command(("workload", "token"), "A vault token for a workload, shown once.", token, _token_arguments),
    Command(("workload", "remove"), "Remove a workload and its tokens.", remove, _workload_argument),
)
