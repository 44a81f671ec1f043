"""``limen sftp`` told wrong things: one line that says what to do, and no door."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from limen.edge.sftp.hostkeys import fingerprints, known_hosts, load_host_keys
from limen.kernel.errors import Malformed, Unavailable
from limen.processes import sftp
from tests.support.sftp_door import OpenSsh, RunningDoor


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limen.processes.sftp", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "nowhere"], "is not address:port"),
        ([], "holds no agent yet"),
        (["--token", "le1.garbage"], "damaged"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("--state", str(tmp_path / "state"), *arguments)
    assert result.returncode == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_host_keys_are_kept_private_and_the_same(tmp_path: Path) -> None:
    first = load_host_keys(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [0o600, 0o600]
    assert fingerprints(load_host_keys(tmp_path)) == fingerprints(first)
    assert known_hosts(first, "host", 2022)[0].startswith("[host]:2022 ssh-ed25519 ")
    (tmp_path / "ssh_host_ed25519_key").chmod(0o644)
    with pytest.raises(Malformed):
        load_host_keys(tmp_path)
    (tmp_path / "ssh_host_ed25519_key").chmod(0o600)
    (tmp_path / "ssh_host_ed25519_key").write_text("garbage")
    with pytest.raises(Malformed):
        load_host_keys(tmp_path)


# cryptography warns that it will drop finite-field groups; they are kept here for clients that have nothing else.
@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
@pytest.mark.parametrize(
    ("kex", "cipher"),
    [
        ("mlkem768x25519-sha256", "aes256-gcm@openssh.com"),
        ("curve25519-sha256", "aes128-ctr"),
        ("diffie-hellman-group16-sha512", "aes256-ctr"),
    ],
)
async def test_algorithms_that_are_offered(door: RunningDoor, ssh: OpenSsh, kex: str, cipher: str) -> None:
    login = door.local(keys=(ssh.public_key,))
    door.control.logins["share", "ana"] = login
    async with asyncssh.connect(
        "127.0.0.1", door.port, username="ana.share", client_keys=[ssh.key], known_hosts=None, config=None,
        kex_algs=[kex], encryption_algs=[cipher],
    ) as connection:  # fmt: skip
        assert connection.get_extra_info("send_cipher") == cipher


@pytest.mark.parametrize(
    "options",
    [
        {"kex_algs": ["diffie-hellman-group14-sha1"]},
        {"kex_algs": ["ecdh-sha2-nistp256"]},
        {"encryption_algs": ["aes256-cbc"]},
        {"encryption_algs": ["aes256-ctr"], "mac_algs": ["hmac-sha2-256"]},
        {"server_host_key_algs": ["ssh-rsa"]},
    ],
)
async def test_algorithms_that_are_not(door: RunningDoor, options: dict[str, list[str]]) -> None:
    with pytest.raises(asyncssh.KeyExchangeFailed):
        await asyncssh.connect("127.0.0.1", door.port, username="a.b", known_hosts=None, config=None, **options)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = sftp.SftpSettings(tmp_path, host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="cannot listen"):
            asyncio.run(sftp._listen(None, load_host_keys(tmp_path), settings))  # type: ignore[arg-type]
