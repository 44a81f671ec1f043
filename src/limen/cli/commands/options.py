"""Options and types of arguments that several commands share."""

from argparse import ArgumentParser, _ArgumentGroup, _MutuallyExclusiveGroup
from pathlib import Path

from limen.cli.errors import UsageError
from limen.cli.names import as_id


def add_server(parser: ArgumentParser) -> None:
    """``--server`` and ``--ca``."""
    parser.add_argument("--server", default="", metavar="URL", help="https://HOST:PORT (default: the profile's)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="the certificate of the server's authority (ca.pem)")


def add_operator(parser: ArgumentParser) -> None:
    """What a command for platform operators takes to reach the server."""
    add_server(parser)
    parser.add_argument(
        "--operator-token-file",
        type=Path,
        metavar="FILE",
        help="the operator's token; - for standard input (or LIMEN_OPERATOR_TOKEN)",
    )


def secret_input(parser: ArgumentParser | _MutuallyExclusiveGroup, flag: str, words: str) -> None:
    """A flag that makes standard input the source of a secret."""
    parser.add_argument(flag, action="store_true", help=words)


def repeated(
    parser: ArgumentParser | _ArgumentGroup,
    flag: str,
    metavar: str,
    words: str,
    *,
    required: bool = False,
    dest: str | None = None,
) -> None:
    """An option that may be given several times, which its help says."""
    parser.add_argument(
        flag,
        action="append",
        default=[],
        metavar=metavar,
        required=required,
        dest=dest or flag.removeprefix("--").replace("-", "_"),
        help=f"{words}; repeat for more",
    )


def id_text(text: str) -> str:
    """An id.

    Raises:
        UsageError: when it is none.
    """
    found = as_id(text)
    if found is None:
        raise UsageError(f"'{text}' is not an id", fix="copy the id from the list command")
    return found


def count(text: str) -> int:
    """How many, at least one.

    Raises:
        UsageError: when it is no such number.
    """
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 6 and int(text) >= 1):
        raise UsageError(f"'{text}' is not a number of things", fix="write a whole number, at least 1")
    return int(text)
