"""Signing in and out, one-time set-up, one's password."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from urllib.parse import urlsplit

from limen.cli.api import Api, Target, server_url
from limen.cli.asking import ask, ask_secret, secret_from_input
from limen.cli.command import Command
from limen.cli.commands.options import add_server, secret_input
from limen.cli.errors import CliError, SignedOut, UsageError
from limen.cli.profiles import Profile
from limen.cli.render import moment, plain
from limen.cli.run import Run, read_authority
from limen.cli.trust import fetch_authorities, pinned, vouched_for_by_system


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
    run.out.note(
        f"Now sign in: limen login --server {server}{ca} --tenant {_slug(server)} --email {plain(person['email'])}"
    )


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


def _slug(server: str) -> str:
    """The tenant that a host label names. Only under ``localhost`` is it sure that the first label is one."""
    label, dot, rest = (urlsplit(server).hostname or "").partition(".")
    return label if dot and rest == "localhost" else "SLUG"


def _owners_email(run: Run) -> str:
    """Only a tenant's first owner says who they are; of everybody else the link knows."""
    if not run.asker.can_ask():
        return ""
    return run.asker.line("Your e-mail (only if the link is for a tenant's first owner, else leave empty)")


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


def _password_arguments(parser: ArgumentParser) -> None:
    secret_input(parser, "--passwords-stdin", "read the present and the new password, one per line")


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
    Command(("password",), "Change your password.", change_password, _password_arguments),
)
