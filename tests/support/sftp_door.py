"""The file door with a scripted control plane, and real OpenSSH clients against it."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncssh

from limen.crypto import sealing
from limen.edge.sftp.door import Door
from limen.edge.sftp.ledger import MAX_EVENTS
from limen.edge.sftp.limits import ConnectionLimits
from limen.edge.sftp.ssh import listen
from limen.edge.sftp.storage.connect import StorageConnector, StorageSettings
from limen.edge.sftp.storage.rest import Limits
from limen.kernel.errors import Unavailable
from limen.wire.agent import (
    Applied,
    Authenticate,
    AuthenticateAnswer,
    BucketTarget,
    ClosedGrant,
    CloseGrants,
    DoorEvent,
    Events,
    EventsAck,
    FileGrant,
    Receipt,
    Release,
    SealedCredential,
    Welcome,
)

HOST_KEYS = [asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-rsa", key_size=2048)]
ALL_ACTIONS = ("read", "write", "list", "delete")


@dataclass
class Login:
    """An SFTP user as the script knows it."""

    tenant_id: UUID
    target: BucketTarget
    jail: str = ""
    actions: tuple[str, ...] = ALL_ACTIONS
    password: str = ""
    keys: tuple[str, ...] = ()
    seconds: float = 600.0
    access_key: tuple[str, str] | None = None


@dataclass
class ScriptedControl:
    """The control plane's side of the channel: answers from a table, keeps everything it was told."""

    sealing_key: bytes
    logins: dict[tuple[str, str], Login] = field(default_factory=dict)
    asked: list[Authenticate] = field(default_factory=list)
    grants: list[FileGrant] = field(default_factory=list)
    tenant_of: dict[UUID, UUID] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    events: list[DoorEvent] = field(default_factory=list)
    events_of: dict[UUID, list[DoorEvent]] = field(default_factory=dict)
    online: bool = True
    acknowledge: bool = True
    share_grants: bool = False
    door: Door | None = None
    version: int = 1

    async def send(self, message: object) -> None:
        if not self.online and not isinstance(message, Receipt | Events):
            raise Unavailable("the control plane is not connected")
        assert self.door is not None
        match message:
            case Authenticate():
                self.asked.append(message)
                await self.door.received(self._answer(message))
            case Events():
                self.events += message.events
                self.events_of.setdefault(message.tenant_id, []).extend(message.events)
                if self.acknowledge:
                    await self.door.received(EventsAck(batch=message.batch))
            case Receipt():
                self.receipts.append(message)
            case Release():
                self.releases.append(message)
            case Applied():
                self.applied.append(message)
            case _:
                raise AssertionError(f"unexpected {message}")

    async def revoke(self, grant: FileGrant, reason: str = "suspended") -> float:
        """Close a grant; returns the moment, Unix seconds."""
        assert self.door is not None
        self.version += 1
        closed = ClosedGrant(id=grant.id, number=grant.number, reason=reason)
        tenant_id = self.tenant_of[grant.id]
        at = time.time()
        await self.door.received(CloseGrants(tenant_id=tenant_id, version=self.version, grants=(closed,)))
        return at

    def of(self, action: str) -> list[DoorEvent]:
        return [event for event in self.events if event.action == action]

    def _answer(self, asked: Authenticate) -> AuthenticateAnswer:
        login = self.logins.get((asked.connection, asked.user))
        no = AuthenticateAnswer(request_id=asked.request_id, allowed=False)
        if login is None:
            return no
        if asked.public_key:
            if asked.public_key not in login.keys:
                return no
        elif not login.password or asked.password != login.password:
            return no
        if asked.probe:
            return AuthenticateAnswer(request_id=asked.request_id, allowed=True)
        grant = self.make_grant(login)
        return AuthenticateAnswer(request_id=asked.request_id, allowed=True, tenant_id=login.tenant_id, grant=grant)

    def make_grant(self, login: Login) -> FileGrant:
        """A grant as the policy administrator would issue it."""
        grant_id = uuid4()
        target = login.target
        if login.access_key is not None:
            plain = json.dumps(dict(zip(("access_key_id", "secret_access_key"), login.access_key, strict=True)))
            context = sealing.context("storage", login.tenant_id, target.connection_id, grant_id)
            blob = sealing.seal_to(self.sealing_key, plain.encode(), context)
            target = BucketTarget(
                connection_id=target.connection_id,
                provider=target.provider,
                bucket=target.bucket,
                endpoint=target.endpoint,
                region=target.region,
                prefix=target.prefix,
                credential=SealedCredential(blob=blob),
            )
        grant = FileGrant(
            id=grant_id,
            number=len(self.grants) + 1,
            expires_at=time.time() + login.seconds,
            actions=login.actions,
            jail=login.jail,
            target=target,
        )
        self.grants.append(grant)
        self.tenant_of[grant_id] = login.tenant_id
        return grant


