"""Grants: what is open, and shutting it."""

from argparse import ArgumentParser, Namespace

from limen.cli.command import Command
from limen.cli.commands.options import count, id_text
from limen.cli.commands.people import lift_person, suspend_person
from limen.cli.errors import UsageError
from limen.cli.names import PERSON, RESOURCE, WORKLOAD
from limen.cli.render import Columns, at, table
from limen.cli.run import Run, removed

MOST = 1000


def list_grants(run: Run, given: Namespace) -> None:
    """Grants, newest first."""
    answer = run.api.get("/grants", live="true" if given.live else None, limit=given.limit)
    columns: Columns = {
        "grant": "id",
        "door": "door",
        "who": "subject",
        "what": "resource",
        "actions": "actions",
        "state": "state",
        "until": at("expires_at"),
        "ended": "ended_reason",
    }
    run.out.result(answer, table(answer["grants"], columns, empty="Nothing is open" if given.live else "No grants"))


def list_blocks(run: Run, _given: Namespace) -> None:
    """What revocations and suspensions keep shut."""
    answer = run.api.get("/blocks")
    labels = {} if run.out.as_json else run.names.visible_labels(PERSON, WORKLOAD, RESOURCE)
    columns: Columns = {
        "who": lambda block: labels.get(block["subject_id"], block["subject_id"]),
        "what": lambda block: labels.get(block["resource_id"], block["resource_id"]) or "everything",
        "since": at("set_at"),
        "reason": "reason",
    }
    run.out.result(answer, table(answer["blocks"], columns, empty="Nothing is blocked"))


def revoke(run: Run, given: Namespace) -> None:
    """Revoke a grant, or all that a person has."""
    if bool(given.grant) == bool(given.person):
        raise UsageError("revoke one grant, or all of a person's", fix="give a grant's id, or --person")
    if given.person:
        suspend_person(run, given.person, given.reason)
        return
    run.api.post(f"/grants/{given.grant}/revoke", {"reason": given.reason})
    removed(run, "revoked", given.grant, "The grant is revoked; it stays shut until lifted (limen lift)")


def lift(run: Run, given: Namespace) -> None:
    """Lift a suspension, or the denial of one resource."""
    if not given.resource:
        if not given.person:
            raise UsageError("a workload is only blocked from a resource", fix="add --resource")
        lift_person(run, given.person)
        return
    kind, wanted = (PERSON, given.person) if given.person else (WORKLOAD, given.workload)
    subject, resource = run.names.id_of(kind, wanted), run.names.id_of(RESOURCE, given.resource)
    answer = run.api.delete(f"/blocks/{subject}/{resource}")
    words = f"{wanted} may ask for {given.resource} again" if answer["changed"] else "Nothing was blocked there"
    run.out.result(answer, words)


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true", help="only what is open now")
    parser.add_argument("--limit", type=count, default=100, metavar="N", help=f"at most so many, up to {MOST}")


def _revoke_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("grant", nargs="?", type=id_text, help="its id (limen grant list --live)")
    parser.add_argument("--person", default="", help="everything of this person (e-mail or id), until lifted")
    parser.add_argument("--reason", default="", help="written to the audit trail")


def _lift_arguments(parser: ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--person", default="", help="e-mail or id")
    who.add_argument("--workload", default="", help="name or id")
    parser.add_argument("--resource", default="", help="only the denial of this resource, left by a revoked grant")


COMMANDS = (
    Command(("grant", "list"), "What is open, and what was.", list_grants, _list_arguments),
    Command(("grant", "blocks"), "What revocations and suspensions keep shut.", list_blocks),
    Command(
        ("revoke",),
        "Shut one grant, or everything of a person.",
        revoke,
        _revoke_arguments,
        more="examples: limen revoke 0190c6f1-5d2a-7c3e-9b1f-2a6d4e8f0a1b\n"
        "          limen revoke --person ana@example.org --reason 'lost laptop'",
    ),
    Command(("lift",), "Take a revocation or suspension back; nothing opens by itself.", lift, _lift_arguments),
)
