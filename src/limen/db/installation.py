"""Where PostgreSQL's programs are, and which major version a data directory is pinned to."""

import re
from dataclasses import dataclass
from pathlib import Path

from limen.db.errors import ProviderFailed

FLOOR = 15
ROOT = Path("/usr/lib/postgresql")  # Debian and Ubuntu: one directory per major version


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one major version."""

    major: int
    bin_directory: Path

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.bin_directory / name


def find_installations(root: Path = ROOT) -> tuple[Installation, ...]:
    """All usable installations, newest first."""
    found = [
        Installation(int(path.name), path / "bin")
        for path in (root.iterdir() if root.is_dir() else ())
        if re.fullmatch(r"\d+", path.name)
        and int(path.name) >= FLOOR
        and all((path / "bin" / name).is_file() for name in ("postgres", "initdb"))
    ]
    return tuple(sorted(found, key=lambda one: one.major, reverse=True))


def find_installation(major: int | None = None, root: Path = ROOT) -> Installation:
    """The installation of version ``major``, or the newest one.

    Raises:
        ProviderFailed: it is not installed; the message names the package.
    """
    for installation in find_installations(root):
        if major is None or installation.major == major:
            return installation
    if major is None:
        raise ProviderFailed(
            f"PostgreSQL {FLOOR} or newer is not installed",
            fix="apt install postgresql, or give the DSN of an external server",
        )
    raise ProviderFailed(
        f"the data directory belongs to PostgreSQL {major}, which is not installed",
        fix=f"apt install postgresql-{major}",
    )


def pinned_version(data_directory: Path) -> int | None:
    """The major version that an existing data directory was made with; ``None`` when there is none yet.

    Raises:
        ProviderFailed: the directory does not look like PostgreSQL's, or cannot be read.
    """
    try:
        return int((data_directory / "PG_VERSION").read_text().strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        raise ProviderFailed(
            f"{data_directory} is not a usable PostgreSQL data directory",
            fix="check its permissions, restore a backup, or choose another data directory (--data)",
        ) from exc
