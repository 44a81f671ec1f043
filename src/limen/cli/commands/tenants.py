"""Tenants, for platform operators, who see names and states and nothing from inside."""

from argparse import ArgumentParser, Namespace

from limen.cli.command import Command
from limen.cli.commands.options import add_operator
from limen.cli.commands.people import setup_link
from limen.cli.render import Columns, at, plain, table
from limen.cli.run import Run


def list_tenants(run: Run, given: Namespace) -> None:
    """All tenants."""
    answer = run.operator(given.operator_token_file, given.server, given.ca).get("/tenants")
    columns: Columns = {"tenant": "slug", "name": "name", "state": "state", "since": at("created_at"), "id": "id"}
    run.out.result(answer, table(answer["tenants"], columns, empty="No tenants"))


def create(run: Run, given: Namespace) -> None:
    """Open a tenant; prints its owner's one-time link."""
    api = run.operator(given.operator_token_file, given.server, given.ca)
    answer = api.post("/tenants", {"slug": given.slug, "name": given.name or given.slug})
    link = setup_link(api.target.server, answer["setup_token"])
    run.out.shown_once(
        {**answer, "setup_link": link},
        link,
        f"Tenant {plain(answer['slug'])} is open. The link above makes one person its owner, once, within 24 hours.",
    )


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("slug", help="its short name: letters, digits, dashes")
    parser.add_argument("--name", default="", help="what people call it")
    add_operator(parser)


COMMANDS = (
    Command(("tenant", "list"), "Tenants.", list_tenants, add_operator),
    Command(
        ("tenant", "create"),
        "Open a tenant; prints its owner's one-time link.",
        create,
        _create_arguments,
        more="example: limen tenant create acme --server https://localhost:8443 --ca /var/lib/limen/ca.pem"
        " --operator-token-file /var/lib/limen/operator.token",
    ),
)
