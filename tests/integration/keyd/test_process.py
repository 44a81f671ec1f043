"""keyd as a process: identity, peers, signals, crashes, restarts, what it refuses to start on."""

import asyncio
import json
import os
import random
import signal
import stat
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from limen.control.custody.service import CustodyFieldCipher, KeydClient
from limen.crypto import sealing
from limen.crypto.errors import Unreadable
from limen.kernel.errors import Conflict, Denied, NotFound, Unavailable
from limen.wire import keyd as wire
from limen.wire.codec import decode
from limen.wire.keyd import Purpose, SigningPurpose
from tests.integration.keyd.conftest import NOBODY, SOURCE, Keyd
from tests.unit.keyd.conftest import CREDENTIAL, identity_key

ROW = UUID(int=5)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: starts keyd under another uid")


async def seal(client: KeydClient, tenant_id: UUID, plaintext: bytes = b"hunter2") -> bytes:
    return await client.seal_value(
        tenant_id, Purpose.VAULT, table="secrets", column="value", row_id=ROW, revision=1, plaintext=plaintext
    )


async def open_(client: KeydClient, tenant_id: UUID, blob: bytes) -> bytes:
    return await client.open_value(
        tenant_id, Purpose.VAULT, table="secrets", column="value", row_id=ROW, revision=1, blob=blob
    )


@pytest.mark.row("T3")
async def test_two_tenants_through_the_whole_path(keyd: Keyd) -> None:
    client = await keyd.start()
    a, b = uuid4(), uuid4()
    await client.create_tenant(a)
    await client.create_tenant(b)
    cipher = CustodyFieldCipher(client)
    mine, theirs = await cipher.for_tenant(a), await cipher.for_tenant(b)
    field = mine.seal("people", "email", ROW, b"ada@example.org")
    assert mine.open("people", "email", ROW, field) == b"ada@example.org"
    with pytest.raises(Unreadable):
        theirs.open("people", "email", ROW, field)
    assert mine.tag("email", "x") != theirs.tag("email", "x")
    secret = await seal(client, a)
    assert await open_(client, a, secret) == b"hunter2"
    with pytest.raises(Unreadable):
        await open_(client, b, secret)
    with pytest.raises(NotFound):
        await cipher.for_tenant(uuid4())
    with pytest.raises(Denied):
        await client.lease_data_key(a, Purpose.VAULT)
    await client.close()


@pytest.mark.row("F3")
async def test_a_storage_credential_from_the_users_tool_to_the_file_agent(keyd: Keyd) -> None:
    client = await keyd.start()
    a, b, connection_id, grant_id, agent_id = uuid4(), uuid4(), uuid4(), uuid4(), uuid4()
    await client.create_tenant(a)
    await client.create_tenant(b)
    private, public = sealing.generate_keypair()
    identity = identity_key()
    issued = await client.enrol_agent(agent_id, None, "sftp", identity, public)
    assert issued.pem.count(b"BEGIN CERTIFICATE") == 2
    with pytest.raises(Conflict):
        await client.enrol_agent(agent_id, None, "sftp", identity_key(), public)
    inbound = sealing.seal_to(await client.intake_key(a), CREDENTIAL, sealing.context("intake", a, connection_id))
    stored = await client.accept_storage_credential(a, connection_id, inbound)
    blob = await client.reseal_storage_credential(a, connection_id, grant_id, agent_id, stored)
    bound = sealing.context("storage", a, connection_id, grant_id)
    assert sealing.open_sealed(private, blob, bound) == CREDENTIAL
    with pytest.raises(Unreadable):
        await client.reseal_storage_credential(b, connection_id, grant_id, agent_id, stored)
    with pytest.raises(Denied):
        await client.open_value(
            a,
            Purpose.STORAGE,
            table="connections",
            column="credential",
            row_id=connection_id,
            revision=0,
            blob=stored,
        )
    await client.remove_agent(agent_id)
    with pytest.raises(NotFound):
        await client.reseal_storage_credential(a, connection_id, grant_id, agent_id, stored)
    with pytest.raises(NotFound):
        await client.renew_agent(agent_id)
    log = (keyd.directory / "calls/calls.jsonl").read_text()
    assert "wJalrXUtnFEMI" not in log
    assert log.count('"call":"reseal-storage-credential"') == 3
    await client.close()


async def test_a_client_lives_through_restarts_and_keys_stay(keyd: Keyd) -> None:
    client = await keyd.start()
    tenant_id = uuid4()
    await client.create_tenant(tenant_id)
    secret, roots = await seal(client, tenant_id), await client.authorities()
    key = await client.signing_key(SigningPurpose.AUDIT_CHECKPOINT)
    lease = await client.lease_data_key(tenant_id, Purpose.FIELDS)
    assert await keyd.stop() == 0
    assert not keyd.socket.exists()
    with pytest.raises(Unavailable, match="not running") as refusal:
        await client.health()
    assert "limen keyd" in refusal.value.fix
    await keyd.start()
    assert await open_(client, tenant_id, secret) == b"hunter2"
    assert await client.authorities() == roots
    assert await client.signing_key(SigningPurpose.AUDIT_CHECKPOINT) == key
    assert await client.lease_data_key(tenant_id, Purpose.FIELDS) == lease
    await client.close()


