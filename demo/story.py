"""The story, step by step. Every value in the report is measured in this run."""

import base64
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import hvac
from tests.support.seaweed import Seaweed, running_seaweed

from demo import doors
from demo.api import Api, ApiError
from demo.lab import OTHER_PRIVATE, SERVER_PRIVATE, Lab, Site, inside
from demo.processes import Running, StepFailed, attempt, free_port, run
from demo.report import Report
from demo.tenant import Tenant, found_tenant
from limen.crypto.sealing import context, seal_to

PAGE_BYTES = 64 << 20
LONG_FILE_BYTES = 96 << 20
WEB_PORT = 8080
ALIVE_SECONDS = 0.5
"""A door in use shows a sign of life at least this often, on a busy machine too."""
BUCKET = "partner-files"
LIMEN = [sys.executable, "-m", "limen.processes.main"]
VERIFIER = Path(__file__).parent.parent / "verifier" / "limen-audit-verify"
NAMES = ("alpha", "beta")


class Story:
    """Everything that the demo sets up. ``stack`` takes it down again."""

    def __init__(self, stack: ExitStack, report: Report) -> None:
        self.stack = stack
        self.report = report
        self.work = Path(tempfile.mkdtemp(prefix="limen-demo-", dir=os.environ.get("TMPDIR", "/tmp")))
        self.work.chmod(0o711)
        stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.logs = self.work / "logs"
        self.logs.mkdir(mode=0o700)
        self.data = self.work / "data"
        self.lab = Lab()
        self.sites: dict[str, Site] = {}
        self.tenants: dict[str, Tenant] = {}
        self.page_hash = ""

    def play(self) -> None:
        """All steps in order."""
        with self.report.step("Building two small networks: a laptop, a gateway and a private server each"):
            self.build_lab()
        with self.report.step("Starting Limen with two tenants, each with its own people and keys"):
            self.start_limen()
            self.found_tenants()
        with self.report.step("Enrolling gateways and laptops with one-time tokens, bringing up WireGuard"):
            self.enrol_agents()
        with self.report.step("Fetching a page through the tunnel; another server behind the same gateway stays shut"):
            self.use_tunnel()
        with self.report.step("Connecting an S3 bucket and using it with OpenSSH's sftp"):
            self.connect_bucket()
            self.use_files()
        with self.report.step("Writing and reading a secret with bao and hvac"):
            self.use_vault()
        with self.report.step("Suspending one person while all four doors are in use"):
            self.revoke()
        with self.report.step("Exporting the audit trail, verifying it, and altering one record of a copy"):
            self.verify_audit()

    # --- set-up -------------------------------------------------------------------------------------------

    def build_lab(self) -> None:
        """Namespaces, and the private web servers in them."""
        self.stack.callback(self.lab.close)
        self.lab.open()
        self.report.say(f"everything is in {self.work} and in namespaces that end in -{self.lab.suffix}")
        web = self.work / "web"
        web.mkdir()
        self.page_hash = doors.random_file(web / "page", PAGE_BYTES)
        for name in NAMES:
            self.sites[name] = site = self.lab.add_site(name)
            command = inside(
                site.server, [sys.executable, str(doors.PROBES), "serve", str(web), "0.0.0.0", str(WEB_PORT)]
            )
            self._start(f"web-{name}", command)

    def start_limen(self) -> None:
        """``limen up`` on the lab's bridge."""
        self.port, self.agent_port = free_port(self.lab.address), free_port(self.lab.address)
        command = [*LIMEN, "up", "--data", self.data, "--host", self.lab.address, "--name", self.lab.address]
        command += ["--port", str(self.port), "--agent-port", str(self.agent_port), "--tenant", NAMES[0]]
        up = self._start("up", [str(part) for part in command])
        up.wait_until(lambda: "Ctrl-C stops it" in up.output(), 90, "limen up")
        self.url = f"https://{self.lab.address}:{self.port}"
        self.ca_file = self.data / "ca.pem"
        self.operator = Api(self.url, self.ca_file, (self.data / "operator.token").read_text().strip())

    def found_tenants(self) -> None:
        """The first through the link that ``limen up`` printed, the second by the operator."""
        link = (self.data / "owner-link").read_text().strip()
        self.tenants["alpha"] = found_tenant(self.operator, "alpha", link.rpartition("/")[2])
        self.tenants["beta"] = found_tenant(self.operator, "beta")
        for tenant in self.tenants.values():
            web = [{"protocol": "tcp", "first": WEB_PORT, "last": WEB_PORT}]
            tenant.add_resource("network", "intranet", cidr=f"{SERVER_PRIVATE}/32", ports=web)
            tenant.add_resource("network", "payroll", cidr=f"{OTHER_PRIVATE}/32", ports=web)
            tenant.add_resource("vault", "app")
            tenant.allow("Engineers reach the intranet", "intranet", "connect")
            tenant.allow("Engineers use the app's secrets", "app", "read", "write", "list", "delete")

    def enrol_agents(self) -> None:
        """One gateway and one laptop for each tenant, each in its own namespace."""
        for name, tenant in self.tenants.items():
            token = tenant.owner.post("/agents/tokens", {"kind": "gateway", "name": "gateway"})["token"]
            arguments = ["--state", str(self.work / f"gateway-{name}"), "--token", token]
            arguments += ["--advertise", self.sites[name].gateway_address]
            self._start(f"gateway-{name}", inside(self.sites[name].gateway, [*LIMEN, "gateway", *arguments]))
        for name in self.tenants:
            self._wait(lambda name=name: self._gateway_online(name), 30, f"the gateway of {name}")
        for name, tenant in self.tenants.items():
            token = tenant.person.post("/agents/tokens", {"kind": "client", "name": "laptop"})["token"]
            arguments = ["--state", str(self.work / f"client-{name}"), "--token", token]
            self._start(f"client-{name}", inside(self.sites[name].laptop, [*LIMEN, "client", *arguments]))
        for name in self.tenants:
            status = self.work / f"client-{name}" / "status.json"
            self._wait(lambda status=status: _client_ready(status), 30, f"the laptop of {name}")
        addresses = {_status(self.work / f"client-{name}" / "status.json")["tunnel_address"] for name in self.tenants}
        self.report.say(f"tunnel addresses of the two laptops: {', '.join(sorted(addresses))} (equal on purpose)")
        if len(addresses) != 1:
            raise StepFailed("the two tenants should have the same tunnel addresses")

    # --- the doors ----------------------------------------------------------------------------------------

    def use_tunnel(self) -> None:
        """A real page, checked by hash; and one that no policy allows."""
        site = self.sites["alpha"]
        page = self.work / "fetched"
        got = doors.fetch(site.laptop, f"http://{SERVER_PRIVATE}:{WEB_PORT}/page", page, 60)
        if not got["ok"]:
            raise StepFailed(f"the page did not come through the tunnel: {got['error']}")
        size, seconds = int(str(got["bytes"])), float(str(got["seconds"]))
        self.report.set("tunnel", "bytes", size)
        self.report.set("tunnel", "sha256_ok", got["sha256"] == self.page_hash and size == PAGE_BYTES)
        self.report.set("tunnel", "mbit_s", round(size * 8 / seconds / 1e6, 1))
        shut = doors.fetch(site.laptop, f"http://{OTHER_PRIVATE}:{WEB_PORT}/page", page, 6)
        self.report.set("tunnel", "denied_ok", not shut["ok"] and shut["bytes"] == 0)
        self.report.say(f"{size >> 20} MiB at {size * 8 / seconds / 1e6:.0f} Mbit/s; payroll: {shut.get('error')}")

    def connect_bucket(self) -> None:
        """A real S3 server, a connection whose key only the file gateway can read, and an SFTP user."""
        self.weed: Seaweed = self.stack.enter_context(running_seaweed())
        self.weed.client().create_bucket(Bucket=BUCKET)
        token = self.operator.post("/platform/agents/tokens", {"kind": "sftp", "name": "files"})["token"]
        self.sftp_port = free_port(self.lab.address)
        arguments = ["--state", str(self.work / "sftp"), "--token", token, "--private-endpoints"]
        arguments += ["--listen", f"{self.lab.address}:{self.sftp_port}"]
        door = self._start("sftp", [*LIMEN, "sftp", *arguments])
        self.users = {name: self._sftp_user(tenant) for name, tenant in self.tenants.items()}
        door.wait_until(self._file_door_ready, 30, "the file door")
        host_keys = run(["ssh-keyscan", "-p", str(self.sftp_port), self.lab.address])
        for user in self.users.values():
            user.known_hosts.write_text(host_keys)

    def _sftp_user(self, tenant: Tenant) -> doors.SftpUser:
        owner = tenant.owner
        place = {"provider": "s3", "endpoint": self.weed.endpoint, "bucket": BUCKET, "region": "us-east-1"}
        made = owner.post("/connections", {"name": "partner", "prefix": tenant.slug, **place})
        secret = {"access_key_id": self.weed.access_key_id, "secret_access_key": self.weed.secret_access_key}
        intake = base64.b64decode(owner.get("/connections/intake-key")["public_key"])
        place_of = context("intake", UUID(owner.get("/me")["tenant"]), UUID(made["id"]))
        # Sealed here, by the owner's tool, to a key that only keyd holds: the control plane never sees it.
        sealed = seal_to(intake, json.dumps(secret).encode(), place_of)
        owner.put(f"/connections/{made['id']}/credential", {"sealed": base64.b64encode(sealed).decode()})
        tenant.resources["partner"] = made["id"]
        tenant.allow("Engineers exchange files", "partner", "read", "write", "list", "delete")
        key = self.work / f"ssh-{tenant.slug}"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        user = owner.post(
            "/sftp-users",
            {"connection_id": made["id"], "person_id": tenant.person_id, "username": "ana", "jail": "ana"},
        )
        owner.post(f"/sftp-users/{user['id']}/keys", {"public_key": key.with_suffix(".pub").read_text().strip()})
        known_hosts = self.work / f"known-{tenant.slug}"
        return doors.SftpUser(user["login"], self.lab.address, self.sftp_port, key, known_hosts)

    def use_files(self) -> None:
        """Put, list, get, rename; out of the jail; and what the bucket itself says."""
        user, files = self.users["alpha"], self.work / "files"
        files.mkdir()
        digest = doors.random_file(files / "report.bin", 20 << 20)
        ok, words = user.batch(
            [f"put {files}/report.bin upload.part", "rename upload.part report.bin", "ls -l", "mkdir sub", "ls"], files
        )
        if not ok:
            raise StepFailed(f"sftp could not put: {words}")
        self.report.set("sftp", "put_ok", ok)
        self.report.set("sftp", "rename_ok", "report.bin" in words and "upload.part" not in words.split("ls -l")[-1])
        ok, words = user.batch([f"get report.bin {files}/back.bin"], files)
        self.report.set("sftp", "get_ok", ok and doors.sha256(files / "back.bin") == digest)
        objects = self.weed.keys(BUCKET)
        self.report.set("sftp", "bucket_ok", objects.get("alpha/ana/report.bin") == 20 << 20)
        self.weed.client().put_object(Bucket=BUCKET, Key="alpha/other/secret.txt", Body=b"not yours")
        escapes = ["../other/secret.txt", "/../other/secret.txt", "sub/../../other/secret.txt"]
        refused = [not user.batch([f"get {path} {files}/stolen"], files)[0] for path in escapes]
        self.report.set("sftp", "jail_ok", all(refused) and not (files / "stolen").exists())
        self.report.say(f"20 MiB put, renamed and fetched; in the bucket: {', '.join(sorted(objects))}")

    def use_vault(self) -> None:
        """The real clients of the Vault protocol."""
        secret = "correct horse battery staple"
        self.tokens = {name: tenant.person.post("/vault/tokens", {})["token"] for name, tenant in self.tenants.items()}
        for token in self.tokens.values():
            doors.bao(self.url, self.ca_file, token, "kv", "put", "app/database", f"password={secret}")
        printed = doors.bao(self.url, self.ca_file, self.tokens["alpha"], "kv", "get", "-format=json", "app/database")
        self.report.set("vault", "bao_ok", json.loads(printed)["data"]["data"] == {"password": secret})
        kv = self._hvac("alpha").secrets.kv.v2
        kv.create_or_update_secret(path="service", secret={"api": "key"}, mount_point="app")
        read = kv.read_secret_version(path="service", mount_point="app", raise_on_deleted_version=True)
        self.report.set("vault", "hvac_ok", read["data"]["data"] == {"api": "key"})

    # --- revocation ---------------------------------------------------------------------------------------

    def revoke(self) -> None:
        """One suspension while everything of two people is in use; only one of them is cut."""
        alpha = self.tenants["alpha"]
        files = self.work / "long"
        files.mkdir()
        doors.random_file(files / "big.bin", LONG_FILE_BYTES)
        for user in self.users.values():
            ok, words = user.batch([f"put {files}/big.bin big.bin"], files)
            if not ok:
                raise StepFailed(f"the long file was not put: {words}")
        tunnels, pages, polls = {}, {}, {}
        for name in NAMES:
            tunnels[name] = doors.watch(
                f"watch-{name}", self.sites[name].laptop, SERVER_PRIVATE, WEB_PORT, 12, self.logs
            )
            pages[name] = doors.OpenPage(self.tenants[name].person, self.ca_file, self._credentials(name))
            polls[name] = doors.TokenPoll(self._hvac(name), "app", "database")
        download = doors.LongDownload(self.users["alpha"], "big.bin", files / "alpha.bin", self.logs)
        time.sleep(1.0)
        answer = alpha.owner.post(f"/people/{alpha.person_id}/suspend", {"reason": "demo"})
        committed = datetime.fromisoformat(answer["committed_at"]).timestamp()
        moments = {
            "tunnel_ms": lambda: float(doors.watched(tunnels["alpha"])["last_byte_at"]),
            "sftp_ms": download.last_byte,
            "vault_ms": lambda: polls["alpha"].refused_at(20),
            "console_ms": lambda: pages["alpha"].ended_at(20),
        }
        for name, moment in moments.items():
            at = moment()
            # What had fallen silent well before the commit was not cut by it.
            stopped = at > committed - ALIVE_SECONDS and not (name == "sftp_ms" and download.complete(LONG_FILE_BYTES))
            # A last byte just before the commit counts as 0, never as less.
            milliseconds = round(max(at - committed, 0.0) * 1000, 1) if stopped else None
            self.report.set("revocation", name, milliseconds)
            shown = "did not stop" if milliseconds is None else f"{milliseconds} ms after the commit"
            self.report.say(f"{name.removesuffix('_ms')}: {shown}")
        self._check_other_tenant(tunnels["beta"], pages["beta"], polls["beta"])
        self._check_denied_then_lifted(alpha)

    def _check_other_tenant(self, tunnel: Running, page: doors.OpenPage, poll: doors.TokenPoll) -> None:
        reads = poll.reads
        time.sleep(0.5)
        untouched = poll.reads > reads and page.alive() and not poll.first_refusal
        poll.stop()
        untouched = untouched and doors.watched(tunnel)["ended"] == "still running"
        ok, _ = self.users["beta"].batch(["ls"], self.work)
        self.report.set("revocation", "other_tenant_untouched", untouched and ok)

    def _check_denied_then_lifted(self, alpha: Tenant) -> None:
        url, page = f"http://{SERVER_PRIVATE}:{WEB_PORT}/page", self.work / "again"
        laptop = self.sites["alpha"].laptop
        denied = not doors.fetch(laptop, url, page, 4)["ok"]
        try:
            alpha.sign_in()
            denied = False
        except ApiError:
            pass
        alpha.owner.post(f"/people/{alpha.person_id}/lift")
        alpha.person.token = alpha.sign_in()
        deadline = time.monotonic() + 20
        again = doors.fetch(laptop, url, page, 20)
        while not again["ok"] and time.monotonic() < deadline:
            time.sleep(0.5)
            again = doors.fetch(laptop, url, page, 20)
        ok, _ = self.users["alpha"].batch(["ls"], self.work)
        self.report.set("revocation", "denied_until_lifted", denied)
        self.report.set("revocation", "reconnected_ok", denied and ok and again.get("sha256") == self.page_hash)

    # --- audit --------------------------------------------------------------------------------------------

    def verify_audit(self) -> None:
        """The stand-alone verifier, on the real export and on one with a single altered record."""
        export, altered = self.work / "audit.jsonl", self.work / "altered.jsonl"
        self.tenants["alpha"].owner.download("/audit/export", export)
        verify = [sys.executable, "-I", "-S", VERIFIER, "--public-key", self.data / "audit.pub"]
        verify += ["--checkpoints", self.data / "serve" / "checkpoints.jsonl"]
        done = attempt([*verify, "--json", export])
        result = json.loads(done.stdout) if done.stdout else {}
        self.report.set("audit", "verified", done.returncode == 0)
        self.report.set("audit", "records", result.get("records"))
        _alter_one_record(export, altered)
        found = attempt([*verify, altered])
        self.report.set("audit", "tamper_detected", found.returncode == 1)
        self.report.say(f"{result.get('records')} records verified; the altered one: {_first_line(found.stdout)}")

    # --- parts --------------------------------------------------------------------------------------------

    def _gateway_online(self, name: str) -> bool:
        agents = self.tenants[name].owner.get("/agents")["agents"]
        return any(agent["kind"] == "gateway" and agent["connected"] for agent in agents)

    def _file_door_ready(self) -> bool:
        agents = self.operator.get("/platform/agents")["agents"]
        return any(agent["connected"] for agent in agents) and _listens(self.lab.address, self.sftp_port)

    def keep_logs(self, directory: Path) -> None:
        """Copy the processes' logs before everything is removed."""
        shutil.copytree(self.logs, directory, dirs_exist_ok=True)
        for file in (self.data / "logs").glob("*.log"):
            shutil.copy(file, directory)

    def _start(self, name: str, command: list[str]) -> Running:
        return self.stack.enter_context(Running(name, command, self.logs))

    def _wait(self, ready: Any, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise StepFailed(f"{what} was not ready within {seconds:.0f} s; the logs are in {self.logs}")
            time.sleep(0.05)

    def _hvac(self, name: str) -> hvac.Client:
        return hvac.Client(url=self.url, token=self.tokens[name], verify=str(self.ca_file))

    def _credentials(self, name: str) -> dict[str, str]:
        tenant = self.tenants[name]
        return {"tenant": name, "email": tenant.person_email, "password": tenant.person_password}


def _status(file: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(file.read_text())
    return status


def _client_ready(file: Path) -> bool:
    try:
        status = _status(file)
    except (OSError, ValueError):
        return False
    return bool(status.get("connected")) and bool(status.get("reachable"))


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def _alter_one_record(source: Path, target: Path) -> None:
    """Change the outcome of one opened record, as somebody would who wants a denial to look allowed."""
    lines = source.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if '"denied"' in line:
            lines[number] = line.replace('"denied"', '"ok"', 1)
            break
    else:
        raise StepFailed("no denied record to alter")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "nothing"


def require_root() -> None:
    """Raises:
    StepFailed: when not root: the lab needs network namespaces."""
    if os.geteuid() != 0:
        raise StepFailed("the demo builds network namespaces and needs root: run it as root or with sudo")
