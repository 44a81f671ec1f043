"""OpenSSH against the file door, with the real control plane behind it: sign-in, policy, audit, suspension."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limen.control.audit.model import AuditFilter
from limen.control.audit.service import search
from limen.db.database import Database
from tests.support.files import Bridge, FilesWorld, joined_door
from tests.support.sftp_door import OpenSsh


@pytest.fixture
def world(database: Database) -> FilesWorld:
    return FilesWorld(database)


@pytest.fixture
async def bridge(world: FilesWorld, tmp_path: Path) -> AsyncIterator[Bridge]:
    root = tmp_path / "root"
    root.mkdir()
    async with joined_door(world, root) as joined:
        yield joined


async def until(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.mark.row("F8")
@pytest.mark.row("F4")
async def test_from_key_to_audit(world: FilesWorld, bridge: Bridge, tmp_path: Path) -> None:
    tenant = await world.tenant("acme")
    ana = await tenant.person("ana")
    share = await world.connect(tenant, "share")
    user = await world.user(tenant, share, ana, "ana", jail="home/ana")
    ssh = OpenSsh(tmp_path, bridge.port)
    login = f"ana.{share.slug}"
    assert (await ssh.sftp(login, "ls")).status != 0  # no key yet
    await world.users.add_key(tenant.id, tenant.owner.actor, user.id, ssh.public_key + " ana@laptop")
    assert (await ssh.sftp(login, "ls")).status != 0  # no policy yet
    await world.allow(tenant, ana, share.id, "read", "write", "list")
    (tmp_path / "up.txt").write_text("hello")
    result = await ssh.sftp(login, "put up.txt", "ls", "get up.txt down.txt")
    assert result.status == 0, result.output
    assert (tmp_path / "down.txt").read_text() == "hello"
    assert (tmp_path / "root" / str(tenant.id) / "share" / "home" / "ana" / "up.txt").read_text() == "hello"
    assert (await ssh.sftp(login, "rm up.txt")).status != 0  # the policy does not allow delete
    await until(lambda: bridge.sent and any(type(m).__name__ == "Receipt" for m in bridge.sent))
    await asyncio.sleep(0.5)
    actions = await world.actions_of(tenant)
    for expected in [
        ("files.session.sign-in", "failed"),
        ("files.session.sign-in", "denied"),
        ("files.session.sign-in", "ok"),
        ("files.session.open", "ok"),
        ("files.object.put", "ok"),
        ("files.object.get", "ok"),
        ("files.directory.list", "ok"),
        ("files.object.remove", "denied"),
    ]:
        assert expected in actions, actions
    async with world.database.transaction(tenant.id) as tx:
        (put,) = await search(tx, AuditFilter(action_prefix="files.object.put"), open_personal=True)
    assert (put.source, put.actor_id, put.personal) == ("127.0.0.1", ana, {"path": "/up.txt"})
    assert put.detail["bytes"] == 5


@pytest.mark.row("F7")
async def test_suspension_cuts_and_lifting_lets_in_again(world: FilesWorld, bridge: Bridge, tmp_path: Path) -> None:
    tenant = await world.tenant("acme")
    ana = await tenant.person("ana")
    share = await world.connect(tenant, "share")
    user = await world.user(tenant, share, ana, "ana")
    await world.allow(tenant, ana, share.id)
    ssh = OpenSsh(tmp_path, bridge.port)
    await world.users.add_key(tenant.id, tenant.owner.actor, user.id, ssh.public_key)
    folder = tmp_path / "root" / str(tenant.id) / "share"
    folder.mkdir(parents=True)
    with (folder / "big.bin").open("wb") as file:
        file.truncate(8 << 30)
    process = await ssh.start(f"ana.{share.slug}", "get big.bin /dev/null\n")
    await until(lambda: bridge.door is not None and bridge.door.total_bytes()[1] > 4 << 20)
    began = time.monotonic()
    await world.administrator.suspend_person(tenant.owner.actor, tenant.id, ana, "left the company")
    output, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode != 0, output
    assert time.monotonic() - began < 2
    assert (await ssh.sftp(f"ana.{share.slug}", "ls")).status != 0
    await world.administrator.lift_person(tenant.owner.actor, tenant.id, ana)
    assert (await ssh.sftp(f"ana.{share.slug}", "ls")).status == 0
    await until(lambda: any(type(m).__name__ == "Receipt" for m in bridge.sent))
    async with world.database.transaction(tenant.id) as tx:
        rows = await tx.fetch("SELECT reason, bytes_out FROM receipts WHERE tenant_id = %s", [tenant.id])
    assert max(row["bytes_out"] for row in rows) > 4 << 20


async def test_removing_the_key_ends_its_session(world: FilesWorld, bridge: Bridge, tmp_path: Path) -> None:
    tenant = await world.tenant("acme")
    ana = await tenant.person("ana")
    share = await world.connect(tenant, "share")
    user = await world.user(tenant, share, ana, "ana")
    await world.allow(tenant, ana, share.id)
    ssh = OpenSsh(tmp_path, bridge.port)
    key = await world.users.add_key(tenant.id, tenant.owner.actor, user.id, ssh.public_key)
    folder = tmp_path / "root" / str(tenant.id) / "share"
    folder.mkdir(parents=True)
    with (folder / "big.bin").open("wb") as file:
        file.truncate(8 << 30)
    process = await ssh.start(f"ana.{share.slug}", "get big.bin /dev/null\n")
    await until(lambda: bridge.door is not None and bridge.door.total_bytes()[1] > 1 << 20)
    await world.users.remove_key(tenant.id, tenant.owner.actor, user.id, key.id)
    await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode != 0


async def test_password_sign_in_over_lftp(world: FilesWorld, bridge: Bridge, tmp_path: Path) -> None:
    tenant = await world.tenant("acme")
    ana = await tenant.person("ana")
    share = await world.connect(tenant, "share")
    user = await world.user(tenant, share, ana, "ana")
    await world.allow(tenant, ana, share.id)
    password = await world.users.set_password(tenant.id, tenant.owner.actor, user.id, None)
    (tmp_path / "a.txt").write_text("lftp was here")
    connect = (
        "set sftp:connect-program 'ssh -a -x -F /dev/null -o StrictHostKeyChecking=no "
        "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'; "
    )
    commands = "put a.txt; mv a.txt b.txt; cls -l; get b.txt -o c.txt; mirror . mirrored"
    ssh = OpenSsh(tmp_path, bridge.port)
    url = f"sftp://127.0.0.1:{bridge.port}"
    result = await ssh.run("lftp", "-u", f"ana.{share.slug},{password}", "-e", f"{connect}{commands}; bye", url)
    assert result.status == 0, result.output
    assert (tmp_path / "c.txt").read_text() == "lftp was here"
    assert (tmp_path / "mirrored" / "b.txt").read_text() == "lftp was here"
