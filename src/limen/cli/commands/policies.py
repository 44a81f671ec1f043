"""Policies: who may do what with which resource, and when."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from limen.cli.command import Command
from limen.cli.commands.options import repeated
from limen.cli.errors import UsageError
from limen.cli.names import GROUP, PERSON, POLICY, RESOURCE, WORKLOAD
from limen.cli.parsing import condition, day_words, duration, duration_words, spread, window
from limen.cli.render import Columns, fields, moment, plain, table
from limen.cli.run import Run, removed

ALL_DAYS = "mon-sun"


def list_policies(run: Run, _given: Namespace) -> None:
    """All policies, with names for ids."""
    answer = run.api.get("/policies")
    labels = {} if run.out.as_json else run.names.visible_labels(GROUP, PERSON, WORKLOAD, RESOURCE)

    def named(member: str) -> Any:
        return lambda policy: [labels.get(item, item) for item in policy[member]]

    columns: Columns = {
        "policy": "name",
        "effect": "effect",
        "who": named("principals"),
        "what": named("resources"),
        "actions": "actions",
        "conditions": lambda policy: [describe(entry) for entry in policy["conditions"]],
        "id": "id",
    }
    run.out.result(answer, table(answer["policies"], columns, empty="No policies: nothing is allowed"))


def create(run: Run, given: Namespace) -> None:
    """Make a policy."""
    if not (given.group or given.person or given.workload):
        raise UsageError("a policy is for somebody", fix="add --group, --person or --workload")
    conditions = conditions_of(given)
    names = run.names
    principals = [
        names.id_of(kind, wanted)
        for kind, listed in ((GROUP, given.group), (PERSON, given.person), (WORKLOAD, given.workload))
        for wanted in dict.fromkeys(listed)
    ]
    body = {
        "name": given.name,
        "effect": "deny" if given.deny else "allow",
        "principals": principals,
        "resources": [names.id_of(RESOURCE, wanted) for wanted in dict.fromkeys(given.resource)],
        "actions": spread(given.action),
        "conditions": conditions,
    }
    answer = run.api.post("/policies", body)
    run.out.result(answer, f"Policy {plain(answer['name'])} is in force ({answer['id']})")


def delete(run: Run, given: Namespace) -> None:
    """Delete a policy; grants that rest on it alone end."""
    policy_id = run.names.id_of(POLICY, given.policy)
    run.api.delete(f"/policies/{policy_id}")
    removed(run, "deleted", policy_id, f"Policy {given.policy} is deleted; what only it allowed is shut")


def explain(run: Run, given: Namespace) -> None:
    """Would it be allowed now, and why?"""
    kind = PERSON if given.person else WORKLOAD
    body = {
        "subject_id": run.names.id_of(kind, given.person or given.workload),
        "subject_kind": "person" if given.person else "workload",
        "resource_id": run.names.id_of(RESOURCE, given.resource),
        "actions": spread(given.action),
        "source": given.source,
    }
    answer = run.api.post("/policies/explain", body)
    words: dict[str, object] = {"answer": "allowed" if answer["allowed"] else "denied", "because": answer["reason"]}
    if answer["policy_id"]:
        policies = {} if run.out.as_json else run.names.visible_labels(POLICY)
        words["policy"] = policies.get(answer["policy_id"], answer["policy_id"])
    for result in answer["conditions"]:
        fix = f" ({result['fix']})" if result["fix"] else ""
        words[result["kind"]] = f"{'holds' if result['holds'] else 'does not hold'}: {result['detail']}{fix}"
    if answer["expires_at"]:
        words["until"] = moment(answer["expires_at"])
    run.out.result(answer, fields(words))


def conditions_of(given: Namespace) -> list[dict[str, Any]]:
    """The conditions that the options ask for."""
    found: list[dict[str, Any]] = [condition(text) for text in given.condition]
    if given.between:
        found.append(window(given.between, given.zone, given.days or ALL_DAYS))
    elif given.zone or given.days:
        raise UsageError("--zone and --days belong to --between", fix="add for example --between 09:00-18:00")
    networks = spread(given.source)
    if networks:
        found.append({"kind": "source-address", "networks": networks})
    if given.device:
        found.append({"kind": "verified-device"})
    if given.max_duration is not None:
        found.append({"kind": "max-duration", "seconds": given.max_duration})
    return found


def describe(entry: Mapping[str, Any]) -> str:
    """A condition of the API in a few words."""
    match entry.get("kind"):
        case "time-window":
            return f"{day_words(entry['days'])} {entry['start']}-{entry['end']} {entry['zone']}"
        case "source-address":
            return "from " + " ".join(entry["networks"])
        case "verified-device":
            return "enrolled device"
        case "max-duration":
            return f"at most {duration_words(entry['seconds'])}"
        case _:
            return json.dumps(entry)


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    who = parser.add_argument_group("who")
    repeated(who, "--group", "GROUP", "name or id; 'everyone' is built in")
    repeated(who, "--person", "PERSON", "e-mail or id")
    repeated(who, "--workload", "WORKLOAD", "name or id")
    what = parser.add_argument_group("what")
    repeated(what, "--resource", "RESOURCE", "name or id", required=True)
    repeated(what, "--action", "ACTION", "connect; or read, write, list, delete", required=True)
    what.add_argument("--deny", action="store_true", help="forbid it instead; a deny wins over every allow")
    when = parser.add_argument_group("only while all of these hold")
    when.add_argument("--between", default="", metavar="09:00-18:00", help="at this time of day (with --zone)")
    when.add_argument("--zone", default="", metavar="ZONE", help="such as Europe/Paris")
    when.add_argument("--days", default="", metavar="DAYS", help="such as mon-fri or sat,sun (default: every day)")
    repeated(when, "--from", "CIDR", "from these addresses", dest="source")
    when.add_argument("--device", action="store_true", help="through an enrolled device")
    when.add_argument("--max-duration", type=duration, metavar="8h", help="this long at a time")
    repeated(when, "--condition", "JSON", "any condition, as 'limen policy list --json' shows it")


def _policy_argument(parser: ArgumentParser) -> None:
    parser.add_argument("policy", help="name or id")


def _explain_arguments(parser: ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--person", default="", help="e-mail or id")
    who.add_argument("--workload", default="", help="name or id")
    parser.add_argument("--resource", required=True, help="name or id")
    repeated(parser, "--action", "ACTION", "what they want to do", required=True)
    parser.add_argument("--from", dest="source", default="", metavar="ADDRESS", help="as if they came from there")


COMMANDS = (
    Command(("policy", "list"), "Policies.", list_policies),
    Command(
        ("policy", "create"),
        "Make a policy; it is in force at once.",
        create,
        _create_arguments,
        more="example: limen policy create staff --group everyone --resource wiki --action connect\n"
        "                --between 09:00-18:00 --zone Europe/Paris --days mon-fri",
    ),
    Command(("policy", "delete"), "Delete a policy; what only it allowed shuts.", delete, _policy_argument),
    Command(("policy", "explain"), "Would it be allowed now, and why?", explain, _explain_arguments),
)
