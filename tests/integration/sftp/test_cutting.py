"""Revocation, expiry, lost leases and broken connections: transfers end at once and leave nothing behind."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from tests.support.sftp_door import Login, OpenSsh, RunningDoor, running_door


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


class Watched:
    """A download by asyncssh's client that keeps the time of each arrival."""

    def __init__(self, door: RunningDoor, key: asyncssh.SSHKey) -> None:
        self.door = door
        self.key = key
        self.bytes = 0
        self.last = 0.0
        self.ended = asyncio.Event()

    async def run(self, path: str, user: str = "ana.share") -> None:
        try:
            async with (
                asyncssh.connect(
                    "127.0.0.1", self.door.port, username=user, client_keys=[self.key], known_hosts=None, config=None
                ) as connection,
                connection.start_sftp_client() as sftp,
                sftp.open(path, "rb") as file,
            ):
                while data := await file.read(1 << 16, self.bytes):
                    self.bytes += len(data)
                    self.last = time.time()
        except (asyncssh.Error, OSError):
            pass
        finally:
            self.ended.set()


def share(door: RunningDoor, ssh: OpenSsh, size: int = 0, **options: object) -> Login:
    login = door.local(keys=(ssh.public_key,), **options)
    door.control.logins["share", "ana"] = login
    folder = door.folder(login)
    folder.mkdir(parents=True)
    if size:
        with (folder / "big.bin").open("wb") as file:
            file.truncate(size)
    return login


@pytest.mark.row("F7")
async def test_revocation_cuts_a_download_at_once(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh, 4 << 30)
    watched = Watched(door, ssh.key)
    task = asyncio.create_task(watched.run("big.bin"))
    await until(lambda: watched.bytes > 2 << 20)
    (grant,) = door.control.grants
    at = await door.control.revoke(grant)
    await asyncio.wait_for(watched.ended.wait(), 5)
    await task
    assert watched.last - at < 0.5
    (receipt,) = door.control.receipts
    assert receipt.grant_id == grant.id
    assert receipt.reason == "suspended"
    assert receipt.bytes_out >= watched.bytes
    assert receipt.last_byte_at <= receipt.cut_at
    assert door.control.applied[-1].version == door.control.version
    (got,) = await door.settled(1, "files.object.get")
    assert (got.outcome, got.detail) == ("failed", "suspended")


@pytest.mark.row("F7")
async def test_a_client_that_does_not_read_gets_nothing_after_the_cut(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh, 1 << 30)
    process = await ssh.start("ana.share", "get big.bin /dev/null\n")
    try:
        await until(lambda: door.control.grants)
        os.kill(process.pid, 19)  # SIGSTOP: ssh goes on filling its pipe, then stops reading the socket
        await asyncio.sleep(0.5)
        await door.control.revoke(door.control.grants[0])
        os.kill(process.pid, 18)
        output, _ = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode != 0, output
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.row("F10")
@pytest.mark.parametrize("ending", ["revoked", "client killed", "expired", "lease lapsed", "door stopped"])
async def test_an_unfinished_upload_leaves_nothing(tmp_path: Path, ending: str) -> None:
    async with running_door(tmp_path) as door:
        ssh = OpenSsh(tmp_path, door.port)
        login = share(door, ssh, seconds=3 if ending == "expired" else 600)
        (tmp_path / "up.bin").write_bytes(os.urandom(200_000_000))
        process = await ssh.start("ana.share", "put up.bin\n", "-l", "200000")  # 25 MB/s: some 8 seconds
        await until(
            lambda: door.control.grants and door.door._book._grants[door.control.grants[0].id].bytes_in > 2 << 20
        )
        match ending:
            case "revoked":
                await door.control.revoke(door.control.grants[0])
            case "client killed":
                process.kill()
            case "lease lapsed":
                await door.door.lapsed()
            case "door stopped":
                pass
        if ending == "door stopped":
            break_off = True
        else:
            break_off = False
            await until(lambda: door.control.receipts)
            await until(lambda: door.control.of("files.object.put"))
        folder = door.folder(login)
    if break_off:
        assert door.control.receipts[0].reason == "door-stopped"
    assert list(folder.iterdir()) == []
    (put,) = door.control.of("files.object.put")
    assert put.outcome == "failed"
    assert put.bytes > 2 << 20
    await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode != 0


async def test_grant_expiry_ends_an_idle_session(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh, seconds=1.0)
    connection = await asyncssh.connect(
        "127.0.0.1", door.port, username="ana.share", client_keys=[ssh.key], known_hosts=None, config=None
    )
    started = time.monotonic()
    await asyncio.wait_for(connection.wait_closed(), 5)
    assert time.monotonic() - started < 2
    assert door.control.receipts[0].reason == "expired"
    assert door.control.receipts[0].last_byte_at == 0


@pytest.mark.row("F7")
async def test_another_tenants_session_is_untouched(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh, 4 << 30)
    other = door.local(keys=(ssh.public_key,))
    door.control.logins["other", "ana"] = other
    door.folder(other).mkdir(parents=True)
    with (door.folder(other) / "big.bin").open("wb") as file:
        file.truncate(4 << 30)
    mine, theirs = Watched(door, ssh.key), Watched(door, ssh.key)
    tasks = [
        asyncio.create_task(mine.run("big.bin")),
        asyncio.create_task(theirs.run("big.bin", "ana.other")),
    ]
    await until(lambda: mine.bytes > 1 << 20 and theirs.bytes > 1 << 20)
    grant = next(g for g in door.control.grants if door.control.tenant_of[g.id] != other.tenant_id)
    await door.control.revoke(grant)
    await asyncio.wait_for(mine.ended.wait(), 5)
    seen = theirs.bytes
    await until(lambda: theirs.bytes > seen + (4 << 20))
    assert not theirs.ended.is_set()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_sign_in_without_lease_or_channel(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    await door.door.lapsed()
    assert (await ssh.sftp("ana.share", "ls")).status != 0
    await door.door.lease(60)
    door.control.online = False
    assert (await ssh.sftp("ana.share", "ls")).status != 0
    door.control.online = True
    assert (await ssh.sftp("ana.share", "ls")).status == 0


async def test_a_full_ledger_refuses_new_operations(tmp_path: Path) -> None:
    async with running_door(tmp_path, max_events=3) as door:
        ssh = OpenSsh(tmp_path, door.port)
        login = share(door, ssh)
        door.control.acknowledge = False
        (tmp_path / "a").write_bytes(b"x")
        await ssh.sftp("ana.share", *(f"-put a f{number}" for number in range(6)))
        assert len(list(door.folder(login).iterdir())) == 2  # the opening of the session is the first record
        assert len(door.control.events) <= 3
