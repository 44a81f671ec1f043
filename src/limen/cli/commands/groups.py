"""Groups of people, which policies name."""

from argparse import ArgumentParser, Namespace

from limen.cli.command import Command
from limen.cli.names import GROUP, PERSON
from limen.cli.render import Columns, Row, plain, table
from limen.cli.run import Run, removed


def list_groups(run: Run, given: Namespace) -> None:
    """All groups, with their members' e-mail where asked."""
    answer = run.api.get("/groups")
    people = run.names.visible_labels(PERSON) if given.members and not run.out.as_json else {}

    def members(group: Row) -> object:
        listed = group["members"]
        if group["builtin"]:
            return "all people"
        assert isinstance(listed, list)
        return [people.get(person, person) for person in listed] if given.members else len(listed)

    columns: Columns = {"group": "name", "members": members, "id": "id"}
    run.out.result(answer, table(answer["groups"], columns, empty="No groups"))


def create(run: Run, given: Namespace) -> None:
    """Make a group."""
    answer = run.api.post("/groups", {"name": given.name})
    run.out.result(answer, f"Group {plain(answer['name'])} is made ({answer['id']})")


def delete(run: Run, given: Namespace) -> None:
    """Delete a group."""
    group_id = run.names.id_of(GROUP, given.group)
    run.api.delete(f"/groups/{group_id}")
    removed(run, "deleted", group_id, f"Group {given.group} is deleted; what rested on it is shut")


def add(run: Run, given: Namespace) -> None:
    """Put people into a group."""
    group_id = run.names.id_of(GROUP, given.group)
    people = [run.names.id_of(PERSON, person) for person in given.person]
    for person_id in people:
        run.api.post(f"/groups/{group_id}/members/{person_id}")
    run.out.result({"group": group_id, "added": people}, f"{', '.join(given.person)} now in {given.group}")


def take_out(run: Run, given: Namespace) -> None:
    """Take people out of a group."""
    group_id = run.names.id_of(GROUP, given.group)
    people = [run.names.id_of(PERSON, person) for person in given.person]
    for person_id in people:
        run.api.delete(f"/groups/{group_id}/members/{person_id}")
    run.out.result({"group": group_id, "removed": people}, f"{', '.join(given.person)} no longer in {given.group}")


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--members", action="store_true", help="who is in them")


def _name_argument(parser: ArgumentParser) -> None:
    parser.add_argument("name")


def _group_argument(parser: ArgumentParser) -> None:
    parser.add_argument("group", help="name or id")


def _member_arguments(parser: ArgumentParser) -> None:
    _group_argument(parser)
    parser.add_argument("person", nargs="+", help="e-mail or id")


COMMANDS = (
    Command(("group", "list"), "Groups and their members.", list_groups, _list_arguments),
    Command(("group", "create"), "Make a group.", create, _name_argument),
    Command(("group", "add"), "Put people into a group.", add, _member_arguments),
    Command(("group", "remove"), "Take people out of a group.", take_out, _member_arguments),
    Command(("group", "delete"), "Delete a group.", delete, _group_argument),
)
