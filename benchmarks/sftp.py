"""Processor time of the file door per GiB, against OpenSSH's server.

``limen sftp`` whole, with ``limen serve`` and a local folder on tmpfs, against ``sshd`` with ``internal-sftp`` on
tmpfs: the same files, OpenSSH's own ``sftp`` as the client of both, one cipher (aes128-gcm), in turns. Counted is the
user and system time of the server's processes, children included; the client's is not.
"""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.doors import SftpUser, random_file
from demo.processes import Running, StepFailed, free_port
from demo.processes import run as run_command

from benchmarks.measure import GIB, cpu_seconds, interleaved, tree_cpu_seconds
from benchmarks.report import Row, row
from benchmarks.rig import LIMEN, Rig, listens

CIPHER = "aes128-gcm@openssh.com"


@dataclass(frozen=True, slots=True)
class Side:
    """One server: how a client gets in, and what it has cost so far."""

    user: SftpUser
    cpu: Callable[[], float]
    tmp: Path

    def put(self, file: Path) -> dict[str, float]:
        """Upload."""
        return self._moved(f"put {file} moved.bin", file.stat().st_size)

    def get(self, size: int) -> dict[str, float]:
        """Download the same file; its size must be right."""
        target = self.tmp / f"back-{secrets.token_hex(4)}"
        try:
            found = self._moved(f"get moved.bin {target}", size)
            if target.stat().st_size != size:
                raise StepFailed(f"the download has {target.stat().st_size} bytes, not {size}")
        finally:
            target.unlink(missing_ok=True)
        return found

    def _moved(self, command: str, size: int) -> dict[str, float]:
        before, started = self.cpu(), time.perf_counter()
        ok, words = self.user.batch([command], self.tmp)
        seconds = time.perf_counter() - started
        if not ok:
            raise StepFailed(f"sftp failed: {words}")
        time.sleep(0.2)  # the server's processes of this session end, and are counted
        return {"cpu": (self.cpu() - before) / (size / GIB), "mib_s": size / (1 << 20) / seconds}


class _Cipher(SftpUser):
    """The same client with one cipher."""

    def command(self) -> list[str]:
        """See :class:`SftpUser`."""
        return [*super().command(), "-c", CIPHER]


def run(*, quick: bool) -> list[Row]:
    """Put and get."""
    rounds, size = (1, 8 << 20) if quick else (5, 256 << 20)
    with Rig() as rig:
        tmp = Path(tempfile.mkdtemp(prefix="limen-bench-", dir="/dev/shm"))
        rig.stack.callback(shutil.rmtree, tmp, ignore_errors=True)
        tmp.chmod(0o755)
        file = tmp / "payload"
        random_file(file, size)
        ours, peer = _limen(rig, tmp), _openssh(rig, tmp)
        for side in (ours, peer):
            side.put(file)
        put = interleaved(rounds, lambda: ours.put(file), lambda: peer.put(file))
        got = interleaved(rounds, lambda: ours.get(size), lambda: peer.get(size))
    rows = []
    for what, (mine, its) in (("put", put), ("get", got)):
        case = f"{what}, {size >> 20} MiB, local folder"
        rows += [
            row(case, "CPU s per GiB of the server, less is better", mine["cpu"], its["cpu"], "OpenSSH sshd"),
            row(case, "MiB/s of one session, more is better", mine["mib_s"], its["mib_s"], "OpenSSH sshd"),
        ]
    return rows


def _limen(rig: Rig, tmp: Path) -> Side:
    port = rig.free_port()
    token = rig.operator.post("/platform/agents/tokens", {"kind": "sftp", "name": "files"})["token"]
    command = [*LIMEN, "sftp", "--state", str(rig.work / "sftp"), "--token", token]
    command += ["--listen", f"{rig.address}:{port}", "--local-root", str(tmp / "limen")]
    door = rig.start("sftp", command)
    tenant = rig.tenant
    made = tenant.owner.post("/connections", {"name": "folder", "provider": "local", "root": "share"})
    tenant.resources["folder"] = made["id"]
    tenant.allow("Everyone exchanges files", "folder", "read", "write", "list", "delete")
    key = _key(rig, "limen")
    body = {"connection_id": made["id"], "person_id": tenant.person_id, "username": "ana"}
    user = tenant.owner.post("/sftp-users", body)
    tenant.owner.post(f"/sftp-users/{user['id']}/keys", {"public_key": key.with_suffix(".pub").read_text().strip()})

    def ready() -> bool:
        agents = rig.operator.get("/platform/agents")["agents"]
        return any(agent["connected"] for agent in agents) and listens(rig.address, port)

    door.wait_until(ready, 30, "the file door")
    return Side(_user(rig, user["login"], rig.address, port, key), lambda: tree_cpu_seconds(door.pid), tmp)


def _openssh(rig: Rig, tmp: Path) -> Side:
    home, port = rig.work / "sshd", free_port("127.0.0.1")
    home.mkdir(mode=0o700)
    (tmp / "openssh").mkdir()
    key = _key(rig, "openssh")
    host_key = home / "host"
    run_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key])
    (home / "authorized").write_text(key.with_suffix(".pub").read_text(), encoding="utf-8")
    configuration = f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
AuthorizedKeysFile {home}/authorized
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
Subsystem sftp internal-sftp -d {tmp}/openssh
"""
    (home / "config").write_text(configuration, encoding="utf-8")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(home / "config")]
    server: Running = rig.start("sshd", command)
    server.wait_until(lambda: listens("127.0.0.1", port), 20, "sshd")
    # Sessions are children that end and are waited for, so the server's own entry holds their time.
    return Side(_user(rig, "root", "127.0.0.1", port, key), lambda: cpu_seconds(server.pid), tmp)


def _key(rig: Rig, name: str) -> Path:
    key = rig.work / f"key-{name}"
    run_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    return key


def _user(rig: Rig, name: str, host: str, port: int, key: Path) -> SftpUser:
    known_hosts = rig.work / f"known-{port}"
    known_hosts.write_text(run_command(["ssh-keyscan", "-p", str(port), host]), encoding="utf-8")
    return _Cipher(name, host, port, key, known_hosts)
