"""The main job, with the command line only."""

import json
import shlex
import stat
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import hvac
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.cli.installation import OWNER, PASSWORD, PROGRAM, Installation, Terminal

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("cli")]
VERIFIER = Path(__file__).parents[3] / "verifier" / "limen-audit-verify"


def test_the_three_commands_that_limen_up_prints(platform: Installation, owner: Terminal) -> None:
    person = platform.terminal("newcomer")
    login, *rest = (shlex.split(line) for line in platform.commands)
    assert len(rest) == 2
    shown = person.answer([*PROGRAM, *login[1:]], [("E-mail: ", OWNER), ("Password: ", PASSWORD)])
    assert shown.status == 0, shown
    assert "Signed in to home" in shown.out
    assert PASSWORD not in shown.out, "the password is not shown while it is typed"
    for words in rest:
        person.ok(*words[1:])
    assert any(
        (policy["name"], policy["actions"]) == ("staff", ["connect"])
        for policy in person.json("policy", "list")["policies"]
    )
    profile = person.home / "config" / "limen" / "profiles" / "default.json"
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600


def test_from_invitation_to_the_verified_trail(platform: Installation, owner: Terminal) -> None:
    # A person, a group, a secret, a policy.
    link = owner.ok("person", "invite", "ana@home.example", "--name", "Ana Lopez")
    ana = platform.terminal("ana")
    ana.ok("setup", link, "--ca", platform.ca, "--password-stdin", given=PASSWORD + "\n")
    owner.ok("group", "create", "engineering")
    owner.ok("group", "add", "engineering", "ANA@home.example")
    assert "ana@home.example" in owner.ok("group", "list", "--members")
    owner.ok("resource", "create", "vault", "app")
    asked = ("policy", "explain", "--person", "ana@home.example", "--resource", "app", "--action", "read")
    assert owner.ok(*asked).startswith("answer   denied")
    conditions = ("--from", "127.0.0.0/8", "--max-duration", "8h")
    everything = ("--action", "read,write", "--action", "list")
    owner.ok("policy", "create", "secrets", "--group", "engineering", "--resource", "app", *everything, *conditions)
    assert "from 127.0.0.0/8, at most 8h" in owner.ok("policy", "list")
    assert owner.ok(*asked, "--from", "127.0.0.1").split()[1] == "allowed"

    # She signs in and uses a token that is alone on standard output.
    ana = platform.signed_in("ana", "ana@home.example", "home")
    assert "member" in ana.ok("whoami")
    token = ana.ok("vault", "token", "--ttl", "1h", "--display", "laptop")
    vault = hvac.Client(url=platform.url, token=token, verify=str(platform.ca))
    vault.secrets.kv.v2.create_or_update_secret("db", {"password": "s3cret"}, mount_point="app")
    assert [kept["display"] for kept in ana.json("vault", "tokens")["tokens"]] == ["laptop"]
    assert any(
        (row["subject"], row["resource"]) == ("Ana Lopez", "app") for row in owner.json("grant", "list")["grants"]
    )

    # One revocation ends her session and her token; after lifting she may sign in again.
    assert "is suspended since" in owner.ok("revoke", "--person", "ana@home.example", "--reason", "lost laptop")
    assert "your session has ended (sign in again: limen login)" in ana.refused("whoami")
    with pytest.raises(hvac.exceptions.Forbidden):
        vault.secrets.kv.v2.read_secret_version("db", mount_point="app", raise_on_deleted_version=True)
    assert "lost laptop" in owner.ok("grant", "blocks")
    owner.ok("lift", "--person", "ana@home.example")
    ana.ok("login", "--password-stdin", given=PASSWORD)

    # The trail names what was done, and holds offline.
    listed = owner.json("audit", "list", "--action", "grants.block.", "--limit", "2")["records"]
    assert [record["action"] for record in listed] == ["grants.block.lift", "grants.block.set"]
    trail = owner.home / "trail.jsonl"
    owner.ok("audit", "export", trail)
    assert stat.S_IMODE(trail.stat().st_mode) == 0o600
    key = owner.ok("audit", "public-key")
    assert key == (platform.data / "audit.pub").read_text().strip()
    verify = [sys.executable, "-I", "-S", VERIFIER, trail, "--public-key", key, "--json"]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified
    assert json.loads(verified.stdout)["records"] > 10
    assert owner.ok("audit", "export", "-").splitlines()[0].startswith('{"')
    assert owner.json("audit", "checkpoints", "--limit", "1")["checkpoints"]
    assert [path.name for path in owner.home.iterdir() if "trail" in path.name] == ["trail.jsonl"]


