"""The audit trail: read it, take it away to verify it, keep checkpoints."""

import json
import os
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from limen.cli.command import Command
from limen.cli.commands.options import count, id_text
from limen.cli.errors import CliError
from limen.cli.names import PERSON, as_id
from limen.cli.parsing import instant
from limen.cli.render import Columns, Row, at, table
from limen.cli.run import Run

PAGE = 100


def list_records(run: Run, given: Namespace) -> None:
    """Records that match, newest first; page after page up to the limit."""
    query: dict[str, Any] = {
        **_window(given),
        "actor": _actor(run, given.actor),
        "action": given.action,
        "object": given.object,
        "outcome": given.outcome,
        "source": given.source,
        "before": given.before,
    }
    records: list[dict[str, Any]] = []
    following: str | None = None
    while len(records) < given.limit:
        page = run.api.get("/audit", **query, limit=min(PAGE, given.limit - len(records)))
        records += page["records"]
        following = page["next"]
        if following is None:
            break
        query["before"] = following
    people = {} if run.out.as_json else run.names.visible_labels(PERSON)

    def named(kind: str, item: str) -> Any:
        return lambda record: f"{record[kind]} {people.get(record[item], record[item] or '')}".strip()

    columns: Columns = {
        "at": at("at"),
        "action": "action",
        "outcome": "outcome",
        "by": named("actor_kind", "actor_id"),
        "object": named("object_kind", "object_id"),
        "from": "source",
        "detail": _detail,
    }
    words = table(records, columns, empty="No records match")
    run.out.result({"records": records, "next": following}, words)
    if following is not None:
        run.out.note(f"There are more: add --before {following}")


def export(run: Run, given: Namespace) -> None:
    """Take the trail away as a file that can be verified offline; a file is written whole or not at all."""
    with run.api.download("/audit/export", **_window(given)) as blocks:
        if given.file == "-":
            for block in _whole(blocks):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        size = _write_whole(Path(given.file), blocks)
    run.out.result({"file": given.file, "bytes": size}, f"{given.file} is written ({size} bytes)")
    run.out.note(
        f"Verify it: limen-audit-verify {given.file} --public-key KEY  (audit.pub in the server's data directory)"
    )


def checkpoints(run: Run, given: Namespace) -> None:
    """Signed checkpoints, to be kept elsewhere."""
    answer = run.api.get("/audit/checkpoints", limit=given.limit)
    columns: Columns = {"number": _signed("number"), "at": _signed("at"), "hash-tree root": _signed("root")}
    run.out.result(answer, table(answer["checkpoints"], columns, empty="No checkpoints yet"))


def public_key(run: Run, _given: Namespace) -> None:
    """The key that checkpoints are signed with, as the server says."""
    answer = run.api.get("/audit/public-key")
    run.out.result(answer, answer["public_key"])
    run.out.note("Compare it with audit.pub in the server's data directory before you rely on it")


def _write_whole(path: Path, blocks: Iterator[bytes]) -> int:
    """Write beside ``path`` first, mode 0600, and move it there only when all of it has come."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise CliError(f"cannot write {path}: {exc.strerror}", fix="choose another place") from exc
    size = 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            for block in _whole(blocks):
                file.write(block)
                size += len(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as exc:
        os.unlink(temporary)
        if isinstance(exc, OSError):
            raise CliError(f"cannot write {path}: {exc.strerror}", fix="choose another place") from exc
        raise
    return size


def _whole(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks.

    Raises:
        CliError: when the last line is not the one that says that all is there.
    """
    tail = b""
    for block in blocks:
        tail = (tail + block)[-4096:]
        yield block
    try:
        last = json.loads(tail.rstrip(b"\n").rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        last = None
    if not isinstance(last, dict) or last.get("type") != "end":
        raise CliError("the export broke off", fix="try again; look at the log of limen serve")


def _window(given: Namespace) -> dict[str, str]:
    now = datetime.now(UTC)
    return {name: instant(text, now) for name in ("since", "until") if (text := getattr(given, name))}


def _actor(run: Run, given: str) -> str | None:
    if not given:
        return None
    return as_id(given) or run.names.id_of(PERSON, given)


def _detail(record: Row) -> str:
    if record["erased"]:
        return "(erased)"
    members = {**record["detail"], **(record["personal"] or {})}
    return " ".join(f"{name}={value}" for name, value in members.items())


def _signed(member: str) -> Any:
    return lambda checkpoint: checkpoint.get("signed", checkpoint).get(member)


def _window_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--since", default="", metavar="TIME", help="2026-01-31, 2026-01-31T09:00Z, or 2h for ago")
    parser.add_argument("--until", default="", metavar="TIME")


def _list_arguments(parser: ArgumentParser) -> None:
    _window_arguments(parser)
    parser.add_argument("--actor", default="", help="who did it (e-mail or id)")
    parser.add_argument("--action", default="", metavar="PREFIX", help="such as 'identity.' or 'policy.policy.create'")
    parser.add_argument("--object", type=id_text, default=None, metavar="ID", help="what it was done to")
    parser.add_argument("--outcome", choices=("ok", "denied", "failed"), default="")
    parser.add_argument("--source", default="", metavar="ADDRESS", help="from exactly there")
    parser.add_argument("--before", default="", metavar="CURSOR", help="continue a list")
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="at most so many (default: 50)")


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", help="where to; - for standard output")
    _window_arguments(parser)


def _checkpoint_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="the newest so many (default: 20)")


COMMANDS = (
    Command(("audit", "list"), "Who did what, newest first.", list_records, _list_arguments),
    Command(
        ("audit", "export"),
        "Take the trail away, to be verified offline.",
        export,
        _export_arguments,
        more="Values outside of --since and --until are left out; the proof over them stays.",
    ),
    Command(("audit", "checkpoints"), "Signed checkpoints; keep one elsewhere.", checkpoints, _checkpoint_arguments),
    Command(("audit", "public-key"), "The key that checkpoints are signed with.", public_key),
)