@dataclass
class RunningDoor:
    """A door that listens."""

    door: Door
    control: ScriptedControl
    port: int
    root: Path
    connector: StorageConnector

    def local(self, tenant_id: UUID | None = None, **options: object) -> Login:
        """A login to the local folder ``share`` of a tenant."""
        tenant_id = tenant_id or uuid4()
        prefix = str(options.pop("prefix", ""))
        target = BucketTarget(connection_id=uuid4(), provider="local", root="share", prefix=prefix)
        return Login(tenant_id, target, **options)  # type: ignore[arg-type]

    def folder(self, login: Login) -> Path:
        """Where a local login's files are."""
        return self.root / str(login.tenant_id) / "share"

    async def settled(self, count: int, action: str = "", seconds: float = 5.0) -> list[DoorEvent]:
        """Wait until ``count`` events (of ``action``) have arrived."""
        deadline = time.monotonic() + seconds
        while len(found := self.control.of(action) if action else self.control.events) < count:
            assert time.monotonic() < deadline, f"only {found}"
            await asyncio.sleep(0.02)
        return found


@contextlib.asynccontextmanager
async def running_door(
    root: Path,
    *,
    limits: ConnectionLimits | None = None,
    storage_limits: Limits | None = None,
    private_endpoints: bool = True,
    login_seconds: float = 30,
    lease: float = 3600.0,
    max_events: int = MAX_EVENTS,
) -> AsyncIterator[RunningDoor]:
    """A door on a free port of localhost, with its own scripted control plane."""
    private, public = sealing.generate_keypair()
    control = ScriptedControl(public)

    def open_sealed(tenant_id: UUID, connection_id: UUID, grant_id: UUID, blob: bytes) -> bytes:
        return sealing.open_sealed(private, blob, sealing.context("storage", tenant_id, connection_id, grant_id))

    local_root = root / "local"
    local_root.mkdir()
    settings = StorageSettings(
        local_root, private_endpoints, limits=storage_limits or Limits(connect=2, idle=5, tries=2, pause=0.05)
    )
    connector = StorageConnector(settings, open_sealed)
    door = Door(control, connector, limits=limits or ConnectionLimits(), max_events=max_events)
    control.door = door
    acceptor = await listen(door, HOST_KEYS, "127.0.0.1", 0, login_seconds=login_seconds)
    running = asyncio.create_task(door.run())
    await door.welcomed(Welcome(now=time.time(), heartbeat_seconds=5, lease_seconds=lease))
    await door.lease(lease)
    try:
        yield RunningDoor(door, control, acceptor.get_port(), local_root, connector)
    finally:
        acceptor.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await acceptor.wait_closed()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a client ended."""

    status: int
    output: str


class OpenSsh:
    """The real ``sftp`` and ``scp`` with one key pair and no other configuration."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.key_path = directory / f"id_{uuid4().hex[:8]}"
        descriptor = os.open(self.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.key.export_private_key("openssh"))

    @property
    def public_key(self) -> str:
        return " ".join(self.key.export_public_key("openssh").decode().split()[:2])

    def options(self) -> list[str]:
        settings = [
            "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes", f"IdentityFile={self.key_path}", "PasswordAuthentication=no",
            "KbdInteractiveAuthentication=no", "ConnectTimeout=10", "LogLevel=ERROR",
        ]  # fmt: skip
        return ["-F", "/dev/null", *(part for setting in settings for part in ("-o", setting))]

    async def start(self, user: str, batch: str, *options: str) -> asyncio.subprocess.Process:
        """``sftp`` with a batch of commands on its standard input."""
        process = await asyncio.create_subprocess_exec(
            "sftp", *self.options(), *options, "-P", str(self.port), "-b", "-", f"{user}@127.0.0.1",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd=self.directory,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(batch.encode())
        process.stdin.close()
        return process

    async def sftp(self, user: str, *commands: str, options: Sequence[str] = ()) -> Finished:
        """Run commands; the first failure ends the batch unless the command starts with ``-``."""
        process = await self.start(user, "\n".join(commands) + "\n", *options)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return Finished(process.returncode or 0, output.decode(errors="replace"))

    async def run(self, *command: str) -> Finished:
        """Any other client."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, cwd=self.directory,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return Finished(process.returncode or 0, output.decode(errors="replace"))
