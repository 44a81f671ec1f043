"""Processor time of idle agent channels, against bare WebSockets that do the least possible.

Agents are real channels (mutual TLS, enrolled, heartbeats with leases at the product's own interval) that all live in
one load process; counted is the time of ``limen serve``, its own background jobs included (a row of their own shows
what they take with no agent connected). The peer is a server of the same ``websockets`` library over TLS on the same
event loop, which echoes a message of a heartbeat's size at the same interval.
"""

import asyncio
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from demo.processes import Running, free_port
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.certificate import self_signed
from benchmarks.measure import cpu_seconds
from benchmarks.report import Row, row
from benchmarks.rig import Rig
from limen.edge.channel import Channel, enrol
from limen.edge.channel.ports import HelloFields
from limen.wire.agent import AgentKind, AppliedVersion, Welcome

MESSAGE = "x" * 120
SETTLE_SECONDS = 3.0


class _Idle:
    """A gateway that is told nothing and does nothing."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.heartbeat = 0.0

    def hello(self) -> HelloFields:
        return HelloFields("limen/bench", f"{self._number:043d}=", 51820, ("192.0.2.1",))

    def applied(self) -> tuple[AppliedVersion, ...]:
        return ()

    async def welcomed(self, welcome: Welcome) -> None:
        self.heartbeat = welcome.heartbeat_seconds

    async def received(self, message: object) -> None:
        pass

    async def lease(self, seconds: float) -> None:
        pass

    async def lapsed(self) -> None:
        pass

    async def lost(self) -> None:
        pass


def run(*, quick: bool) -> list[Row]:
    """Agents, then the bare connections."""
    count, seconds = (5, 3.0) if quick else (200, 40.0)
    with Rig() as rig:
        tokens = [
            rig.tenant.owner.post("/agents/tokens", {"kind": "gateway", "name": f"agent-{number}"})["token"]
            for number in range(count)
        ]
        idle, ours, heartbeat = uvloop.run(_agents(rig, tokens, seconds))
        peer = uvloop.run(_bare(rig, count, seconds, heartbeat))
    case = f"{count} idle agents, a heartbeat every {heartbeat:g} s"
    metric = "CPU ms of the server per agent and minute, less is better"
    per_agent = 1000 * 60 / seconds / count
    return [
        row(case, metric, ours * per_agent, peer * per_agent, "bare websockets echo"),
        row("no agent", "CPU ms of the server per minute, less is better", idle * 1000 * 60 / seconds),
    ]


async def _agents(rig: Rig, tokens: list[str], seconds: float) -> tuple[float, float, float]:
    pid = rig.serve_pid()
    await asyncio.sleep(SETTLE_SECONDS)  # what the set-up left to do is sealed
    idle = await _spent(pid, seconds)
    agents = []
    for number, token in enumerate(tokens):
        identity = await enrol(token, rig.work / f"agent-{number}", AgentKind.GATEWAY)
        agents.append((Channel(identity), _Idle(number)))
    tasks = [asyncio.create_task(channel.run(handler)) for channel, handler in agents]
    try:
        await _until(lambda: all(channel.online for channel, _ in agents))
        await asyncio.sleep(SETTLE_SECONDS)
        spent = await _spent(pid, seconds)
        return idle, spent, agents[0][1].heartbeat
    finally:
        for channel, _ in agents:
            channel.stop()
        await asyncio.wait(tasks, timeout=10)


async def _bare(rig: Rig, count: int, seconds: float, heartbeat: float) -> float:
    with tempfile.TemporaryDirectory(prefix="limen-echo-") as name:
        port = free_port("127.0.0.1")
        self_signed(Path(name))
        command = [sys.executable, "-m", "benchmarks.agents", name, str(port)]
        with Running("echo", command, rig.logs) as server:
            server.wait_until(lambda: "ready" in server.output(), 15, "the echo server")
            context = ssl.create_default_context(cafile=f"{name}/cert.pem")
            # All at once, as the agents are after they have connected together.
            tasks = [asyncio.create_task(_beat(port, context, heartbeat)) for _ in range(count)]
            try:
                await asyncio.sleep(SETTLE_SECONDS + heartbeat)
                return await _spent(server.pid, seconds)
            finally:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, Exception):
                        raise ended


async def _beat(port: int, context: ssl.SSLContext, heartbeat: float) -> None:
    async with connect(f"wss://127.0.0.1:{port}", ssl=context, ping_interval=None, compression=None) as connection:
        while True:
            await connection.send(MESSAGE)
            await connection.recv()
            await asyncio.sleep(heartbeat)


async def _spent(pid: int, seconds: float) -> float:
    before = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return cpu_seconds(pid) - before


async def _until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError("not all agents came online")
        await asyncio.sleep(0.1)


async def _echo(directory: Path, port: int) -> None:
    """The peer's server."""

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    async with serve(answer, "127.0.0.1", port, ssl=context, ping_interval=None, compression=None):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_echo(Path(sys.argv[1]), int(sys.argv[2])))
