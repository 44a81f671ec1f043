"""People of the tenant."""

from argparse import ArgumentParser, Namespace

from limen.cli.command import Command
from limen.cli.names import PERSON
from limen.cli.render import Columns, at, moment, plain, table
from limen.cli.run import Run, removed

ROLES = ("owner", "admin", "auditor", "member")


def list_people(run: Run, given: Namespace) -> None:
    """Everyone, or those who match."""
    answer = run.api.get("/people", search=given.search)
    columns: Columns = {
        "e-mail": "email",
        "name": "name",
        "role": "role",
        "state": "state",
        "since": at("created_at"),
        "person": "id",
    }
    run.out.result(answer, table(answer["people"], columns, empty="Nobody matches"))


def invite(run: Run, given: Namespace) -> None:
    """Invite a person; the set-up link is shown once."""
    body = {"email": given.email, "name": given.name or given.email.partition("@")[0], "role": given.role}
    answer = run.api.post("/people", body)
    link = setup_link(run.api.target.server, answer["setup_token"])
    run.out.shown_once(
        {**answer, "setup_link": link},
        link,
        f"{plain(answer['email'])} is invited. The link above works once, within 24 hours, and is not shown again.",
    )


def suspend(run: Run, given: Namespace) -> None:
    """Suspend a person: everything they have open ends now, and nothing opens until lifted."""
    suspend_person(run, given.person, given.reason)


def suspend_person(run: Run, person: str, reason: str) -> None:
    """The same for ``limen revoke --person``."""
    answer = run.api.post(f"/people/{run.names.id_of(PERSON, person)}/suspend", {"reason": reason})
    words = f"{person} is suspended since {moment(answer['committed_at'])}; everything that was open is shut"
    run.out.result(answer, words if answer["changed"] else f"{person} was suspended already")


def lift(run: Run, given: Namespace) -> None:
    """Lift a suspension."""
    lift_person(run, given.person)


def lift_person(run: Run, person: str) -> None:
    """The same for ``limen lift --person``."""
    answer = run.api.post(f"/people/{run.names.id_of(PERSON, person)}/lift")
    words = f"{person} may sign in again" if answer["changed"] else f"{person} was not suspended"
    run.out.result(answer, words)


def remove(run: Run, given: Namespace) -> None:
    """Remove a person for good."""
    person_id = run.names.id_of(PERSON, given.person)
    run.api.delete(f"/people/{person_id}")
    removed(run, "removed", person_id, f"{given.person} is removed")


def set_role(run: Run, given: Namespace) -> None:
    """Change a person's role; their sessions end."""
    answer = run.api.put(f"/people/{run.names.id_of(PERSON, given.person)}/role", {"role": given.role})
    run.out.result(answer, f"{plain(answer['email'])} is {answer['role']} now; their sessions are over")


def reset_link(run: Run, given: Namespace) -> None:
    """A link with which a person sets a new password."""
    answer = run.api.post(f"/people/{run.names.id_of(PERSON, given.person)}/reset-link")
    link = setup_link(run.api.target.server, answer["setup_token"])
    run.out.shown_once({**answer, "setup_link": link}, link, "The link above works once, within 24 hours.")


def setup_link(server: str, token: str) -> str:
    """The page on which a one-time token is used; ``limen setup`` takes it as well."""
    return f"{server}/setup/{token}"


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--search", default="", metavar="TEXT", help="part of a name or an e-mail")


def _invite_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("email", help="where the person gets mail; also their name for signing in")
    parser.add_argument("--name", default="", help="what people call them")
    parser.add_argument("--role", choices=ROLES, default="member", help="default: member")


def _person_argument(parser: ArgumentParser) -> None:
    parser.add_argument("person", help="e-mail or id")


def _suspend_arguments(parser: ArgumentParser) -> None:
    _person_argument(parser)
    parser.add_argument("--reason", default="", help="written to the audit trail")


def _role_arguments(parser: ArgumentParser) -> None:
    _person_argument(parser)
    parser.add_argument("role", choices=ROLES)


COMMANDS = (
    Command(("person", "list"), "People, with their roles and states.", list_people, _list_arguments),
    Command(("person", "invite"), "Invite a person; prints a one-time link.", invite, _invite_arguments),
    Command(("person", "suspend"), "Shut everything a person has open, until lifted.", suspend, _suspend_arguments),
    Command(("person", "lift"), "Let a suspended person in again.", lift, _person_argument),
    Command(("person", "set-role"), "Change a person's role; their sessions end.", set_role, _role_arguments),
    Command(("person", "reset-link"), "A one-time link to set a new password.", reset_link, _person_argument),
    Command(("person", "remove"), "Remove a person for good.", remove, _person_argument),
)
