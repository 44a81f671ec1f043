"""Stores that refuse, hang, break off or fail half-way: a clear error, nothing stored, nothing left over."""

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from limen.edge.sftp.storage.connect import StorageConnector, StorageSettings
from limen.edge.sftp.storage.errors import Refused
from limen.edge.sftp.storage.rest import Limits
from limen.wire.agent import BucketTarget, FileGrant, SealedCredential
from tests.support.faulty_proxy import Fault, faulty_proxy
from tests.support.seaweed import Seaweed
from tests.support.sftp_door import Login, OpenSsh, RunningDoor, running_door


@pytest.fixture
def bucket(seaweed: Seaweed) -> Iterator[str]:
    name = f"b-{uuid4().hex[:12]}"
    seaweed.client().create_bucket(Bucket=name)
    yield name
    seaweed.empty(name)
    seaweed.client().delete_bucket(Bucket=name)


def s3_login(door: RunningDoor, ssh: OpenSsh, seaweed: Seaweed, bucket: str, endpoint: str, secret: str = "") -> Login:
    target = BucketTarget(connection_id=uuid4(), provider="s3", bucket=bucket, endpoint=endpoint)
    keys = (seaweed.access_key_id, secret or seaweed.secret_access_key)
    login = Login(uuid4(), target, keys=(ssh.public_key,), access_key=keys)
    door.control.logins["share", "ana"] = login
    return login


async def left(seaweed: Seaweed, bucket: str) -> tuple[dict[str, int], list[str]]:
    return await asyncio.to_thread(seaweed.keys, bucket), await asyncio.to_thread(seaweed.pending_uploads, bucket)


FAULTS: dict[str, Fault] = {
    "every part fails": lambda line, _: "500" if "partNumber" in line else "",
    "the last part fails": lambda line, _: "500" if "partNumber=3" in line else "",
    "the last part hangs": lambda line, _: "hang" if "partNumber=3" in line else "",
    "completing fails": lambda line, _: "500" if line.startswith("POST") and "uploadId" in line else "",
    "completing is refused": lambda line, _: "403" if line.startswith("POST") and "uploadId" in line else "",
    "completing breaks off": lambda line, _: "drop" if line.startswith("POST") and "uploadId" in line else "",
    "beginning fails": lambda line, _: "500" if "uploads=" in line else "",
}


@pytest.mark.row("F10")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failed_upload_leaves_nothing(tmp_path: Path, seaweed: Seaweed, bucket: str, fault: str) -> None:
    async with faulty_proxy(seaweed.endpoint, FAULTS[fault]) as proxy, running_door(tmp_path) as door:
        ssh = OpenSsh(tmp_path, door.port)
        s3_login(door, ssh, seaweed, bucket, proxy.endpoint)
        (tmp_path / "up.bin").write_bytes(os.urandom(20_000_000))
        result = await ssh.sftp("ana.share", "put up.bin")
        assert result.status != 0, result.output
        (put,) = await door.settled(1, "files.object.put", 20)
        assert put.outcome == "failed"
        assert put.detail.startswith("storage-")
    assert await left(seaweed, bucket) == ({}, [])


@pytest.mark.row("F10")
@pytest.mark.parametrize("megabytes", [1, 7, 9, 17, 30])
@pytest.mark.parametrize("how", ["revoked", "killed"])
async def test_cut_at_every_stage_leaves_nothing(
    tmp_path: Path, seaweed: Seaweed, bucket: str, megabytes: int, how: str
) -> None:
    async with running_door(tmp_path) as door:
        ssh = OpenSsh(tmp_path, door.port)
        s3_login(door, ssh, seaweed, bucket, seaweed.endpoint)
        (tmp_path / "up.bin").write_bytes(os.urandom(60_000_000))
        process = await ssh.start("ana.share", "put up.bin\n", "-l", "400000")
        deadline = time.monotonic() + 20
        while door.door.total_bytes()[0] < megabytes << 20:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
        if how == "revoked":
            await door.control.revoke(door.control.grants[0])
        else:
            process.kill()
        await asyncio.wait_for(process.communicate(), 10)
        (put,) = await door.settled(1, "files.object.put", 10)
        assert put.outcome == "failed"
    assert await left(seaweed, bucket) == ({}, [])