def test_pages_of_the_trail(owner: Terminal) -> None:
    for number in range(3):
        owner.ok("group", "create", f"page {number}")
    whole = owner.json("audit", "list", "--limit", "6")["records"]
    first = owner.json("audit", "list", "--limit", "2")
    following = owner.json("audit", "list", "--limit", "4", "--before", first["next"])
    assert len(whole) == 6
    # Reading the list is not recorded, so both ways show the same records.
    assert first["records"] + following["records"] == whole


def test_a_bucket_and_an_sftp_user(platform: Installation, owner: Terminal) -> None:
    place = (
        "--provider",
        "s3",
        "--endpoint",
        "https://s3.example.org",
        "--bucket",
        "exchange",
        "--region",
        "us-east-1",
    )
    secret = json.dumps({"access_key_id": "AKIA", "secret_access_key": "very-secret"})
    made = owner.json("connection", "create", "partner", *place, "--credential", "stdin", given=secret)
    assert made["has_credential"]
    assert "no terminal to ask" in owner.refused("connection", "create", "other", *place)
    assert "holds no credential" in owner.refused("connection", "create", "other", *place, "--credential", "stdin")
    assert "AWS_ACCESS_KEY_ID" in owner.refused("connection", "create", "other", *place, "--credential", "env")
    with_keys = Terminal(owner.home, {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "another"})
    with_keys.ok("connection", "set-credential", "partner", "--credential", "env")
    assert [one["name"] for one in owner.json("connection", "list")["connections"]] == ["partner"], "none half made"

    user = owner.json("sftp-user", "create", "olive", "--connection", "partner", "--person", OWNER, "--jail", "in")
    assert user["login"] == f"olive.{made['slug']}"
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    key = owner.home / "id.pub"
    key.write_bytes(public + b" olive\n")
    added = owner.json("sftp-user", "add-key", "olive", key, "--from", "10.0.0.0/8", "--until", "2099-01-01")
    assert added["sources"] == ["10.0.0.0/8"]
    assert "10.0.0.0/8" in owner.ok("sftp-user", "keys", user["login"])
    private = owner.home / "id"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n" + b64encode(bytes(64)).decode())
    assert "is a private key; it was not sent" in owner.refused("sftp-user", "add-key", "olive", private)
    owner.ok("sftp-user", "remove-key", "olive", added["id"])
    assert len(owner.ok("sftp-user", "set-password", "olive")) > 16
    own = owner.ok("sftp-user", "set-password", "olive", "--password-stdin", given="my own long password\n")
    assert "my own long password" not in own
    owner.ok("sftp-user", "clear-password", "olive")
    owner.ok("sftp-user", "delete", user["login"])
    owner.ok("connection", "delete", "partner")


def test_agents_workloads_and_sessions(platform: Installation, owner: Terminal) -> None:
    assert owner.ok("agent", "token", "--kind", "gateway", "--name", "paris").startswith("le1.")
    assert owner.ok("agent", "list") == "No agents"
    owner.ok("workload", "create", "deploy")
    assert owner.ok("workload", "token", "deploy", "--ttl", "5m", "--not-renewable").startswith("lv1.")
    owner.ok("workload", "remove", "deploy")
    operator = ("--operator-token-file", platform.data / "operator.token")
    assert owner.ok("platform", "token", "--kind", "sftp", "--name", "files", *operator).startswith("le1.")
    assert owner.json("platform", "list", *operator) == {"agents": []}
    status = owner.json("status")
    assert status["health"]["status"] == "ok"
    assert status["me"]["person"]["email"] == OWNER
    assert "csrf_token" not in status["me"]

    second = platform.signed_in("second", OWNER, "home")
    mine = next(entry["id"] for entry in second.json("session", "list")["sessions"] if entry["current"])
    owner.ok("session", "end", mine)
    assert "your session has ended" in second.refused("whoami")
    assert "no: your session has ended" in second.ok("status")
    assert "it is forgotten here" in second.ok("logout")
    assert "you are not signed in" in second.refused("logout")


