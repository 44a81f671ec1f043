"""The main of the command line: find the command, run it, and say in one line what went wrong.

Exit status: 0 done; 1 not done; 2 the command line is wrong; 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Sequence

import limen
from limen.cli.errors import CliError, SignedOut, UsageError
from limen.cli.overview import PROCESSES, group_overview, overview
from limen.cli.render import visible
from limen.cli.run import Run
from limen.cli.tree import TREE
from limen.kernel.errors import LimenError

_HELP = ("--help", "-h", "help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_text(given)
        return _flushed(lambda: _dispatch(given))
    except UsageError as exc:
        return _fail(exc, 2)
    except LimenError as exc:
        return _fail(exc, 1)
    except (KeyboardInterrupt, EOFError):
        print("\nlimen: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnicodeError:
        return _fail(CliError("this is not text in UTF-8", fix="check what was typed or piped in"), 1)
    except OSError as exc:
        return _fail(CliError(f"the system refused: {exc.strerror or exc}", fix="check disk space and rights"), 1)
    except Exception as exc:
        if os.environ.get("LIMEN_DEBUG"):
            raise
        words = f"something unexpected went wrong ({type(exc).__name__})"
        return _fail(CliError(words, fix="is the server of the same release? LIMEN_DEBUG=1 shows where"), 1)


def _check_text(given: list[str]) -> None:
    """Python hands on bytes that are no UTF-8 as lone surrogates, which nothing further on can send or print."""
    for argument in given:
        argument.encode("utf-8")


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        print(f"limen {limen.__version__}")
        return 0
    if given[:1] == ["help"] and len(given) > 1:
        given = [*given[1:], "--help"]
    if not given or given[0] in _HELP:
        print(overview(TREE))
        return 0 if given else 2
    if given[0].startswith("-"):
        raise UsageError(f"'{given[0]}' comes before the command", fix="write: limen COMMAND [OPTIONS]")
    if len(given) > 1 and given[1] in _HELP and TREE.group(given[0]) and (given[0],) not in TREE.commands:
        print(group_overview(TREE, given[0]))
        return 0
    if given[0] in PROCESSES:  # the dispatcher of processes takes these before us
        raise UsageError(f"'{given[0]}' is a process", fix=f"see: limen {given[0]} --help")
    return _run(given)


def _run(given: list[str]) -> int:
    command, rest = TREE.find(given)
    try:
        options = command.parser().parse_args(rest)
    except SystemExit as exc:  # --help
        return int(exc.code or 0)
    run = Run(os.environ, as_json=options.json, profile=options.profile)
    try:
        return command.run(run, options) or 0
    except SignedOut as exc:
        # The server does not know which profile to sign in with again; an operator's token has another way out.
        fix = f"sign in again: {run.sign_in_command()}" if "limen login" in exc.fix or not exc.fix else exc.fix
        raise SignedOut(exc.message, http_status=exc.http_status, fix=fix) from exc
    finally:
        run.close()


def _flushed(work: Callable[[], int]) -> int:
    """Run ``work``; a reader that is gone shows here and not at exit, where Python would complain."""
    status = work()
    sys.stdout.flush()
    return status


def _fail(exc: LimenError, status: int) -> int:
    fix = f" ({exc.fix})" if exc.fix else ""
    print(f"limen: {visible(exc.message + fix)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