async def test_a_wrong_key_is_a_clear_refusal(
    door: RunningDoor, ssh: OpenSsh, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    s3_login(door, ssh, seaweed, bucket, seaweed.endpoint, secret="wrong-secret-0123456789")
    (tmp_path / "up.bin").write_bytes(b"x")
    result = await ssh.sftp("ana.share", "-ls", "-put up.bin", "-get nothing")
    assert "wrong-secret" not in result.output
    await door.settled(3)
    assert {event.outcome for event in door.control.events if event.action != "files.session.open"} == {"failed"}
    details = " ".join(event.detail for event in door.control.events)
    assert "storage-refused" in details
    assert "wrong-secret" not in details
    assert await left(seaweed, bucket) == ({}, [])


@pytest.mark.parametrize("fault", ["hang", "drop"])
async def test_a_store_that_does_not_answer_is_an_error_in_time(
    tmp_path: Path, seaweed: Seaweed, bucket: str, fault: str
) -> None:
    limits = Limits(connect=0.5, idle=0.5, tries=2, pause=0.05)
    async with (
        faulty_proxy(seaweed.endpoint, lambda _line, _n: fault) as proxy,
        running_door(tmp_path, storage_limits=limits) as door,
    ):
        ssh = OpenSsh(tmp_path, door.port)
        s3_login(door, ssh, seaweed, bucket, proxy.endpoint)
        began = time.monotonic()
        result = await ssh.sftp("ana.share", "ls")
        assert "Failure" in result.output
        assert time.monotonic() - began < 10
        (listed,) = await door.settled(1, "files.directory.list")
        assert listed.detail.startswith("storage-unreachable")


async def test_a_download_of_a_replaced_object_ends_with_an_error(
    door: RunningDoor, ssh: OpenSsh, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    s3_login(door, ssh, seaweed, bucket, seaweed.endpoint)
    client = seaweed.client()
    await asyncio.to_thread(lambda: client.put_object(Bucket=bucket, Key="big.bin", Body=os.urandom(80_000_000)))
    process = await ssh.start("ana.share", "get big.bin\n", "-l", "30000")
    deadline = time.monotonic() + 20
    while door.door.total_bytes()[1] < 1 << 20:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await asyncio.to_thread(lambda: client.put_object(Bucket=bucket, Key="big.bin", Body=os.urandom(80_000_000)))
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode != 0, output
    (got,) = await door.settled(1, "files.object.get")
    assert got.bytes < 80_000_000


@pytest.mark.row("F1")
async def test_nothing_is_written_to_disk_on_the_way_to_a_bucket(
    door: RunningDoor, ssh: OpenSsh, seaweed: Seaweed, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    s3_login(door, ssh, seaweed, bucket, seaweed.endpoint)
    (tmp_path / "up.bin").write_bytes(os.urandom(40_000_000))
    before, seen = _files_open_for_writing(), set()
    process = await ssh.start("ana.share", "put up.bin\n", "-l", "200000")
    while process.returncode is None:
        seen |= _files_open_for_writing() - before
        await asyncio.sleep(0.02)
    assert process.returncode == 0
    assert seen == set()
    assert list(scratch.iterdir()) == []
    assert (await left(seaweed, bucket))[0] == {"up.bin": 40_000_000}


def _files_open_for_writing() -> set[str]:
    """Regular files, unlinked ones included, that this process (the door is in it) holds open for writing."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.stat(f"/proc/self/fd/{name}").st_mode
            flags = int(Path(f"/proc/self/fdinfo/{name}").read_text().split("flags:")[1].split()[0], 8)
            if stat.S_ISREG(mode) and flags & (os.O_WRONLY | os.O_RDWR):
                found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "https://127.0.0.1", "https://169.254.169.254", "https://[::1]:9", "ftp://x"]
)
async def test_private_endpoints_are_refused_unless_allowed(endpoint: str) -> None:
    def opened(*_: object) -> bytes:
        return b'{"access_key_id": "a", "secret_access_key": "b"}'

    connector = StorageConnector(StorageSettings(), opened)
    target = BucketTarget(
        connection_id=uuid4(), provider="s3", bucket="b", endpoint=endpoint, credential=SealedCredential(blob=b"x")
    )
    grant = FileGrant(id=uuid4(), number=1, expires_at=1e12, actions=("read",), jail="", target=target)
    with pytest.raises(Refused):
        await connector.open(uuid4(), grant)


async def test_local_folders_are_refused_unless_allowed() -> None:
    connector = StorageConnector(StorageSettings(), lambda *_: b"")
    target = BucketTarget(connection_id=uuid4(), provider="local", root="share")
    grant = FileGrant(id=uuid4(), number=1, expires_at=1e12, actions=("read",), jail="", target=target)
    with pytest.raises(Refused):
        await connector.open(uuid4(), grant)
