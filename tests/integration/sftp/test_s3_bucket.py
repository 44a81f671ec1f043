"""OpenSSH's clients against the door, with a real S3-compatible server behind it."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from limen.edge.sftp.storage.s3 import S3Bucket
from limen.wire.agent import BucketTarget
from tests.support.seaweed import Seaweed
from tests.support.sftp_door import Login, OpenSsh, RunningDoor


@pytest.fixture
def bucket(seaweed: Seaweed) -> Iterator[str]:
    name = f"b-{uuid4().hex[:12]}"
    seaweed.client().create_bucket(Bucket=name)
    yield name
    seaweed.empty(name)
    seaweed.client().delete_bucket(Bucket=name)


@pytest.fixture
def login(door: RunningDoor, ssh: OpenSsh, seaweed: Seaweed, bucket: str) -> Login:
    target = BucketTarget(
        connection_id=uuid4(), provider="s3", bucket=bucket, endpoint=seaweed.endpoint, prefix="customers/acme"
    )
    keys = (seaweed.access_key_id, seaweed.secret_access_key)
    made = Login(uuid4(), target, jail="ana", keys=(ssh.public_key,), access_key=keys)
    door.control.logins["share", "ana"] = made
    return made


PREFIX = "customers/acme/ana/"


def fill(path: Path, size: int) -> str:
    data = os.urandom(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def listing(seaweed: Seaweed, bucket: str) -> dict[str, int]:
    return await asyncio.to_thread(seaweed.keys, bucket)


@pytest.mark.row("F9")
@pytest.mark.row("F2")
@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, 20_000_003])
async def test_put_get_rename_of_every_shape(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, tmp_path: Path, size: int
) -> None:
    expected = fill(tmp_path / "up.bin", size)
    result = await ssh.sftp("ana.share", "put up.bin", "rename up.bin moved.bin", "ls -l", "get moved.bin down.bin")
    assert result.status == 0, result.output
    assert digest(tmp_path / "down.bin") == expected
    assert await listing(seaweed, bucket) == {PREFIX + "moved.bin": size}
    assert await asyncio.to_thread(seaweed.pending_uploads, bucket) == []


@pytest.mark.row("F9")
async def test_directories(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    fill(tmp_path / "a.txt", 10)
    result = await ssh.sftp(
        "ana.share", "mkdir docs", "cd docs", "put a.txt", "put a.txt 'b +%~#&?;=$ ü€.txt'", "mkdir deep",
        "put a.txt deep/c.txt", "cd ..", "rename docs papers", "ls -l papers",
        "get 'papers/b +%~#&?;=$ ü€.txt' back.txt", "-rmdir papers", "-rename papers papers/deep/inside",
    )  # fmt: skip
    assert result.status == 0, result.output
    assert "b +%~#&?;=$ ü€.txt" in result.output
    names = {key.removeprefix(PREFIX) for key in await listing(seaweed, bucket)}
    assert names >= {"papers/a.txt", "papers/b +%~#&?;=$ ü€.txt", "papers/deep/c.txt"}
    assert not {name for name in names if name.startswith("docs")}
    result = await ssh.sftp("ana.share", "rm papers/deep/c.txt", "rmdir papers/deep", "rm papers/*", "rmdir papers")
    assert result.status == 0, result.output
    assert await listing(seaweed, bucket) == {}


@pytest.mark.row("F9")
async def test_listing_pages_and_hides_what_cannot_be_named(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str
) -> None:
    client = seaweed.client()

    def make() -> None:
        for number in range(1203):
            client.put_object(Bucket=bucket, Key=f"{PREFIX}many/{number:05}", Body=b"")
        client.put_object(Bucket=bucket, Key=f"{PREFIX}many/line\u2028break", Body=b"")

    await asyncio.to_thread(make)
    result = await ssh.sftp("ana.share", "ls -1 many")
    names = [line for line in result.output.splitlines() if line.startswith("many/")]
    assert len(names) == 1203
    assert "break" not in result.output


@pytest.mark.row("F9")
async def test_interrupted_download_resumes(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    data = os.urandom(6_000_000)
    await asyncio.to_thread(lambda: seaweed.client().put_object(Bucket=bucket, Key=PREFIX + "big.bin", Body=data))
    (tmp_path / "big.bin").write_bytes(data[:2_500_000])
    result = await ssh.sftp("ana.share", "reget big.bin")
    assert result.status == 0, result.output
    assert (tmp_path / "big.bin").read_bytes() == data
    (got,) = await door.settled(1, "files.object.get")
    assert got.bytes == 3_500_000


@pytest.mark.row("F9")
async def test_scp_both_ways(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    expected = fill(tmp_path / "up.bin", 3_000_000)
    there = "ana.share@127.0.0.1:scp.bin"
    result = await ssh.run("scp", *ssh.options(), "-P", str(ssh.port), "up.bin", there)
    assert result.status == 0, result.output
    result = await ssh.run("scp", *ssh.options(), "-P", str(ssh.port), there, "down.bin")
    assert result.status == 0, result.output
    assert digest(tmp_path / "down.bin") == expected


@pytest.mark.row("F9")
@pytest.mark.row("F10")
async def test_what_a_bucket_cannot_do_is_refused_and_changes_nothing(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    client = seaweed.client()
    await asyncio.to_thread(lambda: client.put_object(Bucket=bucket, Key=PREFIX + "f.bin", Body=b"0123456789"))
    fill(tmp_path / "f.bin", 20)
    result = await ssh.sftp("ana.share", "reput f.bin")
    assert result.status != 0
    assert await listing(seaweed, bucket) == {PREFIX + "f.bin": 10}
    result = await ssh.sftp("ana.share", "ln -s f.bin link")
    assert result.status != 0
    assert "nsupported" in result.output


@pytest.mark.row("F10")
async def test_orphans_of_a_killed_agent_are_swept_within_the_jail_only(
    door: RunningDoor, login: Login, seaweed: Seaweed, bucket: str
) -> None:
    client = seaweed.client()
    for key in (PREFIX + "orphan.bin", "customers/acme/bea/other.bin"):
        await asyncio.to_thread(lambda key=key: client.create_multipart_upload(Bucket=bucket, Key=key))
    grant = door.control.make_grant(login)
    jail, storage = await door.connector.open(login.tenant_id, grant)
    assert isinstance(storage, S3Bucket)
    assert await storage.sweep(jail.root, datetime.now(UTC) - timedelta(days=1)) == 0
    assert await storage.sweep(jail.root, datetime.now(UTC) + timedelta(minutes=1)) == 1
    await storage.close()
    assert await asyncio.to_thread(seaweed.pending_uploads, bucket) == ["customers/acme/bea/other.bin"]


async def test_a_directory_beyond_the_limit_is_refused_before_anything_moves(
    door: RunningDoor, ssh: OpenSsh, login: Login, seaweed: Seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.edge.sftp.storage.s3.MAX_RENAME_OBJECTS", 3)
    client = seaweed.client()
    for number in range(4):
        key = f"{PREFIX}many/{number}"
        await asyncio.to_thread(lambda key=key: client.put_object(Bucket=bucket, Key=key, Body=b"x"))
    result = await ssh.sftp("ana.share", "rename many more")
    assert result.status != 0
    assert sorted(await listing(seaweed, bucket)) == [f"{PREFIX}many/{number}" for number in range(4)]
