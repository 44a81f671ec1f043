"""One's own tokens for the Vault-compatible API."""

from argparse import ArgumentParser, Namespace
from typing import Any

from limen.cli.command import Command
from limen.cli.commands.options import id_text
from limen.cli.parsing import duration
from limen.cli.render import Columns, at, moment, table
from limen.cli.run import Run, removed


def token(run: Run, given: Namespace) -> None:
    """A token of one's own."""
    show_token(run, run.api.post("/vault/tokens", token_wish(given)))


def list_tokens(run: Run, _given: Namespace) -> None:
    """One's live tokens."""
    answer = run.api.get("/vault/tokens")
    columns: Columns = {
        "token": "id",
        "for": "display",
        "since": at("created_at"),
        "until": at("expires_at"),
        "renewable": "renewable",
    }
    run.out.result(answer, table(answer["tokens"], columns, empty="You have no vault tokens"))


def revoke(run: Run, given: Namespace) -> None:
    """Revoke a token of one's own."""
    run.api.delete(f"/vault/tokens/{given.token}")
    removed(run, "revoked", str(given.token), "The token is revoked")


def token_wish(given: Namespace) -> dict[str, Any]:
    """The body that asks for a token."""
    wish = {"ttl": given.ttl, "max_ttl": given.max_ttl, "renewable": not given.not_renewable, "display": given.display}
    return {name: value for name, value in wish.items() if value is not None}


def show_token(run: Run, answer: dict[str, Any]) -> None:
    """Show a fresh token and how it is used."""
    run.out.shown_once(
        answer,
        answer["token"],
        f"Good until {moment(answer['expires_at'])}; not shown again. For bao, vault and hvac:",
        f"  export VAULT_ADDR={run.api.target.server} VAULT_TOKEN=...   (and VAULT_CACERT=the server's ca.pem)",
    )


def token_arguments(parser: ArgumentParser) -> None:
    """What a token may be asked to be."""
    parser.add_argument("--ttl", type=duration, metavar="TIME", help="good for, such as 1h, unless renewed")
    parser.add_argument("--max-ttl", type=duration, metavar="TIME", help="good for at most, however often renewed")
    parser.add_argument("--not-renewable", action="store_true", help="it cannot be renewed")
    parser.add_argument("--display", default="", metavar="TEXT", help="what it is for")


def _token_argument(parser: ArgumentParser) -> None:
    parser.add_argument("token", type=id_text, help="its id (limen vault tokens)")


COMMANDS = (
    Command(
        ("vault", "token"),
        "A token for bao, vault or hvac, shown once.",
        token,
        token_arguments,
        more="example: export VAULT_TOKEN=$(limen vault token --ttl 1h)",
    ),
    Command(("vault", "tokens"), "Your live vault tokens.", list_tokens),
    Command(("vault", "revoke"), "Revoke a vault token of yours.", revoke, _token_argument),
)
