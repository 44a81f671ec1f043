"""Child processes of ``limen up``: started with a death signal, watched, stopped in order.

A child that ends by itself ends the whole: a platform with a part missing must not look alive.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from limen.kernel.errors import Unavailable

STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_log = structlog.get_logger(__name__)


class Child:
    """One Python process of ours (``python -m module arguments``), its output appended to a log file."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], *, log: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._log_path = log
        self._environ = dict(environ)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            Unavailable: when it was not started.
        """
        if self._process is None:
            raise Unavailable(f"{self.name} was not started")
        return self._process.pid

    async def start(self) -> None:
        """Start it. It gets SIGTERM when this process dies, however that happens."""
        parent = os.getpid()

        def tie_to_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)

        descriptor = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=self._environ,
                start_new_session=True,  # Ctrl-C reaches us only: we stop the children, in order
                preexec_fn=tie_to_parent,
            )
        finally:
            os.close(descriptor)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self._process is None:
            raise Unavailable(f"{self.name} was not started")
        return await self._process.wait()

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process is not None and self._process.returncode is not None

    def last_words(self) -> str:
        """The last line that is meant for people in its log; empty when there is none."""
        try:
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        spoken = [line for line in lines[-20:] if line.startswith("limen ")]
        return spoken[-1] if spoken else (lines[-1] if lines else "")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after ``STOP_SECONDS``."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            _log.warning("a process did not stop in time", process=self.name)
            process.kill()
            await process.wait()


async def until_ready(child: Child, probe: "asyncio.Future[None]", seconds: float) -> None:
    """Wait for ``probe``, but no longer than ``seconds`` nor than the child lives.

    Raises:
        Unavailable: when the child ended or did not become ready; with its last words.
    """
    watch = asyncio.ensure_future(child.wait())
    either: list[asyncio.Future[Any]] = [probe, watch]
    try:
        done, _ = await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
    if probe in done:
        probe.result()
        return
    probe.cancel()
    words = child.last_words()
    if child.ended():
        raise Unavailable(words or f"{child.name} ended at its start", fix="" if words else "look at its log")
    raise Unavailable(f"{child.name} did not answer within {seconds:.0f} s", fix=words or "look at its log")
