"""A small HTTP/1.1 client for load: keep-alive connections over TLS, one request at a time on each.

Requests are encoded once; of an answer only the status and the body are looked at, so that the client costs little
next to the servers and the same next to both.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop


@dataclass(slots=True)
class Load:
    """What a run came to. ``latencies`` are in seconds."""

    seconds: float
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds


class UnexpectedAnswer(RuntimeError):
    """An answer that the benchmark does not count: it would compare errors."""


def request(method: str, host: str, path: str, token: str, body: bytes = b"") -> bytes:
    """One request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"X-Vault-Token: {token}", "X-Vault-Request: true"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, ca_file: Path) -> "Connection":
        """Connect, and verify the server's certificate."""
        context = ssl.create_default_context(cafile=str(ca_file))
        return cls(*await asyncio.open_connection(host, port, ssl=context))

    async def ask(self, encoded: bytes) -> tuple[int, bytes]:
        """Send one request; status and body of the answer."""
        self._writer.write(encoded)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, length = int(head[9:12]), 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, await self._reader.readexactly(length) if length else b""

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def load(
    host: str, port: int, ca_file: Path, requests: Sequence[Callable[[int], bytes]], seconds: float, expected: bytes
) -> Load:
    """One connection for each of ``requests`` (called with a running number); every answer must be 200 and hold
    ``expected``.

    Raises:
        UnexpectedAnswer: when one is not.
    """
    return uvloop.run(_load(host, port, ca_file, requests, seconds, expected))


async def _load(
    host: str, port: int, ca_file: Path, requests: Sequence[Callable[[int], bytes]], seconds: float, expected: bytes
) -> Load:
    connections = [await Connection.open(host, port, ca_file) for _ in requests]
    found = Load(seconds)
    started = time.perf_counter()

    async def drive(connection: Connection, encoded: Callable[[int], bytes]) -> None:
        number = 0
        while (asked := time.perf_counter()) - started < seconds:
            status, body = await connection.ask(encoded(number))
            number += 1
            if status != 200 or expected not in body:
                raise UnexpectedAnswer(f"{status}: {body[:200]!r}")
            found.latencies.append(time.perf_counter() - asked)

    try:
        async with asyncio.TaskGroup() as group:
            for connection, encoded in zip(connections, requests, strict=True):
                group.create_task(drive(connection, encoded))
        found.seconds = time.perf_counter() - started
    finally:
        for connection in connections:
            connection.close()
    return found
