"""A custodian on a real keystore directory, without a socket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from limen.keyd.calllog import CallLog
from limen.keyd.daemon import open_backend
from limen.keyd.keystore import Keystore
from limen.keyd.service import Caller, Custodian
from limen.wire import keyd as wire

CALLER = Caller(uid=1000, pid=4711)
CREDENTIAL = json.dumps({"access_key_id": "AKIATEST", "secret_access_key": "wJalrXUtnFEMI"}).encode()


class FixedClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.instant = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant


class Desk:
    """A custodian and the ways to ask it."""

    def __init__(self, custodian: Custodian, clock: FixedClock, directory: Path) -> None:
        self.custodian = custodian
        self.clock = clock
        self.directory = directory

    async def ask(self, request: wire.Request) -> wire.Reply:
        return await self.custodian.handle(request, CALLER)

    async def refused(self, request: wire.Request) -> str:
        """The code of the failure."""
        reply = await self.ask(request)
        assert isinstance(reply, wire.Failure), reply
        return reply.code

    async def tenant(self) -> UUID:
        tenant_id = uuid4()
        assert await self.ask(wire.CreateTenant(tenant_id=tenant_id)) == wire.Done()
        return tenant_id

    def calls(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.directory / "calls/calls.jsonl").read_text().splitlines()]


Opener = Callable[[], Awaitable[Desk]]


@pytest.fixture
async def open_desk(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the same directory as often as wanted; opening again closes what was open, like a restart."""
    held: list[tuple[Keystore, CallLog]] = []

    def close() -> None:
        while held:
            keystore, calls = held.pop()
            keystore.close()
            calls.close()

    async def open_() -> Desk:
        close()
        keystore = Keystore(tmp_path / "keystore")
        calls = CallLog(tmp_path / "calls")
        held.append((keystore, calls))
        clock = FixedClock()
        backend = open_backend(tmp_path / "kek.json", keystore)
        return Desk(await Custodian.open(keystore, backend, calls, clock), clock, tmp_path)

    yield open_
    close()


@pytest.fixture
async def desk(open_desk: Opener) -> Desk:
    return await open_desk()


def identity_key() -> bytes:
    """A fresh P-256 public key, DER SubjectPublicKeyInfo."""
    return spki(ec.generate_private_key(ec.SECP256R1()))


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
