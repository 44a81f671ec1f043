"""Names to ids."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.cli.errors import CliError, Refused
from limen.cli.names import GROUP, PERSON, RESOURCE, SFTP_USER, Names, as_id, pick

GROUPS = [{"id": "1", "name": "engineering"}, {"id": "2", "name": "Staff"}, {"id": "3", "name": "staff"}]


class Server:
    """Answers from a table and counts what it was asked; a path that is not in it is refused."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get(self, path: str) -> Any:
        self.asked.append(path)
        member = path.strip("/")
        if member not in self.answers:
            raise Refused("your role does not include it", http_status=403)
        return {member: self.answers[member]}


def test_a_name_is_found() -> None:
    assert pick(GROUP, GROUPS, "engineering")["id"] == "1"
    assert pick(GROUP, GROUPS, "ENGINEERING")["id"] == "1"


def test_capitals_tell_apart_only_where_they_must() -> None:
    assert pick(GROUP, GROUPS, "Staff")["id"] == "2"
    with pytest.raises(CliError) as caught:
        pick(GROUP, GROUPS, "STAFF")
    assert "more than one group" in caught.value.message
    assert caught.value.fix == "give an id: 2, 3"


def test_an_unknown_name_names_the_nearest_and_the_list() -> None:
    with pytest.raises(CliError) as caught:
        pick(GROUP, GROUPS, "enginering")
    assert caught.value.message == "no such group: 'enginering'"
    assert caught.value.fix == "did you mean 'engineering'? see: limen group list"
    with pytest.raises(CliError) as caught:
        pick(PERSON, [], "x")
    assert caught.value.fix == "see: limen person list"


def test_a_login_wins_over_a_username() -> None:
    users = [
        {"id": "1", "login": "ana.abc", "username": "ana"},
        {"id": "2", "login": "ana.def", "username": "ana"},
        {"id": "3", "login": "bob.abc", "username": "bob"},
    ]
    assert pick(SFTP_USER, users, "ana.def")["id"] == "2"
    assert pick(SFTP_USER, users, "bob")["id"] == "3"
    with pytest.raises(CliError):
        pick(SFTP_USER, users, "ana")


def test_an_id_is_handed_on_without_asking() -> None:
    server, wanted = Server(), uuid4()
    assert Names(server.get).id_of(GROUP, str(wanted).upper()) == str(wanted)
    assert Names(server.get).id_of(GROUP, wanted.hex) == str(wanted)
    assert server.asked == []


def test_a_list_is_fetched_once() -> None:
    server = Server(groups=GROUPS, resources=[{"id": "9", "name": "wiki"}])
    names = Names(server.get)
    assert (names.id_of(GROUP, "Staff"), names.id_of(GROUP, "engineering")) == ("2", "1")
    assert names.labels(GROUP, RESOURCE) == {"1": "engineering", "2": "Staff", "3": "staff", "9": "wiki"}
    assert server.asked == ["/groups", "/resources"]


def test_what_one_may_not_see_stays_an_id() -> None:
    assert Names(Server(groups=GROUPS[:1]).get).visible_labels(PERSON, GROUP) == {"1": "engineering"}


@given(st.text())
def test_only_ids_are_ids(text: str) -> None:
    found = as_id(text)
    assert found is None or found.replace("-", "") == text.replace("-", "").lower()