async def test_killed_in_the_middle_of_writes_it_loses_nothing_it_confirmed(keyd: Keyd) -> None:
    confirmed: list[tuple[UUID, wire.DataKey]] = []

    async def create_for_ever(client: KeydClient) -> None:
        while True:
            tenant_id = uuid4()
            await client.create_tenant(tenant_id)
            await client.rotate_data_key(tenant_id, Purpose.FIELDS)
            confirmed.append((tenant_id, await client.lease_data_key(tenant_id, Purpose.FIELDS)))

    for _ in range(3):
        client = await keyd.start()
        work = [asyncio.create_task(create_for_ever(client)) for _ in range(4)]
        await asyncio.sleep(0.2 + random.random() / 5)
        assert await keyd.stop(signal.SIGKILL) == -signal.SIGKILL
        for task in work:
            with pytest.raises(Unavailable):
                await task
        await client.close()
    assert len(confirmed) >= 3, "too few writes to prove anything"
    client = await keyd.start()
    for tenant_id, lease in confirmed:
        assert await client.lease_data_key(tenant_id, Purpose.FIELDS) == lease
    assert not list(keyd.directory.rglob("*.tmp"))
    await client.close()


async def test_many_calls_at_once(keyd: Keyd) -> None:
    client = await keyd.start()
    tenants = [uuid4() for _ in range(10)]
    await asyncio.gather(*(client.create_tenant(tenant_id) for tenant_id in tenants * 3))
    blobs = await asyncio.gather(*(seal(client, tenant_id, tenant_id.bytes) for tenant_id in tenants * 5))
    opened = await asyncio.gather(*(open_(client, t, blob) for t, blob in zip(tenants * 5, blobs, strict=True)))
    assert opened == [tenant_id.bytes for tenant_id in tenants * 5]
    await client.close()


async def test_a_cancelled_call_does_not_leave_its_answer_to_the_next(keyd: Keyd) -> None:
    await (await keyd.start()).close()
    client = KeydClient(keyd.socket, connections=1)
    tenant_id = uuid4()
    await client.create_tenant(tenant_id)
    for _ in range(20):
        call = asyncio.create_task(client.intake_key(tenant_id))
        await asyncio.sleep(random.random() / 2000)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert isinstance(await client.authorities(), wire.Authorities)
    await client.close()


async def _talk(keyd: Keyd, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(keyd.socket))
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed"),
        (b"null", "malformed"),
        (b'{"type":"open-sesame"}', "malformed"),
        (b'{"type":"health","more":1}', "malformed"),
        (b'{"type":"create-tenant","tenant_id":"secret-text"}', "malformed"),
        (b"\xff\x00\xfe" * 20, "malformed"),
    ],
)
async def test_a_message_that_breaks_the_protocol_is_answered(keyd: Keyd, body: bytes, code: str) -> None:
    client = await keyd.start()
    answer = await _talk(keyd, len(body).to_bytes(4, "big") + body + wire.frame(wire.Health()))
    length = int.from_bytes(answer[:4], "big")
    failure = decode(answer[4 : 4 + length], wire.Reply)
    assert isinstance(failure, wire.Failure)
    assert failure.code == code
    assert "secret-text" not in failure.message
    assert decode(answer[8 + length :], wire.Reply) == wire.Done()
    await client.close()


@pytest.mark.parametrize("length", [0, wire.MAX_FRAME_BYTES + 1, 2**32 - 1])
async def test_a_frame_of_an_impossible_length_ends_the_connection(keyd: Keyd, length: int) -> None:
    client = await keyd.start()
    answer = await _talk(keyd, length.to_bytes(4, "big") + b"x" * 100)
    failure = decode(answer[4:], wire.Reply)
    assert isinstance(failure, wire.Failure)
    assert failure.code == "malformed"
    await client.health()
    await client.close()


async def test_half_a_frame_harms_nobody(keyd: Keyd) -> None:
    client = await keyd.start()
    assert await _talk(keyd, b"\x00\x00") == b""
    assert await _talk(keyd, b"\x00\x00\x00\x20half") == b""
    await client.health()
    await client.close()


async def test_two_keyds_do_not_share_a_keystore(keyd: Keyd, directory: Path) -> None:
    client = await keyd.start()
    second = Keyd(directory)
    second.socket = directory / "run" / "second.sock"
    assert "in use" in await second.refusal()
    await client.health()
    await client.close()


