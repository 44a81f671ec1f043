"""Names to ids, on this side: people say ``staff``, the API wants an id.

An id is handed on as it is; whether it exists is for the server to say, in the same words for what is missing and
for what belongs to another tenant.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from limen.cli.errors import CliError, Refused
from limen.cli.render import visible

Item = Mapping[str, Any]
Fetch = Callable[[str], Any]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing: where its list is, and what people call one (``labels``, members of the API's object)."""

    noun: str
    path: str
    member: str
    labels: tuple[str, ...]
    list_command: str


PERSON = Kind("person", "/people", "people", ("email",), "limen person list")
GROUP = Kind("group", "/groups", "groups", ("name",), "limen group list")
RESOURCE = Kind("resource", "/resources", "resources", ("name",), "limen resource list")
POLICY = Kind("policy", "/policies", "policies", ("name",), "limen policy list")
WORKLOAD = Kind("workload", "/workloads", "workloads", ("name",), "limen workload list")
AGENT = Kind("agent", "/agents", "agents", ("name",), "limen agent list")
PLATFORM_AGENT = Kind("platform agent", "/platform/agents", "agents", ("name",), "limen platform list")
CONNECTION = Kind("connection", "/connections", "connections", ("name", "slug"), "limen connection list")
SFTP_USER = Kind("SFTP user", "/sftp-users", "users", ("login", "username"), "limen sftp-user list")


def as_id(text: str) -> str | None:
    """The canonical form when ``text`` is an id."""
    try:
        return str(UUID(text)) if len(text) in (32, 36) else None
    except ValueError:
        return None


def pick(kind: Kind, items: Sequence[Item], wanted: str) -> Item:
    """The one of ``items`` that is called ``wanted``; capitals matter only where nothing else tells two apart.

    Raises:
        CliError: when there is none (with the nearest names) or more than one (with their ids).
    """
    for label in kind.labels:
        for same in (_exactly, _nearly):
            found = [item for item in items if same(str(item.get(label, "")), wanted)]
            if len(found) == 1:
                return found[0]
            if found:
                ids = ", ".join(str(item["id"]) for item in found)
                raise CliError(f"more than one {kind.noun} is called '{visible(wanted)}'", fix=f"give an id: {ids}")
    raise CliError(f"no such {kind.noun}: '{visible(wanted)}'", fix=_hint(kind, items, wanted))


def _exactly(label: str, wanted: str) -> bool:
    return label == wanted


def _nearly(label: str, wanted: str) -> bool:
    return label.casefold() == wanted.casefold()


def _hint(kind: Kind, items: Sequence[Item], wanted: str) -> str:
    known = {str(item.get(kind.labels[0], "")).casefold(): str(item.get(kind.labels[0], "")) for item in items}
    near = difflib.get_close_matches(wanted.casefold(), known, _SHOWN, 0.5)
    said = " or ".join(f"'{visible(known[name])}'" for name in near)
    return f"did you mean {said}? see: {kind.list_command}" if said else f"see: {kind.list_command}"


class Names:
    """Looks lists up at most once per command; ``fetch`` is a GET that returns the decoded answer."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._known: dict[Kind, list[Item]] = {}

    def all(self, kind: Kind) -> list[Item]:
        """Everything of a kind."""
        if kind not in self._known:
            self._known[kind] = list(self._fetch(kind.path)[kind.member])
        return self._known[kind]

    def id_of(self, kind: Kind, wanted: str) -> str:
        """The id of what is called ``wanted``.

        Raises:
            CliError: when nothing or more than one thing is.
        """
        return as_id(wanted) or str(pick(kind, self.all(kind), wanted)["id"])

    def visible_labels(self, *kinds: Kind) -> dict[str, str]:
        """The same as far as one's role lets one see it; ids stand for the rest."""
        found: dict[str, str] = {}
        for kind in kinds:
            try:
                found |= self.labels(kind)
            except Refused as exc:
                if exc.http_status != 403:
                    raise
        return found

    def labels(self, *kinds: Kind) -> dict[str, str]:
        """What people call each thing of these kinds, by id."""
        return {str(item["id"]): str(item[kind.labels[0]]) for kind in kinds for item in self.all(kind)}
