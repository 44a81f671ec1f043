"""One person at work behind one laptop's namespace: a tunnel, SFTP sessions, vault tokens, until they are cut.

Run as a program inside the namespace, with a JSON object on standard input; prints ``ready`` once everything flows,
takes the line ``watch`` (poll the tokens quickly from now on) and, once everything is cut, prints what it saw:
all times are Unix seconds of the host's clock.
"""

import asyncio
import contextlib
import functools
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import uvloop

from benchmarks.http_load import Connection, request

CALM_SECONDS = 2.0
"""Each token is used this often on average while nobody looks."""
WATCH_SECONDS = 0.1
"""Each token is polled this often on average when its person is about to be suspended."""
READ_BYTES, READ_PAUSE = 8192, 0.1
"""Each SFTP session reads this much of an endless download, then pauses."""
TUNNEL_PAUSE = 0.005
"""The server of the tunnel's download sends a small block this often."""
GIVE_UP_SECONDS = 15.0
START_SECONDS = 30.0


@dataclass(slots=True)
class Seen:
    """What one person saw."""

    tunnel_last: float = 0.0
    sftp_closed: list[float] = field(default_factory=list)
    vault_refused: list[float] = field(default_factory=list)
    vault_last_ok: list[float] = field(default_factory=list)
    still_running: list[str] = field(default_factory=list)


class Person:
    """All that one person does at once."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._seen = Seen()
        self._watched = asyncio.Event()
        self._flowing = asyncio.Semaphore(0)

    async def work(self) -> Seen:
        """Do everything until it is cut, or nothing more is heard for a while after ``watch``."""
        order = self._order
        work = [self._tunnel, *[self._session] * order["sessions"]]
        work += [functools.partial(self._token, token) for token in order["tokens"]]
        # One after the other: how a crowd that arrives at once is served is another question.
        jobs = [await self._started(one) for one in work]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        self._watched.set()
        _, running = await asyncio.wait(jobs, timeout=GIVE_UP_SECONDS)
        self._seen.still_running = [_name(job) for job in running]
        for job in running:
            job.cancel()
        for job in jobs:
            if job not in running and (error := job.exception()) is not None:
                raise error
        return self._seen

    async def _started(self, work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        """Start one thing and wait until it flows; raises what it failed of."""
        flows = asyncio.create_task(self._flowing.acquire())
        job = asyncio.create_task(work())
        await asyncio.wait([flows, job], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not flows.done():
            flows.cancel()
            raise RuntimeError(f"{getattr(work, '__name__', 'a token')} did not start") from (
                job.exception() if job.done() else None
            )
        return job

    async def _tunnel(self) -> None:
        reader, writer = await asyncio.open_connection(self._order["server"], self._order["server_port"])
        writer.write(b"drip\n")
        flowing = False
        try:
            # The connection is not closed when it is cut: it falls silent.
            while await asyncio.wait_for(reader.read(1 << 16), 3.0 if flowing else 20.0):
                self._seen.tunnel_last = time.time()
                if not flowing:
                    flowing = True
                    self._flowing.release()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def _session(self) -> None:
        order = self._order
        connection = await asyncssh.connect(
            order["sftp_host"],
            order["sftp_port"],
            username=order["login"],
            client_keys=[order["key"]],
            known_hosts=order["known_hosts"],
            config=None,
            agent_path=None,
        )
        closed = asyncio.create_task(self._note_end(connection))
        offset = 0
        try:
            sftp = await connection.start_sftp_client()
            async with sftp.open(order["file"], "rb", block_size=None) as file:
                self._flowing.release()
                while True:
                    block = await file.read(READ_BYTES, offset)
                    offset = offset + len(block) if block else 0
                    await asyncio.sleep(READ_PAUSE * (0.5 + random.random()))
        except (asyncssh.Error, OSError):
            pass
        await closed

    async def _note_end(self, connection: asyncssh.SSHClientConnection) -> None:
        """Note when the connection ends, whatever the session is doing then."""
        await connection.wait_closed()
        self._seen.sftp_closed.append(time.time())

    async def _token(self, token: str) -> None:
        order = self._order
        connection = await Connection.open(order["host"], order["port"], Path(order["ca"]))
        asked = request("GET", f"{order['host']}:{order['port']}", order["secret"], token)
        last_ok = 0.0
        while True:
            status, _ = await connection.ask(asked)
            if status != 200:
                break
            if not last_ok:
                self._flowing.release()
            last_ok = time.time()
            # At random, so that the tokens take turns.
            if self._watched.is_set():
                await asyncio.sleep(WATCH_SECONDS * random.random() * 2)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._watched.wait(), CALM_SECONDS * random.random() * 2)
        if status != 403:
            raise RuntimeError(f"a token was answered {status}")
        self._seen.vault_refused.append(time.time())
        self._seen.vault_last_ok.append(last_ok)
        connection.close()


def _name(job: "asyncio.Task[None]") -> str:
    coroutine = job.get_coro()
    return getattr(coroutine, "__name__", "something").strip("_")


def drip(address: str, port: int) -> None:
    """The server of the tunnels' downloads: a small block every ``TUNNEL_PAUSE`` on each connection, for ever."""
    uvloop.run(_drip(address, port))


async def _drip(address: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Reset on close, so that nothing lingers when the tunnel is cut.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        try:
            await reader.readline()
            while True:
                writer.write(bytes(512))
                await writer.drain()
                await asyncio.sleep(TUNNEL_PAUSE)
        except OSError:
            writer.transport.abort()

    async with await asyncio.start_server(serve, address, port) as server:
        print("ready", flush=True)
        await server.serve_forever()


def main() -> None:
    """``drip ADDRESS PORT``, or a person from standard input."""
    if len(sys.argv) > 1:
        drip(sys.argv[2], int(sys.argv[3]))
        return
    order = json.loads(sys.stdin.readline())
    seen = uvloop.run(Person(order).work())
    print(json.dumps({name: getattr(seen, name) for name in Seen.__dataclass_fields__}), flush=True)


if __name__ == "__main__":
    main()
