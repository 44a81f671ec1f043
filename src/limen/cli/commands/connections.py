"""Connections to buckets and local folders. A storage credential is sealed here, to a key that only keyd holds."""

import json
from argparse import ArgumentParser, Namespace
from base64 import b64decode, b64encode
from uuid import UUID

from limen.cli.command import Command
from limen.cli.errors import CliError, UsageError
from limen.cli.names import CONNECTION
from limen.cli.render import Columns, plain, table
from limen.cli.run import Run, removed
from limen.crypto.sealing import context, seal_to
from limen.kernel.errors import LimenError

SOURCES = ("ask", "stdin", "env", "none")
_MEMBERS = ("access_key_id", "secret_access_key")
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def list_connections(run: Run, _given: Namespace) -> None:
    """All connections."""
    answer = run.api.get("/connections")
    columns: Columns = {
        "connection": "name",
        "provider": "provider",
        "endpoint": "endpoint",
        "bucket or folder": lambda one: one["bucket"] or one["root"],
        "prefix": "prefix",
        "credential": "has_credential",
        "in SFTP names": "slug",
        "id": "id",
    }
    run.out.result(answer, table(answer["connections"], columns, empty="No connections"))


def create(run: Run, given: Namespace) -> None:
    """Make a connection, with its credential unless told otherwise; without the credential there is none."""
    source = given.credential or ("none" if given.provider == "local" else "ask")
    if given.provider == "local" and source != "none":
        raise UsageError("a local folder has no credential", fix="leave --credential out")
    credential = read_credential(run, source)
    body = {
        name: getattr(given, name) for name in ("name", "provider", "endpoint", "bucket", "region", "prefix", "root")
    }
    made = run.api.post("/connections", body)
    if credential is not None:
        try:
            _hand_over(run, made["id"], credential)
        except LimenError:
            run.api.delete(f"/connections/{made['id']}")
            raise
        made["has_credential"] = True
    run.out.result(made, f"Connection {plain(made['name'])} is made ({made['id']}); nobody may reach it yet")
    run.out.note("Allow it with limen policy create; let people in with limen sftp-user create")


def set_credential(run: Run, given: Namespace) -> None:
    """Replace the credential of a connection."""
    connection_id = run.names.id_of(CONNECTION, given.connection)
    credential = read_credential(run, given.credential or "ask")
    if credential is None:
        raise UsageError("there is no credential to set", fix="use --credential ask, stdin or env")
    _hand_over(run, connection_id, credential)
    run.out.result({"connection": connection_id, "has_credential": True}, "The credential is set")


def delete(run: Run, given: Namespace) -> None:
    """Delete a connection."""
    connection_id = run.names.id_of(CONNECTION, given.connection)
    run.api.delete(f"/connections/{connection_id}")
    removed(run, "deleted", connection_id, f"Connection {given.connection} is deleted; what was open to it is shut")


def read_credential(run: Run, source: str) -> bytes | None:
    """The storage credential as the file agent reads it, or None for none.

    Raises:
        CliError: when it is not where it should be.
    """
    match source:
        case "none":
            return None
        case "env":
            values = [run.environ.get(variable, "") for variable in _VARIABLES]
            if not all(values):
                raise CliError(f"{' or '.join(_VARIABLES)} is not set", fix="set both, or use --credential stdin")
        case "stdin":
            values = _from_json(run.asker.standard_input())
        case _:
            if not run.asker.can_ask():
                raise CliError(
                    "there is no terminal to ask for the credential on", fix="use --credential stdin, env or none"
                )
            values = [run.asker.line("Access key id"), run.asker.secret("Secret access key")]
            if not all(values):
                raise CliError("a credential has two parts", fix="type both")
    return json.dumps(dict(zip(_MEMBERS, values, strict=True))).encode()


def _from_json(text: str) -> list[str]:
    try:
        found = json.loads(text)
        values = [found[member] for member in _MEMBERS]
    except (ValueError, KeyError, TypeError, RecursionError):
        values = []
    if not values or not all(isinstance(value, str) and value for value in values):
        raise CliError(
            "standard input holds no credential",
            fix='pipe in {"access_key_id": "...", "secret_access_key": "..."}',
        )
    return values


def _hand_over(run: Run, connection_id: str, credential: bytes) -> None:
    """Seal to the intake key of this tenant and connection; neither the control plane nor anybody between reads it."""
    key = b64decode(run.api.get("/connections/intake-key")["public_key"])
    bound = context("intake", UUID(run.api.get("/me")["tenant"]), UUID(connection_id))
    sealed = b64encode(seal_to(key, credential, bound)).decode("ascii")
    run.api.put(f"/connections/{connection_id}/credential", {"sealed": sealed})


def _credential_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--credential",
        choices=SOURCES,
        default="",
        help=f"ask for it, read it as JSON from stdin, or take {' and '.join(_VARIABLES)} from env (s3: ask)",
    )


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--provider", required=True, choices=("s3", "local"))
    parser.add_argument("--endpoint", default="", metavar="URL", help="s3: of the server (none for AWS)")
    parser.add_argument("--bucket", default="", help="s3: its name")
    parser.add_argument("--region", default="", help="s3: such as eu-west-1")
    parser.add_argument("--prefix", default="", help="only what is below this")
    parser.add_argument("--root", default="", metavar="DIR", help="local: the folder on the file agent's machine")
    _credential_argument(parser)


def _connection_argument(parser: ArgumentParser) -> None:
    parser.add_argument("connection", help="name or id")


def _set_arguments(parser: ArgumentParser) -> None:
    _connection_argument(parser)
    _credential_argument(parser)


COMMANDS = (
    Command(("connection", "list"), "Connections to buckets and folders.", list_connections),
    Command(
        ("connection", "create"),
        "Connect a bucket or a folder.",
        create,
        _create_arguments,
        more="example: limen connection create partner --provider s3 --endpoint https://s3.example.org"
        " --bucket exchange --region eu-west-1",
    ),
    Command(("connection", "set-credential"), "Replace a storage credential.", set_credential, _set_arguments),
    Command(("connection", "delete"), "Delete a connection.", delete, _connection_argument),
)
