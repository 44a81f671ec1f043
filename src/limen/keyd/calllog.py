"""The call log: one JSON line for every call, written before its answer leaves. No key, no plaintext, no
ciphertext.

Files: ``calls.jsonl``, mode 0600, opened for appending only; at 64 MiB it becomes ``calls-<Unix
time>.jsonl`` and the oldest beyond sixteen such files is removed. A call that changes or releases something
is forced to the disk at once; of the others a power failure may lose the last seconds, a crash of the
process none. Where the log cannot be written, keyd does not answer.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from limen.kernel.errors import Unavailable
from limen.keyd.durable import DIRECTORY_MODE, FILE_MODE, sync_directory

MAX_FILE_BYTES = 64 << 20
KEPT_FILES = 16
_NAME = "calls.jsonl"

Entry = Mapping[str, object]


class CallLog:
    """An append-only log in a directory of its own."""

    def __init__(self, directory: Path, *, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        """Open the log; raises OSError when it cannot be."""
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        self._directory = directory
        self._max = max_file_bytes
        self._open()

    def write(self, entry: Entry, *, durable: bool) -> None:
        """Append one line; with ``durable`` it is on the disk when this returns.

        Raises:
            Unavailable: when it cannot be written.
        """
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if self._size + len(line) > self._max:
                self._turn_over()
            if os.write(self._descriptor, line) != len(line):
                raise OSError("short write")  # the disk is full; half a line stands there
            self._size += len(line)
            if durable:
                os.fdatasync(self._descriptor)
        except OSError as exc:
            raise Unavailable(
                "key custody cannot write its call log, so it does not answer",
                fix=f"free space on the disk of {self._directory}",
            ) from exc

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._directory / _NAME, flags, FILE_MODE)
        self._size = os.fstat(self._descriptor).st_size

    def _turn_over(self) -> None:
        os.fsync(self._descriptor)
        full = self._directory / _NAME
        full.rename(self._directory / f"calls-{time.time_ns():020d}.jsonl")
        os.close(self._descriptor)
        self._open()
        for old in sorted(self._directory.glob("calls-*.jsonl"))[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
        sync_directory(self._directory)
