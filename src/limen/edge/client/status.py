"""The status file of a client: what ``limen client status`` shows. Written atomically, mode 0600."""

import json
import os
from pathlib import Path
from typing import Any

STATUS_FILE = "status.json"


class StatusFile:
    """Replaces the file when its content changes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / STATUS_FILE
        self._written: dict[str, Any] | None = None

    def write(self, status: dict[str, Any]) -> None:
        """Write ``status`` if it differs from what was written last. Blocks for one small write."""
        if status == self._written:
            return
        temporary = self._path.with_name(f".{STATUS_FILE}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(status, file, indent=2)
            file.write("\n")
        temporary.replace(self._path)
        self._written = status

    def remove(self) -> None:
        """A client that does not run has no status. Idempotent."""
        self._path.unlink(missing_ok=True)


def read_status(directory: Path) -> dict[str, Any] | None:
    """The status of the client whose state is in ``directory``; None when it does not run."""
    try:
        found: dict[str, Any] = json.loads((directory / STATUS_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found
