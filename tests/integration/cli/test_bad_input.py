"""What goes wrong, and the one line that says so. Nothing is half done, and another tenant's things are not there."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from limen.kernel.ids import new_id
from tests.integration.cli.installation import OWNER, PASSWORD, Installation, Terminal

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("cli")]
CIDR = ("--cidr", "10.9.0.1/32")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("group add nobodies sam@x.example", "no such group: 'nobodies' (see: limen group list)"),
        ("group add everyon olive@home.example", "did you mean 'everyone'? see: limen group list"),
        ("group delete everyone", "built-in"),
        ("person suspend olivia@home.example", "did you mean 'olive@home.example'? see: limen person list"),
        ("person set-role olive@home.example member", "owner"),
        ("person invite nonsense", "e-mail"),
        ("person invite olive@home.example", "already"),
        ("resource create network bad --cidr 10.0.0.0/33", "'10.0.0.0/33' is not an IP address or network"),
        ("resource create network bad --cidr 127.0.0.1/32", "loopback"),
        ("resource create vault bad/name", "name"),
        ("policy create p --group everyone --resource nothing --action read", "no such resource: 'nothing'"),
        ("policy create p --group everyone --resource console --action fly", "unknown action in the policy"),
        ("policy create p --group everyone --resource console --action read", "'read' is no action of a console"),
        (
            'policy create p --group everyone --resource console --action sign-in --condition {"kind":"x"}',
            "unknown kind",
        ),
        ("policy delete nothing", "no such policy: 'nothing'"),
        ("agent token --kind gateway --name bad/name", "name"),
        ("vault token --ttl 52w", "("),
        ("audit list --before x", "'before' is not the cursor of a page"),
        ("grant list --limit 5000", "limit"),
        ("sftp-user keys nobody", "no such SFTP user: 'nobody'"),
        ("tenant list", "this takes an operator's token"),
        ("tenant list --operator-token-file /nowhere", "cannot read the operator's token from /nowhere"),
        ("login --ca /nowhere", "cannot read the authority's certificate from /nowhere"),
        ("audit export /nowhere/trail.jsonl", "cannot write /nowhere/trail.jsonl: No such file or directory"),
    ],
)
def test_the_servers_words_and_ours(owner: Terminal, words: str, said: str) -> None:
    assert said in owner.refused(*words.split())


def test_a_refused_policy_leaves_nothing(owner: Terminal) -> None:
    before = owner.json("policy", "list")
    two = ("--resource", "console", "--resource", "missing")
    owner.refused("policy", "create", "p", "--group", "everyone", *two, "--action", "sign-in")
    assert owner.json("policy", "list") == before


def test_a_wrong_password_and_a_used_link(platform: Installation, owner: Terminal) -> None:
    person = platform.terminal("wrong")
    words = ("--server", platform.url, "--ca", platform.ca, "--tenant", "home", "--password-stdin")
    assert "password is wrong" in person.refused("login", *words, "--email", OWNER, given="wrong wrong wrong")
    assert "password is wrong" in person.refused("login", *words, "--email", "no@body.example", given=PASSWORD)
    assert "standard input holds nothing" in person.refused("login", *words, "--email", OWNER, given="\n")
    assert "there is no terminal to ask on (E-mail) (give --email)" in person.refused("login", *words)
    assert "no terminal to ask on (Password) (use --password-stdin)" in person.refused(
        "login", *words[:-1], "--email", OWNER
    )
    assert not (person.home / "config").exists(), "no profile without a session"
    link = ("setup", platform.link, "--ca", platform.ca, "--password-stdin")
    assert "used already" in person.refused(*link, "--email", OWNER, "--name", "O", given=PASSWORD)
    assert "not a set-up link" in person.refused("setup", "https://localhost/x", status=2)


def test_a_weak_password_does_not_use_the_link_up(platform: Installation, owner: Terminal) -> None:
    link = owner.ok("person", "invite", "weak@home.example")
    person = platform.terminal("weak")
    words = ("setup", link, "--ca", platform.ca, "--password-stdin")
    assert "password" in person.refused(*words, given="short\n")
    person.ok(*words, given=PASSWORD + "\n")


def test_a_wrong_operators_token(platform: Installation, owner: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("lo1.00000000000000000000000000000000.nonsense\n")
    assert "operator" in owner.refused("tenant", "list", "--operator-token-file", file)
    file.write_bytes(b"\xff\x00\n")
    assert "is not a token" in owner.refused("tenant", "list", "--operator-token-file", file)
    operator = (platform.data / "operator.token").read_text()
    assert "holds nothing" not in owner.ok("tenant", "list", "--operator-token-file", "-", given=operator)
    assert "operator" in owner.refused("tenant", "create", "x" * 64, "--operator-token-file", file)


def test_somebody_in_between(platform: Installation, owner: Terminal, stranger: Terminal) -> None:
    # The same server seen through another authority's certificate is not believed, by any command.
    other = platform.terminal("between")
    default = next(iter(Path(ssl.get_default_verify_paths().capath or "/etc/ssl/certs").glob("*.pem")), None)
    assert default is not None
    variables = {"LIMEN_SERVER": platform.url, "LIMEN_TOKEN": "t", "LIMEN_CA": str(default)}
    said = Terminal(other.home, variables).refused("whoami")
    assert "from an authority that is not trusted here" in said


class Things:
    """The words that name one of everything in another tenant, by id; made by that tenant's owner."""

    def __init__(self, stranger: Terminal) -> None:
        def made(*words: str) -> str:
            found: str = stranger.json(*words)["id"]
            return found

        self.person = stranger.json("whoami")["person"]["id"]
        self.session = stranger.json("whoami")["session"]
        self.group = made("group", "create", "theirs")
        self.resource = made("resource", "create", "network", "theirs", *CIDR)
        self.policy = made(
            "policy", "create", "theirs", "--group", self.group, "--resource", self.resource, "--action", "connect"
        )
        self.workload = made("workload", "create", "theirs")
        self.token = made("vault", "token")
        self.connection = made("connection", "create", "theirs", "--provider", "local", "--root", "/srv/theirs")
        self.user = made("sftp-user", "create", "sam", "--connection", self.connection, "--person", "sam@beta.example")
        self.grant = stranger.json("grant", "list")["grants"][0]["id"]


