"""``limen up`` as a process: data that lasts, file modes, and what it says when something is wrong."""

import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from demo.api import Api, ApiError
from demo.processes import free_port
from demo.tenant import found_tenant

from tests.support.scratch import scratch_directory

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("up")]
READY = "Ctrl-C stops it"


@pytest.fixture
def data() -> Path:
    return scratch_directory("limen-up-") / "data"


def command(data: Path, *more: str) -> list[str]:
    fixed = [
        "--port",
        str(free_port("127.0.0.1")),
        "--agent-port",
        str(free_port("127.0.0.1")),
        "--name",
        "127.0.0.1",
        "--tenant",
        "alpha",
    ]
    return [sys.executable, "-m", "limen.processes.main", "up", "--data", str(data), *fixed, *more]


@contextmanager
def up(data: Path, *more: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running platform and what it printed until it was ready."""
    running = subprocess.Popen(
        command(data, *more),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    try:
        printed = ""
        while READY not in printed:
            line = running.stdout.readline()
            assert line, f"it ended: {printed}"
            printed += line
        yield running, printed
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)


def environment() -> dict[str, str]:
    """As a service manager starts it: what is printed into a pipe must come at once all the same."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def url_of(printed: str) -> str:
    server = next(line for line in printed.splitlines() if "limen login" in line)
    return server.split("--server ")[1].split()[0]


def failed(data: Path, *more: str) -> str:
    """The one line of a start that must not succeed."""
    done = subprocess.run(command(data, *more), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("limen up:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_data_lasts_over_a_restart(data: Path) -> None:
    with up(data) as (_, printed):
        operator = Api(url_of(printed), data / "ca.pem", (data / "operator.token").read_text().strip())
        link = (data / "owner-link").read_text().strip()
        assert link in printed
        tenant = found_tenant(operator, "alpha", link.rpartition("/")[2])
        tenant.add_resource("vault", "app")
        credentials = {"tenant": "alpha", "email": tenant.person_email, "password": tenant.person_password}
        key = (data / "audit.pub").read_text()
    with up(data) as (_, printed):
        assert link not in printed, "a link that was used is not shown again"
        again = Api(url_of(printed), data / "ca.pem")
        assert again.post("/sign-in", credentials)["token"]
        operator = again.as_bearer((data / "operator.token").read_text().strip())
        assert [found["slug"] for found in operator.get("/tenants")["tenants"]] == ["alpha"]
        assert (data / "audit.pub").read_text() == key, "the same trail goes on under the same key"


@pytest.mark.row("T6")
def test_others_cannot_look_in(data: Path) -> None:
    with up(data):
        for path in data.rglob("*"):
            if path.is_symlink() or path.is_socket():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            assert not mode & stat.S_IWOTH, f"{path} is writable for everyone"
            if path.is_file() and os.access(path, os.R_OK) and path.name not in ("ca.pem", "audit.pub"):
                closed = not mode & stat.S_IROTH or any(
                    not stat.S_IMODE(parent.stat().st_mode) & stat.S_IXOTH
                    for parent in path.parents
                    if parent.is_relative_to(data)
                )
                assert closed, f"{path} is readable for everyone"
        owners = {name: (data / name).stat().st_uid for name in ("keyd", "serve")}
        assert len(set(owners.values())) == 2, "keyd and serve are different users"
        assert 0 not in owners.values()


def test_each_part_runs_as_its_own_user_and_none_as_root(data: Path) -> None:
    with up(data) as (running, _):
        users = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or entry.name == str(running.pid):
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                owner = entry.stat().st_uid
            except OSError:
                continue
            if parent == running.pid:
                users["postgres" if "postgres" in words else words.split("limen.processes.")[-1].split("\0")[0]] = owner
        assert len(users) == 3, users
        assert len(set(users.values())) == 3, users


@pytest.mark.row("T5")
def test_a_tenants_name_is_in_the_certificate_as_soon_as_it_is_born(data: Path) -> None:
    with up(data) as (_, printed):
        port = int(url_of(printed).rpartition(":")[2])
        operator = Api(url_of(printed), data / "ca.pem", (data / "operator.token").read_text().strip())
        operator.post("/tenants", {"slug": "beta", "name": "Beta"})
        trust = ssl.create_default_context(cafile=str(data / "ca.pem"))
        names, deadline = {"alpha.localhost", "beta.localhost"}, time.monotonic() + 30
        while names:
            assert time.monotonic() < deadline, names
            for name in list(names):
                with (
                    contextlib.suppress(ssl.SSLCertVerificationError),
                    socket.create_connection(("127.0.0.1", port)) as tcp,
                ):
                    trust.wrap_socket(tcp, server_hostname=name).close()
                    names.discard(name)


def test_a_taken_port_is_named(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in failed(data, "--port", str(port))


def test_a_corrupt_key_file_stops_the_start_and_is_kept(data: Path) -> None:
    with up(data):
        pass
    key_file = data / "keyd" / "kek.json"
    key_file.write_text("{not json")
    assert "key file" in failed(data)
    assert key_file.read_text() == "{not json", "a key file is never written over"


def test_a_database_that_is_down_is_said(data: Path) -> None:
    line = failed(data, "--database-dsn", f"postgresql://limen@127.0.0.1:{free_port('127.0.0.1')}/limen")
    assert "database" in line


def test_a_database_that_dies_takes_the_platform_down_loudly(data: Path) -> None:
    with up(data) as (running, printed):
        api = Api(url_of(printed), data / "ca.pem")
        pid = int((data / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((ApiError, httpx.HTTPError)) as caught:  # a refusal, or already down
            api.post("/sign-in", {"tenant": "alpha", "email": "a@b.example", "password": "x" * 12})
        assert not isinstance(caught.value, ApiError) or caught.value.status == 503
        output, _ = running.communicate(timeout=60)
        assert running.returncode == 1
        assert "the database ended by itself" in output
    with up(data):
        pass  # the next start recovers


def test_a_data_directory_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "--data" in failed(file)


def test_wrong_operator_and_unknown_routes_are_problems(data: Path) -> None:
    with up(data) as (_, printed):
        api = Api(url_of(printed), data / "ca.pem", "lo1.00000000000000000000000000000000.nonsense")
        with pytest.raises(ApiError) as caught:
            api.get("/tenants")
        assert caught.value.status == 401
        with pytest.raises(ApiError) as caught:
            api.get("/nothing-here")
        assert caught.value.status == 404
