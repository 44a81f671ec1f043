"""Where sessions are kept, and what goes with which server."""

import stat
from pathlib import Path

import pytest

from limen.cli.errors import CliError, UsageError
from limen.cli.profiles import Profile, Profiles
from limen.cli.run import Run

PROFILE = Profile("https://limen.example", "acme", "ana@acme.example", "", "lt.secret", "2030-01-01T00:00:00Z")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}


def test_a_profile_comes_back_and_is_private(environ: dict[str, str]) -> None:
    profiles = Profiles.of(environ)
    assert profiles.load("default") is None
    profiles.save("default", PROFILE)
    profiles.save("other", Profile("https://other.example"))
    assert profiles.load("default") == PROFILE
    assert profiles.names() == ["default", "other"]
    directory = Path(environ["XDG_CONFIG_HOME"]) / "limen" / "profiles"
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(list(directory.iterdir())) == 2


def test_without_xdg_it_is_below_home(tmp_path: Path) -> None:
    for base in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative/is/invalid"}):
        Profiles.of({"HOME": str(tmp_path), **base}).save("p", PROFILE)
    assert (tmp_path / ".config" / "limen" / "profiles" / "p.json").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "x" * 65, "a\nb"])
def test_a_name_is_no_path(environ: dict[str, str], name: str) -> None:
    with pytest.raises(UsageError):
        Profiles.of(environ).save(name, PROFILE)


def test_a_profile_that_others_can_read_is_refused(environ: dict[str, str]) -> None:
    profiles = Profiles.of(environ)
    profiles.save("p", PROFILE)
    path = Path(environ["XDG_CONFIG_HOME"]) / "limen" / "profiles" / "p.json"
    path.chmod(0o640)
    with pytest.raises(CliError, match="others can read"):
        profiles.load("p")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"server": 1}', '{"server": "x", "more": "y"}', "[" * 100_000])
def test_a_broken_profile_says_so(environ: dict[str, str], text: str) -> None:
    profiles = Profiles.of(environ)
    profiles.save("p", PROFILE)
    (Path(environ["XDG_CONFIG_HOME"]) / "limen" / "profiles" / "p.json").write_text(text)
    with pytest.raises(CliError, match="is not a profile"):
        profiles.load("p")


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "lt.secret" not in repr(PROFILE)


def test_a_session_goes_to_its_own_server_only(environ: dict[str, str]) -> None:
    Profiles.of(environ).save("default", PROFILE)
    assert Run(environ).target().token == "lt.secret"
    elsewhere = Run({**environ, "LIMEN_SERVER": "https://evil.example"}).target()
    assert (elsewhere.server, elsewhere.token, elsewhere.authority) == ("https://evil.example", "", None)
    assert Run({**environ, "LIMEN_SERVER": "https://limen.example/"}).target().token == "lt.secret"
    with pytest.raises(CliError, match="not signed in"):
        _ = Run({**environ, "LIMEN_SERVER": "https://evil.example"}).api


def test_the_environment_wins(environ: dict[str, str]) -> None:
    Profiles.of(environ).save("default", PROFILE)
    Profiles.of(environ).save("work", Profile("https://work.example", token="w"))
    assert Run({**environ, "LIMEN_TOKEN": "t"}).target().token == "t"
    assert Run({**environ, "LIMEN_PROFILE": "work"}).target().token == "w"
    assert Run({**environ, "LIMEN_PROFILE": "work"}, profile="default").target().token == "lt.secret"
    with pytest.raises(CliError, match="LIMEN_TOKEN is not a token"):
        Run({**environ, "LIMEN_TOKEN": "a b"}).target()
    with pytest.raises(CliError, match="LIMEN_TOKEN is not a token"):
        Run({**environ, "LIMEN_TOKEN": "tökén"}).target()


def test_nobody_signed_in_says_how(environ: dict[str, str]) -> None:
    with pytest.raises(CliError) as caught:
        _ = Run(environ, profile="work").api
    assert "limen login --profile work --server URL --tenant SLUG" in caught.value.fix
