"""Commands as entries of a table, and how a command line finds its entry.

Every command takes ``--json`` and ``--profile``, after its own words. Options cannot be shortened: a script must not
change its meaning when an option is added.
"""

import argparse
import difflib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from limen.cli.errors import UsageError
from limen.cli.run import Run


class Parser(argparse.ArgumentParser):
    """A parser whose errors are raised."""

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UsageError`."""
        raise UsageError(" ".join(message.split()), fix=f"see: {self.prog} --help")


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """For commands that take none."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``words`` follow ``limen``; ``more`` is shown by ``--help`` below the summary."""

    words: tuple[str, ...]
    summary: str
    run: Callable[[Run, Namespace], int | None]
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    more: str = ""

    @property
    def name(self) -> str:
        """As it is typed, without ``limen``."""
        return " ".join(self.words)

    def parser(self) -> Parser:
        """The parser of what comes after the words."""
        made = Parser(
            prog=f"limen {self.name}",
            description=self.summary,
            epilog=self.more or None,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.arguments(made)
        made.add_argument("--json", action="store_true", help="print the API's answer as JSON")
        made.add_argument("--profile", default="", metavar="NAME", help="another server or person (default: 'default')")
        return made


@dataclass(frozen=True, slots=True)
class Section:
    """Commands under one heading of the overview."""

    title: str
    commands: tuple[Command, ...]


class Tree:
    """All commands, by their words."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections = tuple(sections)
        self.commands = {command.words: command for section in sections for command in section.commands}
        assert len(self.commands) == sum(len(section.commands) for section in sections), "two commands of one name"

    def find(self, given: Sequence[str]) -> tuple[Command, list[str]]:
        """The command that ``given`` begins with, and the rest.

        Raises:
            UsageError: when there is none; it names the nearest ones.
        """
        for length in (2, 1):
            command = self.commands.get(tuple(given[:length]))
            if command is not None:
                return command, list(given[length:])
        first = given[0]
        within = self.group(first)
        if not within:
            near = difflib.get_close_matches(first, {words[0] for words in self.commands}, 2)
            raise UsageError(f"no such command: '{first}'", fix=_see(near, "limen --help"))
        wanted = given[1] if len(given) > 1 and not given[1].startswith("-") else ""
        known = [command.words[1] for command in within]
        if not wanted:
            raise UsageError(f"limen {first} what?", fix=f"one of: {', '.join(known)}")
        near = difflib.get_close_matches(wanted, known, 2)
        raise UsageError(f"no such command: '{first} {wanted}'", fix=_see(near, f"limen {first} --help"))

    def group(self, word: str) -> list[Command]:
        """The commands of two words that begin with ``word``."""
        return [command for words, command in self.commands.items() if words[0] == word and len(words) > 1]


def _see(near: Sequence[str], command: str) -> str:
    said = " or ".join(f"'{name}'" for name in near)
    return f"did you mean {said}? see: {command}" if said else f"see: {command}"
