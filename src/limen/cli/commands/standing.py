"""How things stand: who is signed in, how the server is, what is open, which sessions are live."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from limen.cli.api import Api
from limen.cli.command import Command
from limen.cli.commands.options import id_text
from limen.cli.errors import CliError, Refused, SignedOut
from limen.cli.names import PERSON
from limen.cli.render import Columns, at, fields, moment, table
from limen.cli.run import Run, removed

_STATUS_FILE = "status.json"  # what a running 'limen client' writes into its state directory


def whoami(run: Run, _given: Namespace) -> None:
    """Who is signed in."""
    me = run.api.get("/me")
    person = me["person"]
    words = {
        "person": f"{person['name']} <{person['email']}>",
        "role": person["role"],
        "tenant": _tenant_name(run, me),
        "server": run.api.target.server,
        "session until": moment(me["session_expires_at"]),
        "may": me["permissions"],
    }
    run.out.result(_without_csrf(me), fields(words))


def status(run: Run, given: Namespace) -> int:
    """How the server is, who is signed in, and what is open."""
    found: dict[str, Any] = {}
    words: dict[str, object] = {}
    if given.state is not None:
        found["client"] = _client_status(given.state)
        words |= _client_words(found["client"])
    target = run.target()
    api = run.connect(target)
    found |= {"server": target.server, "health": api.health()}
    words["server"] = target.server
    for part, state in found["health"]["parts"].items():
        words[part] = state
    if target.token:
        _add_own_view(run, api, found, words)
    else:
        words["signed in"] = f"no ({run.sign_in_command()})"
    run.out.result(found, fields(words))
    return 0 if found["health"]["status"] == "ok" else 1


def list_sessions(run: Run, _given: Namespace) -> None:
    """Live sessions."""
    answer = run.api.get("/sessions")
    people = {} if run.out.as_json else run.names.visible_labels(PERSON)
    columns: Columns = {
        "session": "id",
        "person": lambda session: people.get(session["person"], session["person"]),
        "by": "method",
        "kind": "kind",
        "from": "source",
        "until": at("expires_at"),
        "this one": "current",
    }
    run.out.result(answer, table(answer["sessions"], columns, empty="Nobody is signed in"))


def end_session(run: Run, given: Namespace) -> None:
    """End one session."""
    run.api.delete(f"/sessions/{given.session}")
    removed(run, "ended", str(given.session), "The session is over, and every grant that rested on it")


def _tenant_name(run: Run, me: dict[str, Any]) -> str:
    profile = run.profile
    known = profile is not None and profile.token == run.api.target.token
    return f"{profile.tenant} ({me['tenant']})" if known and profile is not None else str(me["tenant"])


def _without_csrf(me: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in me.items() if name != "csrf_token"}


def _add_own_view(run: Run, api: Api, found: dict[str, Any], words: dict[str, object]) -> None:
    try:
        me = api.get("/me")
    except SignedOut as exc:
        words["signed in"] = f"no: {exc.message} ({run.sign_in_command()})"
        return
    found["me"] = _without_csrf(me)
    words["signed in"] = f"{me['person']['email']} ({me['person']['role']}) until {moment(me['session_expires_at'])}"
    agents = api.get("/agents")["agents"]
    found["agents"] = agents
    online = [f"{agent['name']} ({agent['kind']})" for agent in agents if agent["connected"]]
    words["agents online"] = f"{len(online)} of {len(agents)}" + (f": {', '.join(online)}" if online else "")
    try:
        found["grants"] = api.get("/grants", live="true", limit=1000)["grants"]
    except Refused as exc:
        if exc.http_status != 403:
            raise
        words["live grants"] = "not for your role to see"
    else:
        words["live grants"] = len(found["grants"])


def _client_status(state: Path) -> dict[str, Any]:
    try:
        found = json.loads((state / _STATUS_FILE).read_text())
    except FileNotFoundError:
        raise CliError(f"no client runs with the state in {state}", fix=f"limen client --state {state}") from None
    except (OSError, ValueError, RecursionError) as exc:
        raise CliError(f"cannot read {state / _STATUS_FILE}", fix="run this as the user that runs the client") from exc
    if not isinstance(found, dict):
        raise CliError(f"{state / _STATUS_FILE} is no client's status", fix="check --state")
    return found


def _client_words(client: dict[str, Any]) -> dict[str, object]:
    def of(member: str, name: str) -> list[str]:
        return [str(entry.get(name, "")) for entry in client.get(member, []) if isinstance(entry, dict)]

    return {
        "client": "connected" if client.get("connected") else "not connected",
        "tunnel address": client.get("tunnel_address"),
        "reachable": of("reachable", "name"),
        "open": of("grants", "resource"),
        "refused": of("denials", "resource"),
    }


def _status_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, metavar="DIR", help="also the limen client with this state directory")


def _end_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("session", type=id_text, help="its id")


COMMANDS = (
    Command(("whoami",), "Who you are here, and what you may do.", whoami),
    Command(("status",), "How the server is, which agents are online, what is open.", status, _status_arguments),
    Command(("session", "list"), "Live sessions: yours, or everybody's if you may see them.", list_sessions),
    Command(("session", "end"), "End a session.", end_session, _end_arguments),
)
