"""The table of commands: help, wrong command lines, and that every command written down anywhere exists."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.cli.errors import UsageError
from limen.cli.main import main
from limen.cli.overview import PROCESSES, overview
from limen.cli.tree import TREE
from limen.processes import main as dispatcher
from limen.processes.tunnel import arguments as tunnel_arguments
from limen.processes.up import parser as up_parser

ROOT = Path(__file__).parents[3]
COMMANDS = list(TREE.commands.values())
ID = "0190c6f1-5d2a-7c3e-9b1f-2a6d4e8f0a1b"


def documented() -> Iterator[tuple[str, str]]:
    """Every command line in the README and the documents, with the file that it is in."""
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.S | re.M):
            for line in block.splitlines():
                if line.strip().removeprefix("$ ").startswith("limen "):
                    yield file.name, line.strip().removeprefix("$ ")


DOCUMENTED = list(documented())


def parse(line: str) -> argparse.Namespace:
    """Parse ``line`` as the shell and the program would.

    Raises:
        UsageError: when the program would refuse it.
    """
    words = shlex.split(line, comments=True)[1:]
    if words[0] in PROCESSES:
        return parse_process(words)
    command, rest = TREE.find(words)
    return command.parser().parse_args(rest)


def parse_process(words: list[str]) -> argparse.Namespace:
    made = up_parser() if words[0] == "up" else argparse.ArgumentParser(exit_on_error=False)
    if words[0] in ("gateway", "client"):
        tunnel_arguments(made)
    given, unknown = made.parse_known_args(words[1:])
    assert not unknown or words[0] in ("serve", "keyd", "sftp", "client"), (words, unknown)
    return given


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = getattr(command, "name")  # noqa: B009
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: limen {name}")
    assert getattr(command, "summary") in " ".join(shown.split())  # noqa: B009
    assert {"--json", "--profile"} <= set(re.findall(r"--[a-z-]+", shown))


def test_no_option_takes_a_secret() -> None:
    for command in COMMANDS:
        for action in command.parser()._actions:
            for option in action.option_strings:
                secret = re.search(r"password|secret|credential|token", option)
                assert not secret or action.nargs == 0 or option.endswith("-file") or action.choices, option


def test_the_overview_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {command.name}  +{re.escape(command.summary)}$", shown, re.M) for command in COMMANDS)
    assert all(re.search(rf"^  {name}  ", shown, re.M) for name in dispatcher.PROCESSES)
    assert max(map(len, shown.splitlines())) <= 120


def test_the_overview_knows_the_processes() -> None:
    assert set(PROCESSES) == set(dispatcher.PROCESSES)
    assert not {words[0] for words in TREE.commands} & set(PROCESSES)


def test_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "limen policy explain" in shown
    assert "limen group" not in shown
    assert main(["help", "policy", "create"]) == 0
    assert "--between" in capsys.readouterr().out


def test_nothing_typed_shows_the_overview_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out == overview(TREE) + "\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("polcy list", "no such command: 'polcy' (did you mean 'policy'?"),
        ("policy lst", "no such command: 'policy lst' (did you mean 'list'?"),
        ("policy", "limen policy what? (one of: list, create, delete, explain)"),
        ("--json person list", "'--json' comes before the command"),
        ("person list --jso", "unrecognized arguments: --jso (see: limen person list --help)"),
        ("person invite", "the following arguments are required: email"),
        ("person set-role a@b king", "invalid choice: 'king'"),
        (
            "resource create network x",
            "a network resource needs --cidr (for example --cidr 10.0.0.5/32 --port tcp/443)",
        ),
        ("resource create vault x --cidr 10.0.0.0/8", "not for a vault resource"),
        ("resource create network x --cidr 10.0.0.0/8 --port 443", "'443' is not a port (write tcp/443"),
        ("policy create p --resource r --action read", "a policy is for somebody"),
        ("policy create p --group g --resource r --action read --zone UTC", "--zone and --days belong to --between"),
        ("policy create p --group g --resource r --action read --condition {", "--condition is not a JSON object"),
        ("policy create p --group g --resource r --action read --max-duration 8", "'8' is not a duration"),
        ("revoke", "revoke one grant, or all of a person's"),
        (f"revoke {ID} --person a@b", "revoke one grant, or all of a person's"),
        ("revoke 5", "'5' is not an id (copy the id from the list command)"),
        ("lift --workload w", "a workload is only blocked from a resource (add --resource)"),
        ("audit list --limit 0", "'0' is not a number of things"),
        ("login --tenant x", "which server?"),
        ("login --server http://x --tenant x", "over https only"),
        ("login --server https://x", "which tenant?"),
        ("connection create c --provider local --credential ask", "a local folder has no credential"),
        ("person list --profile ../x", "a profile's name is letters"),
    ],
)
def test_wrong_command_lines_are_one_line_and_two(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LIMEN_TOKEN", "t")
    monkeypatch.delenv("LIMEN_SERVER", raising=False)
    if not line.startswith("login"):
        monkeypatch.setenv("LIMEN_SERVER", "https://127.0.0.1:1")
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("limen: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_what_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["group", "create", "\udcff"]) == 1
    assert capsys.readouterr().err == "limen: this is not text in UTF-8 (check what was typed or piped in)\n"


def test_a_defect_is_one_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise KeyError("x")

    monkeypatch.setattr("limen.cli.main._dispatch", broken)
    monkeypatch.delenv("LIMEN_DEBUG", raising=False)
    assert main(["whoami"]) == 1
    assert "something unexpected went wrong (KeyError)" in capsys.readouterr().err
    monkeypatch.setenv("LIMEN_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["whoami"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"limen \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_there_are_documented_commands() -> None:
    assert len([line for file, line in DOCUMENTED if file == "cli.md"]) > 40


@pytest.mark.parametrize(("file", "line"), DOCUMENTED, ids=[f"{file}: {line}"[:80] for file, line in DOCUMENTED])
def test_documented_commands_exist(file: str, line: str) -> None:
    parse(line.replace("SHA256", "00" * 32))


def test_the_examples_of_the_help_exist() -> None:
    examples = []
    for command in COMMANDS:
        joined = re.sub(r"\n +(?=--)", " ", command.more)
        examples += re.findall(r"(?:^|: | )(limen [a-z].*)$", joined.removeprefix("examples:"), re.M)
    assert len(examples) >= 7
    for line in examples:
        if "$(" not in line:
            parse(line)


def mentioned() -> Iterator[tuple[str, str]]:
    """Every command that a message of the program tells people to use (in quotes, as the house style has it)."""
    for file in sorted((ROOT / "src" / "limen").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for line in re.findall(r"['(`](limen [a-z][a-z-]*(?: [a-z][a-z-]*)?)[^a-zA-Z]", node.value):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", line


def test_commands_that_messages_name_exist() -> None:
    found = list(mentioned())
    assert len(found) > 20
    wrong = [(where, line) for where, line in found if not exists(line.split()[1:])]
    assert wrong == []


def exists(words: list[str]) -> bool:
    if words[0] in PROCESSES:
        return True
    try:
        TREE.find(words)
    except UsageError:
        return False
    return True


def test_the_greeting_of_limen_up_is_parsed() -> None:
    source = (ROOT / "src/limen/processes/up.py").read_text(encoding="utf-8")
    lines = [ast.literal_eval(f'"{line}"') for line in re.findall(r'f?"  (limen [^"]*)"', source)]
    assert len(lines) == 3
    for line in lines:
        parse(line.replace("{platform.url}", "https://localhost:1").replace("{", "").replace("}", ""))