@pytest.fixture(scope="module")
def theirs(stranger: Terminal) -> Things:
    return Things(stranger)


@pytest.mark.row("T2")
@pytest.mark.parametrize(
    "words",
    [
        "person suspend {person}",
        "person lift {person}",
        "person remove {person}",
        "person set-role {person} admin",
        "person reset-link {person}",
        "revoke --person {person}",
        "lift --person {person}",
        "lift --person {person} --resource console",
        "lift --workload {workload} --resource console",
        "group add {group} olive@home.example",
        "group add ours {person}",
        "group delete {group}",
        "resource delete {resource}",
        "policy create p --group {group} --resource console --action sign-in",
        "policy create p --group everyone --resource {resource} --action connect",
        "policy explain --person olive@home.example --resource {resource} --action connect",
        "policy delete {policy}",
        "revoke {grant}",
        "session end {session}",
        "workload token {workload}",
        "workload remove {workload}",
        "vault revoke {token}",
        "connection delete {connection}",
        "connection set-credential {connection} --credential stdin",
        "sftp-user create x --connection {connection} --person olive@home.example",
        "sftp-user keys {user}",
        "sftp-user set-password {user}",
        "sftp-user delete {user}",
        "agent remove {missing}",
    ],
)
def test_another_tenants_things_are_not_there(owner: Terminal, theirs: Things, words: str) -> None:
    """And they read exactly as what is nowhere at all."""
    if words.startswith("group add ours"):
        owner.run("group", "create", "ours")
    names = {**vars(theirs), "missing": str(new_id())}
    nowhere = dict.fromkeys(names, str(new_id()))
    secret = '{"access_key_id": "A", "secret_access_key": "B"}'
    said = owner.refused(*words.format(**names).split(), given=secret)
    assert "no such" in said or "unknown" in said, said
    assert owner.refused(*words.format(**nowhere).split(), given=secret) == said


def test_nobody_learns_who_is_elsewhere(owner: Terminal, theirs: Things) -> None:
    words = ("policy", "explain", "--resource", "console", "--action", "sign-in", "--person")
    said = owner.refused(*words, theirs.person)
    assert "no such person" in said
    assert owner.refused(*words, str(new_id())) == said


def test_their_lists_do_not_show_here(owner: Terminal, theirs: Things) -> None:
    lists: list[tuple[str, ...]] = [
        ("person", "list"),
        ("group", "list"),
        ("resource", "list"),
        ("policy", "list"),
        ("grant", "list"),
        ("workload", "list"),
        ("vault", "tokens"),
        ("connection", "list"),
        ("sftp-user", "list"),
        ("session", "list"),
        ("agent", "list"),
    ]
    for words in lists:
        shown: Any = owner.ok(*words, "--json")
        for item in vars(theirs).values():
            assert item not in shown, words