def test_status_of_the_client_here(platform: Installation, owner: Terminal) -> None:
    state = owner.home / "client"
    state.mkdir()
    assert "no client runs with the state" in owner.refused("status", "--state", state)
    found = {
        "connected": True,
        "tunnel_address": "100.64.0.2",
        "reachable": [{"name": "wiki", "cidr": "10.0.0.5/32"}],
        "grants": [{"resource": "wiki"}],
        "denials": [],
    }
    (state / "status.json").write_text(json.dumps(found))
    assert "tunnel address  100.64.0.2" in owner.ok("status", "--state", state)
    (state / "status.json").write_text("[")
    owner.refused("status", "--state", state)


def test_a_person_decides_whom_to_trust(platform: Installation, owner: Terminal) -> None:
    person = platform.terminal("careful")
    words = [*PROGRAM, "login", "--server", platform.url, "--tenant", "home", "--email", OWNER]
    no = person.answer(words, [("Type yes: ", "no")])
    assert no.status == 1
    assert "not trusted, nothing was sent" in no.out
    openssl = ["openssl", "x509", "-in", platform.ca, "-noout", "-fingerprint", "-sha256"]
    fingerprint = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout.strip().partition("=")[2]
    assert fingerprint in no.out
    yes = person.answer(words, [("Type yes: ", "yes"), ("Password: ", PASSWORD)])
    assert yes.status == 0, yes
    person.ok("whoami")
    # A script pins it instead.
    script = platform.terminal("script")
    words = [*words[len(PROGRAM) :], "--password-stdin"]
    assert "--fingerprint SHA256" in script.refused(*words, given=PASSWORD)
    assert "another fingerprint" in script.refused(*words, "--fingerprint", "00" * 32, given=PASSWORD)
    script.ok(*words, "--fingerprint", fingerprint, given=PASSWORD)
    script.ok("login", "--password-stdin", given=PASSWORD)  # the profile knows the rest by now


def test_names_under_localhost_and_the_environment(platform: Installation, owner: Terminal) -> None:
    home = platform.url.replace("localhost", "home.localhost")
    person = platform.terminal("named")
    words = ("--server", home, "--ca", platform.ca, "--tenant", "home", "--email", OWNER, "--profile", "named")
    person.ok("login", *words, "--password-stdin", given=PASSWORD)
    assert f"server         {home}" in person.ok("whoami", "--profile", "named")
    token = json.loads((person.home / "config/limen/profiles/named.json").read_text())["token"]
    variables = {"LIMEN_SERVER": home, "LIMEN_CA": str(platform.ca), "LIMEN_TOKEN": token}
    bare = Terminal(platform.terminal("bare").home, variables)
    assert bare.json("whoami")["person"]["email"] == OWNER
    assert not (bare.home / "config").exists()


def test_a_password_is_changed(platform: Installation, owner: Terminal) -> None:
    link = owner.ok("person", "invite", "pat@home.example", "--role", "auditor")
    person = platform.terminal("pat")
    shown = person.answer(
        [*PROGRAM, "setup", link, "--ca", str(platform.ca)],
        [("leave empty): ", ""), ("New password: ", PASSWORD), ("New password, again: ", PASSWORD)],
    )
    assert shown.status == 0, shown
    person = platform.signed_in("pat", "pat@home.example", "home")
    other = "another lamp, another door"
    person.ok("password", "--passwords-stdin", given=f"{PASSWORD}\n{other}\n")
    person.refused("login", "--password-stdin", given=PASSWORD)
    person.ok("login", "--password-stdin", given=other)
    # An auditor reads everything and changes nothing.
    assert "pat@home.example" in person.ok("audit", "list")
    assert "your role does not include" in person.refused("group", "create", "x")


def test_output_may_be_cut_short(owner: Terminal) -> None:
    command = f"{shlex.join(PROGRAM)} audit list --limit 50 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=owner.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("There are more")] == []
    assert done.stdout.startswith("AT ")
