"""Signing in and out, one-time set-up, and how things stand."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from limen.cli.api import Api, Target, server_url
from limen.cli.asking import ask, ask_secret, secret_from_input
from limen.cli.command import Command
from limen.cli.commands.options import add_server, id_text, secret_input
from limen.cli.errors import CliError, Refused, SignedOut, UsageError
from limen.cli.profiles import Profile
from limen.cli.render import Columns, at, fields, moment, plain, table
from limen.cli.run import Run, read_authority, removed
from limen.cli.trust import fetch_authorities, pinned, vouched_for_by_system

_STATUS_FILE = "status.json"  # what a running 'limen client' writes into its state directory


def login(run: Run, given: Namespace) -> None:
    """Sign in and keep the session in the profile."""
    before = run.profile
    server = _server(run, given.server, before)
    known = before if before is not None and before.server == server else None
    tenant = given.tenant or (known.tenant if known else "")
    if not tenant:
        raise UsageError("which tenant?", fix="add --tenant SLUG")
    authority = _authority(run, server, given.ca, given.fingerprint, known)
    same_tenant = known.email if known and known.tenant == tenant else ""
    email = given.email or same_tenant or ask(run.asker, "E-mail", "give --email")
    password = _password(run, given, "Password")
    with Api(Target(server, authority)) as api:
        answer = api.post("/sign-in", {"tenant": tenant, "email": email, "password": password})
    pem = authority.decode("ascii") if authority else ""
    run.profiles.save(run.profile_name, Profile(server, tenant, email, pem, answer["token"], answer["expires_at"]))
    shown = {name: answer[name] for name in ("person", "session", "expires_at")}
    run.out.result(
        {"server": server, "tenant": tenant, **shown},
        f"Signed in to {plain(tenant)} at {server} until {moment(answer['expires_at'])}",
    )


def logout(run: Run, _given: Namespace) -> None:
    """End the session there and forget it here."""
    profile = run.profile
    if profile is None or not profile.token:
        raise CliError("you are not signed in", fix=f"sign in: {run.sign_in_command()}")
    authority = profile.authority.encode() or None
    try:
        with Api(Target(profile.server, authority, profile.token)) as api:
            api.post("/sign-out")
        ended = True
    except SignedOut:
        ended = False  # it was over already
    kept = Profile(profile.server, profile.tenant, profile.email, profile.authority)
    run.profiles.save(run.profile_name, kept)
    run.out.result({"ended": ended}, "Signed out" if ended else "The session was over already; it is forgotten here")


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


def set_up(run: Run, given: Namespace) -> None:
    """Use a one-time link: become a tenant's first owner, or set one's password."""
    text = given.link or ask_secret(run.asker, "Link or token", "give the link as the argument")
    if text == "-":
        if given.password_stdin:
            raise UsageError("standard input cannot hold both", fix="give the link as the argument")
        text = secret_from_input(run.asker).strip()
    link_server, token = _link(text)
    known = run.profile
    server = _server(run, given.server or link_server, known)
    trusted = known if known is not None and known.server == server else None
    authority = _authority(run, server, given.ca, given.fingerprint, trusted)
    email = given.email or _owners_email(run)
    body = {"token": token}
    if email or given.name:
        body["email"] = email or ask(run.asker, "Your e-mail", "give --email")
        body["name"] = given.name or ask(run.asker, "Your name", "give --name")
    body["password"] = _password(run, given, "New password", twice=True)
    with Api(Target(server, authority)) as api:
        person = api.post("/setup", body)
    ca = f" --ca {given.ca}" if given.ca else ""
    words = f"{plain(person['email'])} is set up as {person['role']}"
    run.out.result(person, words)
    run.out.note(f"Now sign in: limen login --server {server}{ca} --tenant SLUG --email {plain(person['email'])}")


def change_password(run: Run, given: Namespace) -> None:
    """Change one's own password; one's other sessions end."""
    if given.passwords_stdin:
        lines = secret_from_input(run.asker).splitlines()
        if len(lines) != 2:
            raise CliError("standard input must hold two lines", fix="the present password, then the new one")
        current, new = lines
    else:
        current = ask_secret(run.asker, "Present password", "use --passwords-stdin")
        new = ask_secret(run.asker, "New password", "use --passwords-stdin", twice=True)
    run.api.post("/me/password", {"current": current, "new": new})
    run.out.result({"changed": True}, "Your password is changed; your other sessions are over")


def list_sessions(run: Run, _given: Namespace) -> None:
    """Live sessions."""
    answer = run.api.get("/sessions")
    columns: Columns = {
        "session": "id",
        "person": "person",
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


def _server(run: Run, given: str, known: Profile | None) -> str:
    chosen = given or run.environ.get("LIMEN_SERVER", "") or (known.server if known else "")
    if not chosen:
        raise UsageError("which server?", fix="add --server https://HOST:PORT")
    return server_url(chosen)


def _authority(run: Run, server: str, ca: Path | None, fingerprint: str, known: Profile | None) -> bytes | None:
    """Which authority to believe from now on; a person decides when nothing else does."""
    if ca is not None or (run.environ.get("LIMEN_CA") and not fingerprint):
        return read_authority(ca or Path(run.environ["LIMEN_CA"]))
    if fingerprint:
        return pinned(fetch_authorities(server), fingerprint).pem
    if known is not None:
        return known.authority.encode() or None
    if vouched_for_by_system(server):
        return None
    instead = "give --ca FILE, or --fingerprint SHA256"
    if not run.asker.can_ask():
        raise CliError("the server's certificate is from an authority that this machine does not know", fix=instead)
    offered = fetch_authorities(server)
    run.out.note(f"{server} names its own authority, with this SHA-256 fingerprint:")
    for authority in offered:
        run.out.note(f"  {authority.shown}")
    run.out.note("Compare it on the server: openssl x509 -in DATA/ca.pem -noout -fingerprint -sha256")
    if run.asker.line("Do you trust it? Type yes").lower() != "yes":
        raise CliError("not trusted, nothing was sent", fix=instead)
    return b"".join(authority.pem for authority in offered)


def _password(run: Run, given: Namespace, question: str, *, twice: bool = False) -> str:
    if given.password_stdin:
        return secret_from_input(run.asker)
    return ask_secret(run.asker, question, "use --password-stdin", twice=twice)


def _link(text: str) -> tuple[str, str]:
    """The server ("" for none) and the token in a one-time link."""
    if "://" not in text:
        return "", text.strip()
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        raise UsageError("this is not a set-up link", fix="copy it whole") from None
    head, _, token = parts.path.rpartition("/")
    if not head.endswith("/setup") or not token:
        raise UsageError("this is not a set-up link", fix="copy it whole; it ends in /setup/ and a token")
    return f"{parts.scheme}://{parts.netloc}", token


def _owners_email(run: Run) -> str:
    """Only a tenant's first owner says who they are; of everybody else the link knows."""
    if not run.asker.can_ask():
        return ""
    return run.asker.line("Your e-mail (only if the link is for a tenant's first owner, else leave empty)")


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


