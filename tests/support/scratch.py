"""One directory per test run for what must lie outside of pytest's own (which other users cannot enter).

The process that the developer started makes and removes it; workers only make things inside. So nothing stays
behind when a worker is killed, as pytest-xdist does on Ctrl-C.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

# Not LIMEN_…: processes under test refuse unknown variables of that prefix.
_VARIABLE = "SCRATCH_OF_LIMEN_TESTS"
_REMOVAL_SECONDS = 15.0


def begin_run() -> None:
    """Make the directory of this run and tell the workers, which inherit the environment."""
    path = Path(tempfile.mkdtemp(prefix="limen-t-", dir="/tmp"))
    path.chmod(0o711)
    os.environ[_VARIABLE] = str(path)


def end_run() -> None:
    """Remove the directory of this run; a server that is still going down may write for a moment longer."""
    path = Path(os.environ.pop(_VARIABLE))
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.05)


def scratch_directory(prefix: str) -> Path:
    """A new directory that every user may enter, with a path short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=os.environ[_VARIABLE]))
    path.chmod(0o711)
    return path
