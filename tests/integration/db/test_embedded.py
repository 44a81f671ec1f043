"""The embedded server: private, dropped from root, one per directory, gone with its parent, data kept."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from limen.db.database import Database
from limen.db.embedded import EmbeddedPostgres
from limen.db.errors import ProviderFailed
from limen.db.postmaster import processes_in
from limen.db.provider import prepare
from limen.db.roles import APP
from limen.kernel.ids import new_id
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import add_tenant, is_root
from tests.support.scratch import scratch_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    path = scratch_directory("pg")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def embedded(directory: Path, **options: object) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory, system_user="nobody", durable=False, **options)  # type: ignore[arg-type]


async def until_gone(data_directory: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while processes_in(data_directory):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def test_data_lasts_over_restarts_and_the_server_is_private(directory: Path) -> None:
    first = embedded(directory)
    assert len(await prepare(first)) >= 1
    try:
        async with Database(first, RandomFieldCipher()) as database:
            tenant = await add_tenant(database, "kept")
        with psycopg.connect(first.superuser_conninfo()) as connection:
            settings = {
                name: connection.execute(f"SHOW {name}".encode()).fetchall()[0][0]
                for name in ("listen_addresses", "data_checksums", "server_encoding", "lc_collate")
            }
        assert settings == {
            "listen_addresses": "",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "lc_collate": "C.UTF-8",
        }
        assert first.socket_directory.stat().st_mode & 0o777 == 0o700
        assert first.data_directory.stat().st_mode & 0o777 == 0o700
        owner = Path(f"/proc/{first.pid}").stat().st_uid
        assert owner != 0
        assert owner == first.data_directory.stat().st_uid
    finally:
        await first.stop()
    assert processes_in(first.data_directory) == ()

    second = embedded(directory)
    assert await prepare(second) == ()
    try:
        async with Database(second, RandomFieldCipher()) as database:
            assert await database.query(tenant, "SELECT slug FROM tenants") == [{"slug": "kept"}]
    finally:
        await second.stop()


_PARENT = """
import asyncio, sys
from pathlib import Path
from limen.db.embedded import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]), system_user="nobody", durable=False)
    await server.start()
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_parent_leaves_no_server_and_the_next_start_works(directory: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(directory)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    try:
        assert any("started" in line for line in parent.stdout)
        data = directory / "data"
        assert processes_in(data)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        # Started while the old server is still going down.
        successor = embedded(directory)
        await successor.start()
        await successor.stop()
        assert await until_gone(data, 10)
    finally:
        parent.kill()
        parent.wait(10)
        parent.stdout.close()


async def test_a_second_server_in_the_same_directory_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.db.embedded._PREDECESSOR_WAIT", 0.2)
    first = embedded(directory)
    await first.start()
    try:
        with pytest.raises(ProviderFailed, match="another database server") as refused:
            await embedded(directory).start()
        assert "--data" in refused.value.fix
        assert first.pid is not None
    finally:
        await first.stop()


async def test_a_stale_lock_file_with_a_living_strangers_number_is_cleared(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    await server.stop()
    (server.data_directory / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data_directory}\n")
    await server.start()
    await server.stop()


async def test_a_data_directory_of_a_missing_version_names_the_package(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data" / "PG_VERSION").write_text("11\n")
    with pytest.raises(ProviderFailed, match="PostgreSQL 11") as refused:
        await embedded(directory).start()
    assert refused.value.fix == "apt install postgresql-11"


async def test_a_full_directory_is_not_overwritten(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data" / "letters.txt").write_text("dear diary")
    with pytest.raises(ProviderFailed) as refused:
        await embedded(directory).start()
    assert "choose another one" in refused.value.fix
    assert (directory / "data" / "letters.txt").read_text() == "dear diary"


async def test_an_interrupted_first_start_is_no_obstacle(directory: Path) -> None:
    (directory / "data.new" / "base").mkdir(parents=True)
    (directory / "data.new" / "PG_VERSION").write_text("15\n")
    server = embedded(directory)
    await server.start()
    await server.stop()
    assert not (directory / "data.new").exists()


async def test_a_path_too_long_for_a_socket_is_explained(directory: Path) -> None:
    with pytest.raises(ProviderFailed, match="too long"):
        await embedded(directory / ("x" * 90)).start()


async def test_a_server_that_does_not_start_says_why(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    await server.stop()
    (server.data_directory / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ProviderFailed, match="does not start") as refused:
        await server.start()
    assert "configuration file" in refused.value.message
    assert str(server.log_file) in refused.value.fix
    assert server.pid is None


@pytest.mark.root
@pytest.mark.skipif(not is_root(), reason="changes its user")
async def test_only_named_clients_reach_the_runtime_roles(directory: Path) -> None:
    """A client in the socket's group may be limen_app, never the owner; a stranger cannot even knock."""
    client = pwd.getpwnam("daemon")
    server = embedded(directory, clients=("daemon",), socket_gid=client.pw_gid)
    await server.start()
    psql = "/usr/bin/psql"
    try:

        def attempt(user: str, role: str) -> subprocess.CompletedProcess[str]:
            entry = pwd.getpwnam(user)
            return subprocess.run(
                [psql, "-h", str(server.socket_directory), "-U", role, "-d", "limen", "-Atc", "SELECT current_user"],
                user=entry.pw_uid,
                group=entry.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )

        assert attempt("daemon", APP).stdout.strip() == APP
        for role in ("limen_owner", "limen_super"):
            assert "Peer authentication failed" in attempt("daemon", role).stderr
        assert "Permission denied" in attempt("games", APP).stderr
    finally:
        await server.stop()


@pytest.mark.root
@pytest.mark.skipif(not is_root(), reason="changes its user")
def test_an_ordinary_user_can_run_it(directory: Path) -> None:
    """In a forked child that has given up root."""
    entry = pwd.getpwnam("daemon")
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            asyncio.run(_start_query_stop(directory))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (directory / "data").stat().st_uid == entry.pw_uid


async def _start_query_stop(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    async with Database(server, RandomFieldCipher()) as database:
        await database.query(new_id(), "SELECT 1")
    await server.stop()


@pytest.mark.root
@pytest.mark.skipif(not is_root(), reason="changes its user")
async def test_a_directory_out_of_the_users_reach_is_explained(directory: Path) -> None:
    home = directory / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(ProviderFailed, match="cannot enter") as refused:
        await embedded(home / "limen").start()
    assert "/var/lib/limen" in refused.value.fix