def _login_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("--fingerprint", default="", metavar="SHA256", help="of the authority, when there is no --ca")
    parser.add_argument("--tenant", default="", metavar="SLUG", help="your organisation's short name")
    parser.add_argument("--email", default="", help="who you are (asked for when left out)")
    secret_input(parser, "--password-stdin", "read the password from standard input instead of asking")


def _setup_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "link", nargs="?", default="", help="the link or its token; - for standard input; else asked for"
    )
    add_server(parser)
    parser.add_argument("--fingerprint", default="", metavar="SHA256", help="of the authority, when there is no --ca")
    parser.add_argument("--email", default="", help="the first owner's e-mail")
    parser.add_argument("--name", default="", help="the first owner's name")
    secret_input(parser, "--password-stdin", "read the new password from standard input instead of asking")


def _status_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, metavar="DIR", help="also the limen client with this state directory")


def _password_arguments(parser: ArgumentParser) -> None:
    secret_input(parser, "--passwords-stdin", "read the present and the new password, one per line")


def _end_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("session", type=id_text, help="its id")


COMMANDS = (
    Command(
        ("setup",),
        "Use a one-time link: become the first owner, or set your password.",
        set_up,
        _setup_arguments,
        more="example: limen setup https://home.localhost:8443/setup/TOKEN --ca /var/lib/limen/ca.pem",
    ),
    Command(
        ("login",),
        "Sign in; the session is kept in the profile.",
        login,
        _login_arguments,
        more="Later 'limen login' alone is enough.\n"
        "Without --ca the fingerprint of the server's authority is shown, to be compared and trusted.",
    ),
    Command(("logout",), "End the session.", logout),
    Command(("whoami",), "Who you are here, and what you may do.", whoami),
    Command(("status",), "How the server is, which agents are online, what is open.", status, _status_arguments),
    Command(("password",), "Change your password.", change_password, _password_arguments),
    Command(("session", "list"), "Live sessions: yours, or everybody's if you may see them.", list_sessions),
    Command(("session", "end"), "End a session.", end_session, _end_arguments),
)