@pytest.mark.row("T4")
@pytest.mark.parametrize("damage", ["truncate", "remove", "open"])
async def test_a_bad_key_file_stops_it_with_one_line(keyd: Keyd, damage: str) -> None:
    await (await keyd.start()).close()
    assert await keyd.stop() == 0
    path = keyd.directory / "kek.json"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:60])
    elif damage == "remove":
        path.unlink()
    else:
        path.chmod(0o644)
    before = path.read_bytes() if path.exists() else None
    line = await keyd.refusal()
    assert line.startswith(f"limen keyd: key file {path} ")
    assert line.endswith(")")
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.row("T4")
async def test_the_key_is_rotated_by_command_and_restart(keyd: Keyd) -> None:
    client = await keyd.start()
    tenant_id = uuid4()
    await client.create_tenant(tenant_id)
    secret = await seal(client, tenant_id)
    await keyd.stop()
    process = await keyd.spawn("--rotate-key")
    await process.communicate()
    assert process.returncode == 0
    assert len(json.loads((keyd.directory / "kek.json").read_text())["keys"]) == 2
    await keyd.start()
    assert await open_(client, tenant_id, secret) == b"hunter2"
    await client.close()


async def test_a_damaged_platform_record_stops_it_and_is_kept(keyd: Keyd) -> None:
    await (await keyd.start()).close()
    await keyd.stop()
    record = keyd.directory / "keystore/platform/authority-agent.json"
    record.write_bytes(record.read_bytes()[:50])
    assert "platform/authority-agent is damaged" in await keyd.refusal()
    assert record.stat().st_size == 50


async def test_a_socket_that_cannot_be_bound_is_named(keyd: Keyd) -> None:
    keyd.socket = keyd.socket.parent / ("x" * 120)
    assert "cannot listen on" in await keyd.refusal()


async def test_a_leftover_socket_is_replaced(keyd: Keyd) -> None:
    await (await keyd.start()).close()
    await keyd.stop(signal.SIGKILL)
    assert keyd.socket.exists()
    client = await keyd.start()
    await client.health()
    await client.close()


PROBE = """
import asyncio, sys
from limen.control.custody.service import KeydClient
from limen.kernel.errors import LimenError
import os
uid = int(sys.argv[2])
os.setgroups([int(g) for g in sys.argv[3:]]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
async def main():
    try:
        await KeydClient(sys.argv[1]).health()
        print("answered")
    except LimenError as exc:
        print(exc.code, exc.message)
asyncio.run(main())
"""


async def probe(keyd: Keyd, uid: int, *groups: int) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROBE,
        str(keyd.socket),
        str(uid),
        *map(str, groups),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )
    output, _ = await process.communicate()
    return output.decode().strip()


@pytest.mark.root
@needs_root
async def test_as_root_it_becomes_another_user_and_answers_the_named_uids_only(keyd: Keyd) -> None:
    serve, group, stranger = 61_001, 61_002, 61_003
    client = await keyd.start(
        "--user", "nobody", "--allow-uid", "0", "--allow-uid", str(serve), "--socket-gid", str(group)
    )
    assert keyd.process is not None
    status = Path(f"/proc/{keyd.process.pid}/status").read_text()
    assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
    assert "Groups:\t\n" in status.replace(" ", "")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    # Not dumpable: the kernel gives the files of such a process in /proc to root.
    assert Path(f"/proc/{keyd.process.pid}/mem").stat().st_uid == 0
    assert (await probe(keyd, serve, group)) == "answered"
    assert (await probe(keyd, serve)).startswith("unavailable the key custody process may not be reached")
    assert (await probe(keyd, stranger)).startswith("unavailable")
    assert (await probe(keyd, stranger, group)).startswith("denied user id 61003")
    # Even with the directory wide open, the list holds.
    keyd.socket.parent.chmod(0o755)
    keyd.socket.chmod(0o666)
    refused = [await probe(keyd, stranger) for _ in range(5)]
    assert all(answer.startswith("denied user id 61003") for answer in refused)
    assert (await probe(keyd, NOBODY)).startswith("denied")
    await client.health()
    await client.close()


@pytest.mark.root
@needs_root
async def test_as_root_everything_belongs_to_its_user_and_is_closed(keyd: Keyd) -> None:
    client = await keyd.start("--user", "nobody", "--allow-uid", "0")
    await client.create_tenant(uuid4())
    await client.close()
    found = list(keyd.directory.rglob("*"))
    assert len(found) > 10
    for path in (keyd.directory, *found):
        status = path.stat()
        assert status.st_uid == NOBODY, path
        assert stat.S_IMODE(status.st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(keyd.socket.parent.stat().st_mode) == 0o2750
    assert stat.S_IMODE(keyd.socket.stat().st_mode) == 0o660


@pytest.mark.root
@needs_root
async def test_rotation_as_root_leaves_the_file_to_its_user(keyd: Keyd) -> None:
    await (await keyd.start("--user", "nobody", "--allow-uid", "0")).close()
    await keyd.stop()
    process = await keyd.spawn("--rotate-key")
    await process.communicate()
    assert (keyd.directory / "kek.json").stat().st_uid == NOBODY
    await (await keyd.start("--user", "nobody", "--allow-uid", "0")).close()
