"""Asking the person at the terminal. Questions go to standard error, so that results can be piped."""

import getpass
import sys
from typing import Protocol

from limen.cli.errors import CliError

MAX_SECRET_CHARACTERS = 64 * 1024


class Asker(Protocol):
    """Where answers come from."""

    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""
        ...

    def line(self, question: str) -> str:
        """One line of text."""
        ...

    def secret(self, question: str) -> str:
        """One line that is not shown while it is typed."""
        ...

    def standard_input(self) -> str:
        """All of standard input."""
        ...


class Terminal:
    """The terminal of this process."""

    def can_ask(self) -> bool:
        """Whether standard input is a terminal."""
        return sys.stdin is not None and sys.stdin.isatty()

    def line(self, question: str) -> str:
        """Ask; the answer without surrounding spaces."""
        sys.stderr.write(f"{question}: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise EOFError
        return answer.strip()

    def secret(self, question: str) -> str:
        """Ask without echo."""
        return getpass.getpass(f"{question}: ", stream=sys.stderr)

    def standard_input(self) -> str:
        """All of it, up to a limit that no secret reaches."""
        return sys.stdin.read(MAX_SECRET_CHARACTERS)


def ask(asker: Asker, question: str, instead: str) -> str:
    """A line that must not be empty; ``instead`` says what to do where nobody can answer.

    Raises:
        CliError: when nobody can answer, or the answer is empty.
    """
    answer = _checked(asker, question, instead).line(question)
    if not answer:
        raise CliError(f"no answer to '{question}'", fix=instead)
    return answer


def ask_secret(asker: Asker, question: str, instead: str, *, twice: bool = False) -> str:
    """A secret that must not be empty; ``twice`` for one that is new.

    Raises:
        CliError: when nobody can answer, the answer is empty, or the two differ.
    """
    answer = _checked(asker, question, instead).secret(question)
    if not answer:
        raise CliError(f"no answer to '{question}'", fix=instead)
    if twice and asker.secret(f"{question}, again") != answer:
        raise CliError("the two are not the same", fix="try again")
    return answer


def secret_from_input(asker: Asker) -> str:
    """The secret that standard input holds, without its line end.

    Raises:
        CliError: when it holds nothing.
    """
    found = asker.standard_input().rstrip("\r\n")
    if not found:
        raise CliError("standard input holds nothing", fix="pipe the secret in")
    return found


def _checked(asker: Asker, question: str, instead: str) -> Asker:
    if not asker.can_ask():
        raise CliError(f"there is no terminal to ask on ({question})", fix=instead)
    return asker
