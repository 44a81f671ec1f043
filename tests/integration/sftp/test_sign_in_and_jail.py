"""Sign-in over the wire, what the door does not offer, rights per operation, and the jail with real files around it."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from limen.edge.sftp.limits import ConnectionLimits
from tests.support.sftp_door import OpenSsh, RunningDoor, running_door


def share(door: RunningDoor, ssh: OpenSsh, **options: object) -> Path:
    login = door.local(keys=(ssh.public_key,), **options)
    door.control.logins["share", "ana"] = login
    folder = door.folder(login)
    folder.mkdir(parents=True)
    return folder


def client(door: RunningDoor, **options: object) -> object:
    return asyncssh.connect(
        "127.0.0.1", door.port, known_hosts=None, config=None, **{"username": "ana.share", **options}
    )  # type: ignore[arg-type]


@pytest.mark.row("F4")
async def test_a_key_is_probed_first_and_the_grant_asked_for_with_the_proof(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    assert (await ssh.sftp("ana.share", "pwd")).status == 0
    assert [(asked.probe, bool(asked.public_key)) for asked in door.control.asked] == [(True, True), (False, True)]
    assert door.control.asked[0].source == "127.0.0.1"
    assert len(door.control.grants) == 1


@pytest.mark.row("F4")
async def test_an_offered_key_without_its_private_half_opens_nothing(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    stranger = OpenSsh(ssh.directory, door.port)
    result = await stranger.sftp("ana.share", "pwd")
    assert result.status == 255
    assert "Permission denied" in result.output
    assert door.control.grants == []


@pytest.mark.parametrize("user", ["ana", ".share", "ana.", "ana.other", "x" * 300 + ".share"])
async def test_names_that_lead_nowhere(door: RunningDoor, ssh: OpenSsh, user: str) -> None:
    share(door, ssh)
    assert (await ssh.sftp(user, "pwd")).status == 255
    assert door.control.grants == []


async def test_user_names_are_split_at_the_last_dot(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    door.control.logins["share", "ana.maria"] = door.control.logins["share", "ana"]
    assert (await ssh.sftp("ana.maria.share", "pwd")).status == 0


@pytest.mark.row("F4")
async def test_passwords(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh, password="correct horse")
    async with (
        client(door, password="correct horse", client_keys=None) as connection,
        connection.start_sftp_client() as sftp,
    ):
        assert await sftp.listdir("/") == []
    for wrong in ("wrong", ""):
        with pytest.raises(asyncssh.PermissionDenied):
            async with client(door, password=wrong, client_keys=None):
                pass
    assert len(door.control.grants) == 1


async def test_there_is_no_shell_no_command_no_forwarding(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    async with client(door, client_keys=[ssh.key]) as connection:
        for attempt in (
            connection.run("id", check=True),
            connection.run(check=True, stdin=asyncssh.DEVNULL),
            connection.create_session(asyncssh.SSHClientSession, subsystem="other"),
        ):
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ProcessError)):
                await asyncio.wait_for(attempt, 5)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 22)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("", 0, "127.0.0.1", 22)


async def test_many_keys_of_an_agent_still_reach_the_right_one_and_guessing_ends(
    door: RunningDoor, ssh: OpenSsh
) -> None:
    share(door, ssh)
    others = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(14)]
    async with client(door, client_keys=[*others[:5], ssh.key]):
        pass
    with pytest.raises(asyncssh.Error):
        async with client(door, client_keys=[*others, ssh.key]):
            pass
    assert len(door.control.grants) == 1


async def test_waiting_connections_are_limited_and_time_out(tmp_path: Path) -> None:
    limits = ConnectionLimits(waiting_per_address=3)
    async with running_door(tmp_path, limits=limits, login_seconds=1) as door:
        waiting = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
        for reader, _ in waiting:
            assert (await reader.readline()).startswith(b"SSH-2.0-")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
        for reader, writer in waiting:
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        ssh = OpenSsh(tmp_path, door.port)
        share(door, ssh)
        assert (await ssh.sftp("ana.share", "pwd")).status == 0


@pytest.mark.row("F5")
async def test_the_jail_holds_against_real_files_and_links(door: RunningDoor, ssh: OpenSsh, tmp_path: Path) -> None:
    folder = share(door, ssh, jail="home/ana")
    jail = folder / "home" / "ana"
    jail.mkdir(parents=True)
    secret = folder / "home" / "secret.txt"
    secret.write_text("not yours")
    (jail / "link").symlink_to(secret)
    (jail / "dirlink").symlink_to(folder)
    (jail / "mine.txt").write_text("mine")
    (tmp_path / "up.txt").write_text("up")
    for command in (
        "get ../secret.txt", "get /../../home/secret.txt", "get mine.txt/../../secret.txt", "get link",
        "get dirlink/home/secret.txt", "put up.txt ../up.txt", "put up.txt dirlink/up.txt", "rename mine.txt ../stolen",
        "ls ..", "cd ..", "mkdir ../new", "rm ../secret.txt", "rmdir ..", "ln -s ../secret.txt s",
        "rm link/../../secret.txt",
    ):  # fmt: skip
        result = await ssh.sftp("ana.share", command)
        assert result.status != 0, (command, result.output)
    assert secret.read_text() == "not yours"
    assert sorted(path.name for path in (folder / "home").iterdir()) == ["ana", "secret.txt"]
    assert sorted(path.name for path in folder.iterdir()) == ["home"]
    result = await ssh.sftp("ana.share", "ls -1")
    assert "link" not in result.output
    denied = [event for event in door.control.events if event.outcome == "denied"]
    assert len(denied) >= 8
    assert {event.detail for event in denied} == {"outside-jail"}


async def test_overwriting_through_a_link_replaces_nothing_outside(
    door: RunningDoor, ssh: OpenSsh, tmp_path: Path
) -> None:
    folder = share(door, ssh)
    outside = tmp_path / "outside.txt"
    outside.write_text("untouched")
    (folder / "link").symlink_to(outside)
    (tmp_path / "up.txt").write_text("up")
    await ssh.sftp("ana.share", "put up.txt link")
    assert outside.read_text() == "untouched"


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [(("read",), "get"), (("write",), "put"), (("list",), "ls"), (("delete",), "rm")],
)
async def test_each_operation_needs_its_action(
    door: RunningDoor, ssh: OpenSsh, tmp_path: Path, actions: tuple[str, ...], allowed: str
) -> None:
    folder = share(door, ssh, actions=actions)
    (folder / "f.txt").write_text("x")
    (folder / "d.txt").write_text("x")
    (tmp_path / "up.txt").write_text("up")
    commands = {"get": "get f.txt got.txt", "put": "put up.txt", "ls": "ls -l", "rm": "rm d.txt"}
    for name, command in commands.items():
        result = await ssh.sftp("ana.share", command)
        # OpenSSH's ls reports the error and still ends with 0.
        done = result.status == 0 and "denied" not in result.output
        assert done == (name == allowed), (name, result.output)
    for name, command in {"rename": "rename f.txt g.txt", "mkdir": "mkdir m"}.items():
        assert ((await ssh.sftp("ana.share", command)).status == 0) == (allowed == "put"), name


async def test_bytes_that_are_not_sftp_end_the_channel(door: RunningDoor, ssh: OpenSsh) -> None:
    share(door, ssh)
    async with client(door, client_keys=[ssh.key]) as connection:
        writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
        writer.write(b"\xff" * 64)
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert (await ssh.sftp("ana.share", "pwd")).status == 0
