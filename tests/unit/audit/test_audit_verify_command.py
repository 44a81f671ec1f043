"""The verifier as customers run it: one file, no site-packages, its arguments, its exit status."""

import ast
import base64
import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.audit.trail import Trail, text
from tests.unit.audit.verifier import PATH

pytestmark = pytest.mark.row("O2")

TENANT = UUID(int=(7 << 76) | 7)


@pytest.fixture(scope="module")
def trail() -> Trail:
    made = Trail()
    made.grow([TENANT], [2, 2])
    return made


@pytest.fixture
def export(trail: Trail, tmp_path: Path) -> Path:
    path = tmp_path / "export.jsonl"
    path.write_bytes(text(trail.export(TENANT)))
    return path


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it isolated from everything that is installed."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(PATH), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_imports_only_the_standard_library() -> None:
    names = set()
    for node in ast.walk(ast.parse(PATH.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").split(".")[0])
    assert names <= sys.stdlib_module_names
    assert not names & {"socket", "urllib", "http", "ssl", "subprocess", "ctypes"}


def test_verified(trail: Trail, export: Path) -> None:
    done = run(export, "--public-key", trail.public_key.hex())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"verified 4 records, 2 checkpoints (2 seals) of tenant " + str(TENANT).encode())


def test_tampered(trail: Trail, export: Path) -> None:
    rows = export.read_bytes().splitlines(keepends=True)
    record = json.loads(rows[3])
    record["values"]["actor_kind"] = "system"
    rows[3] = json.dumps(record).encode() + b"\n"
    export.write_bytes(b"".join(rows))
    done = run(export, "--public-key", trail.public_key.hex())
    assert done.returncode == 1
    first, last = done.stdout.decode().splitlines()
    assert first == (
        f"line 4: record {record['id']}: its value of 'actor_kind' was changed"
        " (value and salt do not open the commitment)"
    )
    assert last == "NOT VERIFIED: 1 findings in 4 records, 2 checkpoints"
    found = json.loads(run(export, "--public-key", trail.public_key.hex(), "--json").stdout)
    assert (found["ok"], found["findings"][0]["line"], found["findings"][0]["record"]) == (False, 4, record["id"])


def test_public_key_in_every_form(trail: Trail, export: Path, tmp_path: Path) -> None:
    raw = trail.public_key
    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "key.raw").write_bytes(raw)
    (tmp_path / "key.hex").write_text(raw.hex() + "\n")
    (tmp_path / "key.b64").write_bytes(base64.b64encode(raw))
    forms = [
        raw.hex(),
        base64.b64encode(raw).decode(),
        pem.decode(),
        *(tmp_path / f"key.{f}" for f in ("pem", "raw", "hex", "b64")),
    ]
    for form in forms:
        assert run(export, "--public-key", form).returncode == 0, form


def test_standard_input(trail: Trail, export: Path) -> None:
    assert run("-", "--public-key", trail.public_key.hex(), stdin=export.read_bytes()).returncode == 0


def test_keeps_a_checkpoint_and_compares_with_it(trail: Trail, export: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    assert run(export, "--public-key", trail.public_key.hex(), "--write-checkpoint", kept).returncode == 0
    assert run(export, "--public-key", trail.public_key.hex(), "--trusted-checkpoint", kept).returncode == 0
    rows = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(rows[:4]) + b'{"type":"end","records":2,"seals":1}\n')
    assert run(export, "--public-key", trail.public_key.hex()).returncode == 0
    cut = run(export, "--public-key", trail.public_key.hex(), "--trusted-checkpoint", kept, "--write-checkpoint", kept)
    assert cut.returncode == 1
    assert b"cut or rolled back" in cut.stdout
    assert json.loads(kept.read_text())["seal"]["number"] == 2, "an export that fails must not become the trusted one"


@pytest.mark.parametrize("key", ["zz", "00" * 31, "/nonexistent/key", "01" + "00" * 31])
def test_wrong_usage_is_told_apart(export: Path, key: str) -> None:
    done = run(export, "--public-key", key)
    assert done.returncode == 2
    assert done.stderr.startswith(b"limen-audit-verify: ")


def test_missing_files_and_arguments(trail: Trail, export: Path, tmp_path: Path) -> None:
    key = trail.public_key.hex()
    assert run(tmp_path / "none", "--public-key", key).returncode == 2
    assert run(export, "--public-key", key, "--checkpoints", tmp_path / "none").returncode == 2
    assert run(export).returncode == 2
    other = Trail()
    other.grow([UUID(int=9)], [1])
    (tmp_path / "kept").write_text(json.dumps(other.kept(UUID(int=9))))
    assert run(export, "--public-key", key, "--trusted-checkpoint", tmp_path / "kept").returncode == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[]", b"\x00\xff", b'{"type":"header"}\n', b"[" * 100_000])
def test_anything_but_an_export(trail: Trail, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    done = run(tmp_path / "x", "--public-key", trail.public_key.hex())
    assert done.returncode == 1
    assert b"not an export of Limen" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_trail_that_goes_on_under_a_new_key(tmp_path: Path) -> None:
    trail = Trail()
    trail.grow([TENANT], [1])
    old, trail.seed = trail.public_key.hex(), Trail().seed
    trail.grow([TENANT], [1])
    (tmp_path / "x").write_bytes(text(trail.export(TENANT)))
    new = trail.public_key.hex()
    assert run(tmp_path / "x", "--public-key", new).returncode == 1
    assert run(tmp_path / "x", "--public-key", old).returncode == 1
    assert run(tmp_path / "x", "--public-key", new, "--public-key", old).returncode == 0
