"""What a data directory and /proc tell about the server in it, without connecting. Linux only.

A PostgreSQL server and each of its processes keep the data directory as their working directory, which unlike the
number in ``postmaster.pid`` cannot be somebody else's by now.
"""

from pathlib import Path

_READY_LINE = 7  # zero-based; LOCK_FILE_LINE_PM_STATUS in PostgreSQL's miscadmin.h counts from one


def processes_in(data_directory: Path) -> tuple[int, ...]:
    """The process ids of all PostgreSQL processes that work in this data directory, those of a dead server too.

    Only processes that the caller may inspect are seen: its own, or all for root.
    """
    wanted = data_directory.resolve()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").readlink() == wanted and (entry / "exe").readlink().name.startswith("postgres"):
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or not ours to see
    return tuple(sorted(found))


def is_ready(data_directory: Path, pid: int) -> bool:
    """Whether the server ``pid`` says in ``postmaster.pid`` that it accepts connections."""
    try:
        lines = (data_directory / "postmaster.pid").read_text().split("\n")
    except OSError:
        return False
    return len(lines) > _READY_LINE and lines[0].strip() == str(pid) and lines[_READY_LINE].strip() == "ready"


def clear_lock(data_directory: Path) -> None:
    """Remove the lock file of a dead server. Its number may be a stranger's by now, which PostgreSQL cannot tell."""
    (data_directory / "postmaster.pid").unlink(missing_ok=True)
