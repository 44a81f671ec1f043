"""SFTP users: the names, keys and passwords with which people come to a connection."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path

from limen.cli.asking import ask_secret, secret_from_input
from limen.cli.command import Command
from limen.cli.commands.options import id_text, repeated, secret_input
from limen.cli.errors import CliError
from limen.cli.names import CONNECTION, PERSON, SFTP_USER
from limen.cli.parsing import instant, spread
from limen.cli.render import Columns, moment, plain, table
from limen.cli.run import Run, read_file, removed

_MAX_KEY_BYTES = 64 * 1024


def list_users(run: Run, given: Namespace) -> None:
    """All SFTP users."""
    connection = run.names.id_of(CONNECTION, given.connection) if given.connection else None
    answer = run.api.get("/sftp-users", connection_id=connection)
    labels = {} if run.out.as_json else run.names.visible_labels(PERSON, CONNECTION)
    columns: Columns = {
        "login": "login",
        "person": lambda user: labels.get(user["person_id"], user["person_id"]),
        "connection": lambda user: labels.get(user["connection_id"], user["connection_id"]),
        "jail": "jail",
        "actions": "actions",
        "from": lambda user: user["sources"] or "anywhere",
        "password": "has_password",
        "id": "id",
    }
    run.out.result(answer, table(answer["users"], columns, empty="No SFTP users"))


def create(run: Run, given: Namespace) -> None:
    """Let a person into a connection."""
    body = {
        "connection_id": run.names.id_of(CONNECTION, given.connection),
        "person_id": run.names.id_of(PERSON, given.person),
        "username": given.username,
        "jail": given.jail,
        "actions": spread(given.action),
        "sources": spread(given.source),
    }
    answer = run.api.post("/sftp-users", body)
    run.out.result(answer, f"SFTP user {plain(answer['login'])} is made ({answer['id']})")
    run.out.note(f"Give it a key: limen sftp-user add-key {plain(answer['login'])} KEY.pub")
    run.out.note(f"Then: sftp {plain(answer['login'])}@HOST, once a policy lets the person in")


def delete(run: Run, given: Namespace) -> None:
    """Delete an SFTP user."""
    user_id = run.names.id_of(SFTP_USER, given.user)
    run.api.delete(f"/sftp-users/{user_id}")
    removed(run, "deleted", user_id, f"SFTP user {given.user} is deleted; what it had open is shut")


def list_keys(run: Run, given: Namespace) -> None:
    """The keys of an SFTP user."""
    answer = run.api.get(f"/sftp-users/{run.names.id_of(SFTP_USER, given.user)}/keys")
    columns: Columns = {
        "fingerprint": "fingerprint",
        "from": lambda key: key["sources"] or "anywhere",
        "until": lambda key: moment(key["expires_at"]) if key["expires_at"] else "no end",
        "id": "id",
    }
    run.out.result(answer, table(answer["keys"], columns, empty="No keys"))


def add_key(run: Run, given: Namespace) -> None:
    """Add a public key."""
    text = read_file(given.key, "the public key", most=_MAX_KEY_BYTES).decode("utf-8", "replace").strip()
    if "PRIVATE KEY" in text:
        raise CliError(f"{given.key} is a private key; it was not sent", fix="give the .pub file beside it")
    user_id = run.names.id_of(SFTP_USER, given.user)
    until = instant(given.until, datetime.now(UTC)) if given.until else None
    body = {"public_key": text, "sources": spread(given.source), "expires_at": until}
    answer = run.api.post(f"/sftp-users/{user_id}/keys", body)
    run.out.result(answer, f"Key {plain(answer['fingerprint'])} is added ({answer['id']})")


def remove_key(run: Run, given: Namespace) -> None:
    """Remove a key."""
    user_id = run.names.id_of(SFTP_USER, given.user)
    run.api.delete(f"/sftp-users/{user_id}/keys/{given.key}")
    removed(run, "removed", given.key, "The key is removed; what it had open is shut")


def set_password(run: Run, given: Namespace) -> None:
    """Set a password: a random one, shown once, or one's own."""
    user_id = run.names.id_of(SFTP_USER, given.user)
    chosen: str | None = None
    if given.password_stdin:
        chosen = secret_from_input(run.asker)
    elif given.ask:
        chosen = ask_secret(run.asker, "New password", "use --password-stdin", twice=True)
    answer = run.api.put(f"/sftp-users/{user_id}/password", {"password": chosen})
    if chosen is None:
        run.out.shown_once(answer, answer["password"], "Not shown again.")
    else:
        run.out.result({"has_password": True}, f"The password of {given.user} is set")


def clear_password(run: Run, given: Namespace) -> None:
    """Take the password away."""
    user_id = run.names.id_of(SFTP_USER, given.user)
    run.api.delete(f"/sftp-users/{user_id}/password")
    run.out.result({"has_password": False}, f"{given.user} has no password any more")


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--connection", default="", help="only of this connection (name or id)")


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("username", help="the part of the login before the dot")
    parser.add_argument("--connection", required=True, help="name or id")
    parser.add_argument("--person", required=True, help="whose policies count (e-mail or id)")
    parser.add_argument("--jail", default="", metavar="PATH", help="the folder that this user sees as /")
    repeated(parser, "--action", "ACTION", "read, write, list or delete (none means all)")
    repeated(parser, "--from", "CIDR", "passwords only from these addresses", dest="source")


def _user_argument(parser: ArgumentParser) -> None:
    parser.add_argument("user", help="login, name or id")


def _add_key_arguments(parser: ArgumentParser) -> None:
    _user_argument(parser)
    parser.add_argument("key", type=Path, metavar="KEY.pub", help="an OpenSSH public key; - for standard input")
    repeated(parser, "--from", "CIDR", "only from these addresses", dest="source")
    parser.add_argument("--until", default="", metavar="TIME", help="such as 2027-01-31")


def _remove_key_arguments(parser: ArgumentParser) -> None:
    _user_argument(parser)
    parser.add_argument("key", type=id_text, help="its id (limen sftp-user keys)")


def _password_arguments(parser: ArgumentParser) -> None:
    _user_argument(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--ask", action="store_true", help="ask for a password instead of making a random one")
    secret_input(how, "--password-stdin", "read a password from standard input instead of making a random one")


COMMANDS = (
    Command(("sftp-user", "list"), "SFTP users.", list_users, _list_arguments),
    Command(
        ("sftp-user", "create"),
        "Let a person into a connection by SFTP.",
        create,
        _create_arguments,
        more="example: limen sftp-user create ana --connection partner --person ana@example.org --jail ana",
    ),
    Command(("sftp-user", "delete"), "Delete an SFTP user.", delete, _user_argument),
    Command(("sftp-user", "keys"), "The public keys of an SFTP user.", list_keys, _user_argument),
    Command(("sftp-user", "add-key"), "Add a public key.", add_key, _add_key_arguments),
    Command(("sftp-user", "remove-key"), "Remove a public key.", remove_key, _remove_key_arguments),
    Command(
        ("sftp-user", "set-password"), "Set a password; a random one is shown once.", set_password, _password_arguments
    ),
    Command(("sftp-user", "clear-password"), "Take the password away.", clear_password, _user_argument),
)
