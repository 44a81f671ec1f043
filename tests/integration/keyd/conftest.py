"""The real keyd process on a directory of its own."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from limen.control.custody.service import KeydClient
from limen.kernel.errors import Unavailable

NOBODY = 65534
SOURCE = Path(__file__).parents[3] / "src"


class Keyd:
    """Starts, stops, kills and restarts one keyd."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "keyd"
        self.socket = directory / "run" / "keyd.sock"
        self.process: asyncio.subprocess.Process | None = None

    def arguments(self, *more: str) -> list[str]:
        base = [sys.executable, "-m", "limen.processes.keyd", "--directory", str(self.directory)]
        return [*base, "--socket", str(self.socket), *more]

    async def spawn(self, *more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.arguments(*more), stderr=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(SOURCE)}
        )

    async def start(self, *more: str) -> KeydClient:
        """Start it and wait until it answers."""
        self.process = await self.spawn(*more)
        client = KeydClient(self.socket)
        async with asyncio.timeout(20):
            while self.process.returncode is None:
                with contextlib.suppress(Unavailable):
                    await client.health()
                    return client
                await asyncio.sleep(0.02)
        raise AssertionError(await self.errors())

    async def refusal(self, *more: str) -> str:
        """Start it and expect it to refuse: exit status 1, and its last line."""
        self.process = await self.spawn(*more)
        async with asyncio.timeout(20):
            lines = (await self.errors()).splitlines()
            assert await self.process.wait() == 1, lines
        assert "Traceback" not in "\n".join(lines)
        return lines[-1]

    async def errors(self) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path that other users may pass through (pytest's own may not be passed, and sockets want it short)."""
    path = Path(tempfile.mkdtemp(prefix="limen-keyd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def keyd(directory: Path) -> AsyncIterator[Keyd]:
    daemon = Keyd(directory)
    yield daemon
    if daemon.process is not None:
        await daemon.stop(signal.SIGKILL)
