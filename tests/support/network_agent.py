"""A gateway or client with its real rim, whose agent channel is this process's standard input and output.

One line is one call: ``W`` welcomed, ``M`` received, ``L`` lease, ``X`` lapsed, ``O`` lost, with the message in JSON.
What the agent sends comes out as JSON lines, its ``HelloFields`` first.
"""

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from limen.edge.client.driver import ClientDriver, ClientSettings
from limen.edge.client.status import StatusFile
from limen.edge.gateway.driver import GatewayDriver, GatewaySettings
from limen.edge.gateway.nft import Nft
from limen.edge.gateway.ruleset import NftFilter
from limen.edge.wireguard.keys import interface_name
from limen.edge.wireguard.link import Links, open_links
from limen.edge.wireguard.userspace import UserspaceWireGuard
from limen.kernel.clock import SystemClock
from limen.wire.agent import ToAgent, Welcome
from limen.wire.codec import decode, encode


async def send(message: object) -> None:
    sys.stdout.write(encode(message).decode() + "\n")
    sys.stdout.flush()


def build(kind: str, agent_id: UUID, tenant_id: UUID, port: int, state: Path, links: Links) -> Any:
    name = interface_name(agent_id)
    clock = SystemClock()
    if kind == "gateway":
        packet_filter = NftFilter(Nft(), f"limen_{name}", name)
        settings = GatewaySettings(tenant_id, name, port)
        return GatewayDriver(settings, UserspaceWireGuard(), packet_filter, links, clock, send)
    client = ClientSettings(tenant_id, name, interface_name(agent_id, "lmt"))
    return ClientDriver(client, UserspaceWireGuard(), links, clock, StatusFile(state), send)


async def call(driver: Any, line: str) -> None:
    kind, _, rest = line.partition(" ")
    if kind == "W":
        await driver.welcomed(decode(rest, Welcome))
    elif kind == "M":
        await driver.received(decode(rest, ToAgent))
    elif kind == "L":
        await driver.lease(float(rest))
    else:
        await {"X": driver.lapsed, "O": driver.lost}[kind]()


def log_to_stderr() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


async def main(kind: str, agent_id: str, tenant_id: str, port: str, state: str) -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with open_links() as links:
        driver = build(kind, UUID(agent_id), UUID(tenant_id), int(port), Path(state), links)
        await driver.start()
        work = asyncio.create_task(driver.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        sys.stdout.write(json.dumps(asdict(driver.hello())) + "\n")
        sys.stdout.flush()
        feed = asyncio.create_task(_feed(reader, driver))
        try:
            await asyncio.wait({work, feed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            feed.cancel()
            await asyncio.gather(work, feed, return_exceptions=True)
            await driver.stop()
    for task in (work, feed):
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]


async def _feed(reader: asyncio.StreamReader, driver: Any) -> None:
    while line := await reader.readline():
        await call(driver, line.decode().rstrip("\n"))


if __name__ == "__main__":
    log_to_stderr()
    asyncio.run(main(*sys.argv[1:]))
