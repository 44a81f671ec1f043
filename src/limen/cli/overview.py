"""``limen --help``: everything in groups, and ``limen GROUP --help``. Pure."""

from collections.abc import Iterable

from limen.cli.command import Command, Tree

PROCESSES = {
    "up": "Limen on one machine: database, key custody and control plane",
    "serve": "the control plane alone",
    "keyd": "the daemon that keeps the keys",
    "gateway": "the enforcement point in front of a private network",
    "client": "this device's way to private networks",
    "sftp": "the enforcement point in front of buckets",
}
_HEAD = """usage: limen COMMAND ... [--json] [--profile NAME]

Limen decides who may cross, opens exactly that, and shuts it at once when the reason ends."""
_TAIL = """'limen COMMAND --help' explains one command. Sign in first: limen login --server URL --tenant SLUG
Instead of a profile: LIMEN_SERVER, LIMEN_TOKEN, LIMEN_CA. Exit status: 0 done, 1 not done, 2 wrong command line."""


def overview(tree: Tree) -> str:
    """All commands under their headings, and the processes."""
    blocks = [(section.title, _lines(section.commands)) for section in tree.sections]
    blocks.append(("Processes (each with --help)", list(PROCESSES.items())))
    widest = max(len(name) for _, lines in blocks for name, _ in lines)
    parts = [_HEAD]
    parts += [
        "\n".join([f"{title}:", *(f"  {name:<{widest}}  {words}" for name, words in lines)]) for title, lines in blocks
    ]
    return "\n\n".join([*parts, _TAIL])


def group_overview(tree: Tree, word: str) -> str:
    """The commands that begin with ``word``."""
    lines = [(f"limen {command.name}", command.summary) for command in tree.group(word)]
    widest = max(len(name) for name, _ in lines)
    return "\n".join(
        [f"usage: limen {word} COMMAND ...", "", *(f"  {name:<{widest}}  {words}" for name, words in lines)]
    )


def _lines(commands: Iterable[Command]) -> list[tuple[str, str]]:
    return [(command.name, command.summary) for command in commands]
