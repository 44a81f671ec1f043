"""Profiles: which server, which authority, which session. One file of mode 0600 each, written whole or not at all.

They are in ``$XDG_CONFIG_HOME/limen/profiles`` (or ``~/.config/limen/profiles``). A file that others can read is
refused: whoever can read it has the session.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from limen.cli.errors import CliError, UsageError

DEFAULT_PROFILE = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A server and, while signed in, a session there. ``authority`` is PEM; empty means the system's authorities."""

    server: str
    tenant: str = ""
    email: str = ""
    authority: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    expires_at: str = ""


class Profiles:
    """The profiles of one user of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Profiles":
        """Where the environment says they are (XDG Base Directory Specification)."""
        base = environ.get("XDG_CONFIG_HOME", "")
        home = Path(base) if os.path.isabs(base) else Path(environ.get("HOME") or os.path.expanduser("~")) / ".config"
        return cls(home / "limen" / "profiles")

    def load(self, name: str) -> Profile | None:
        """The profile, or None when there is none of that name.

        Raises:
            CliError: when the file can be read by others, or is no profile.
        """
        path = self._path(name)
        try:
            with path.open(encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise CliError(
                        f"others can read the session in {path}", fix=f"chmod 600 {path}, then sign in again"
                    )
                found = json.load(file)
            if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
                raise ValueError("not an object of texts")
            return Profile(**found)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise CliError(f"cannot read {path}: {exc.strerror}", fix="check who owns it") from exc
        except (ValueError, TypeError, RecursionError) as exc:
            raise CliError(f"{path} is not a profile", fix="remove it and sign in again (limen login)") from exc

    def save(self, name: str, profile: Profile) -> None:
        """Write the profile.

        Raises:
            CliError: when that is impossible; what was there before is then still there.
        """
        path = self._path(name)
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self._directory)  # mode 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({key: value for key, value in asdict(profile).items() if value}, file, indent=2)
                    file.write("\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as exc:
            raise CliError(f"cannot write {path}: {exc.strerror}", fix="set XDG_CONFIG_HOME to another place") from exc

    def names(self) -> list[str]:
        """All profiles, by name."""
        return sorted(path.stem for path in self._directory.glob("[!.]*.json"))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError("a profile's name is letters, digits and ._-", fix="choose another --profile")
        return self._directory / f"{name}.json"


assert {entry.type for entry in fields(Profile)} <= {str, "str"}, "load() takes texts only"
