"""The checkpoint file: the chain of checkpoints outside the database, where a database administrator cannot
rewrite it.

One JSON line per checkpoint (:func:`rules.lines.checkpoint_line`), appended and fsynced, mode 0640.

The order is: commit in the database first, then append here; and the file is only ever written by
*following* the database from the file's own last line. Then, whatever crashes between any two steps:

* the file is a beginning of the database's chain; it can lag behind, it can never say something else.
  (Written before the commit, it could hold a checkpoint whose transaction then failed, and the next
  checkpoint of the same number would look like a fork.)
* what the file lacks after a crash, the next start appends before it seals anything new.
* a line that a power failure tore has no newline; it is cut off and written again from the database.

A file whose last checkpoint is not in the database's chain means that one of the two was rewritten, or that
an old backup was restored. Nothing is appended then: :class:`~limen.control.audit.errors.ForkedTrail`, and
the sealer stops until somebody has looked.
"""

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limen.control.audit import seal_store
from limen.control.audit.errors import ForkedTrail
from limen.control.audit.model import SignedCheckpoint
from limen.control.audit.rules import lines
from limen.db.database import Database, SystemRole
from limen.kernel.errors import Unavailable

_PAGE = 256
_TAIL_BYTES = 64 * 1024
_MODE = 0o640


class CheckpointFile:
    """One file; several processes of one machine may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def follow(self, database: Database) -> int:
        """Append every checkpoint that the database has and the file lacks; return how many.

        Raises:
            ForkedTrail: the file is not a beginning of the database's chain.
            Unavailable: the file cannot be written, or the database does not answer.
        """
        added = 0
        while True:
            # One page at a time: the lock is not held while other processes wait for a long catch-up.
            fresh = await self._follow_page(database)
            added += fresh
            if fresh < _PAGE:
                return added

    async def _follow_page(self, database: Database) -> int:
        number, last_line_hash = await asyncio.to_thread(self._head)
        async with database.system(SystemRole.SEALER) as tx:
            if number:
                self._check(await seal_store.checkpoint(tx, number), last_line_hash)
            fresh = await seal_store.checkpoints_after(tx, number, _PAGE)
            if not fresh:
                return 0
            seals = await seal_store.seal_hashes(tx, fresh[0].checkpoint.number, fresh[-1].checkpoint.number)
        text = [lines.line(lines.checkpoint_line(signed, seals.get(signed.checkpoint.number, []))) for signed in fresh]
        return await asyncio.to_thread(self._append, number, text)

    def _check(self, in_database: SignedCheckpoint | None, in_file: bytes) -> None:
        if in_database is None or _fingerprint(lines.signed(in_database)) != in_file:
            raise ForkedTrail(
                f"the last checkpoint in {self._path} is not in the database's chain",
                fix="find out which of the two was changed or restored; keep both",
            )

    def _head(self) -> tuple[int, bytes]:
        with self._locked() as descriptor:
            return _read_head(descriptor)

    def _append(self, expected: int, text: list[bytes]) -> int:
        with self._locked() as descriptor:
            number, _ = _read_head(descriptor)
            if number != expected:
                # Another process was faster; look again.
                return _PAGE
            data = b"".join(text)
            if os.write(descriptor, data) != len(data):
                raise OSError("short write")
            os.fsync(descriptor)
            return len(text)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                if new:
                    _sync_directory(self._path.parent)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise Unavailable(
                f"the checkpoint file {self._path} cannot be written: {exc.strerror or exc}",
                fix="check its directory, owner and free space",
            ) from exc


def _read_head(descriptor: int) -> tuple[int, bytes]:
    """Number and fingerprint of the last whole line; a torn line after it is cut off."""
    size = os.fstat(descriptor).st_size
    window = _TAIL_BYTES
    while True:
        start = max(0, size - window)
        tail = os.pread(descriptor, size - start, start)
        end = tail.rfind(b"\n") + 1
        begin = tail.rfind(b"\n", 0, max(end - 1, 0)) + 1
        if start == 0 or (end and begin):
            break
        window *= 4
    if start + end != size:
        os.ftruncate(descriptor, start + end)
        os.fsync(descriptor)
    if not end:
        return 0, b""
    try:
        signed = json.loads(tail[begin:end])["signed"]
        return int(signed["number"]), _fingerprint(signed)
    except (ValueError, KeyError, TypeError) as exc:
        raise ForkedTrail(
            "the last line of the checkpoint file is not a checkpoint",
            fix="restore the file from its backup; keep the damaged one for the investigation",
        ) from exc


def _fingerprint(signed: lines.Object) -> bytes:
    return hashlib.sha256(lines.line(signed)).digest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
