"""The local-file key backend, and what happens when its file is not as it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from limen.crypto.errors import Unreadable
from limen.keyd.errors import CannotStart
from limen.keyd.local_backend import LocalFileBackend, create_key_file, rotate_key_file
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose
from tests.unit.keyd.conftest import Opener

pytestmark = pytest.mark.row("T4")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "kek.json"
    create_key_file(path)
    return path


async def test_what_is_wrapped_unwraps_under_its_context_only(key_file: Path) -> None:
    backend = LocalFileBackend.load(key_file)
    wrapped = await backend.wrap(b"tenant key", b"context")
    assert await backend.unwrap(wrapped, b"context") == b"tenant key"
    assert b"tenant key" not in wrapped
    for blob, context in ((wrapped, b"other"), (wrapped[:-1], b"context"), (b"", b"context")):
        with pytest.raises(Unreadable):
            await backend.unwrap(blob, context)


async def test_another_file_does_not_unwrap(key_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    create_key_file(other)
    wrapped = await LocalFileBackend.load(key_file).wrap(b"x", b"")
    with pytest.raises(Unreadable):
        await LocalFileBackend.load(other).unwrap(wrapped, b"")


async def test_rotation_keeps_the_former_keys(key_file: Path) -> None:
    before = LocalFileBackend.load(key_file)
    wrapped = await before.wrap(b"x", b"")
    rotate_key_file(key_file)
    after = LocalFileBackend.load(key_file)
    assert after.key_version() != before.key_version()
    assert await after.unwrap(wrapped, b"") == b"x"
    with pytest.raises(Unreadable):
        await before.unwrap(await after.wrap(b"x", b""), b"")
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_a_key_file_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(CannotStart, match="exists already"):
        create_key_file(key_file)
    assert key_file.read_bytes() == before
    assert key_file.stat().st_mode & 0o777 == 0o600


def _flip(path: Path) -> None:
    file = json.loads(path.read_text())
    key = file["keys"][0]["key"]
    file["keys"][0]["key"] = ("B" if key[0] == "A" else "A") + key[1:]
    path.write_text(json.dumps(file))


def _short_key(path: Path) -> None:
    file = json.loads(path.read_text())
    file["keys"][0]["key"] = "AAAA"
    path.write_text(json.dumps(file))


def _no_keys(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"keys": []}))


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(os.urandom(300)), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged"),
        (lambda path: path.write_text("{}"), "is damaged"),
        (_flip, "check value does not fit"),
        (_short_key, "check value does not fit"),
        (_no_keys, "check value does not fit"),
        (lambda path: path.chmod(0o644), "can be read by other users"),
        (lambda path: path.chmod(0o640), "can be read by other users"),
        (_link, "cannot read key file"),
    ],
)
def test_a_bad_key_file_stops_the_start_with_one_line_and_a_fix(
    key_file: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(key_file)
    with pytest.raises(CannotStart, match=message) as refusal:
        LocalFileBackend.load(key_file)
    assert "\n" not in refusal.value.message
    assert refusal.value.fix


async def test_a_lost_key_file_is_not_replaced(open_desk: Opener, tmp_path: Path) -> None:
    await open_desk()
    (tmp_path / "kek.json").unlink()
    with pytest.raises(CannotStart, match="is missing"):
        await open_desk()
    assert not (tmp_path / "kek.json").exists()


async def test_the_key_file_of_another_installation_is_refused(open_desk: Opener, tmp_path: Path) -> None:
    desk = await open_desk()
    tenant_id = await desk.tenant()
    record = (tmp_path / "keystore/tenants" / f"{tenant_id}.json").read_bytes()
    (tmp_path / "kek.json").unlink()
    create_key_file(tmp_path / "kek.json")
    with pytest.raises(CannotStart, match="does not belong to this keystore"):
        await open_desk()
    assert (tmp_path / "keystore/tenants" / f"{tenant_id}.json").read_bytes() == record


async def test_a_restart_after_rotation_rewraps_every_record(open_desk: Opener, tmp_path: Path) -> None:
    desk = await open_desk()
    tenants = [await desk.tenant() for _ in range(3)]
    leases = [await desk.ask(wire.LeaseDataKey(tenant_id=t, purpose=Purpose.FIELDS)) for t in tenants]
    roots = await desk.ask(wire.AuthorityCertificates())
    former = json.loads((tmp_path / "kek.json").read_text())["keys"][0]["id"]
    rotate_key_file(tmp_path / "kek.json")
    current = LocalFileBackend.load(tmp_path / "kek.json").key_version()
    desk = await open_desk()
    assert [await desk.ask(wire.LeaseDataKey(tenant_id=t, purpose=Purpose.FIELDS)) for t in tenants] == leases
    assert await desk.ask(wire.AuthorityCertificates()) == roots
    records = [json.loads(path.read_text()) for path in (tmp_path / "keystore").rglob("*.json")]
    wrapped = [record["root"]["kek"] for record in records if "root" in record]
    assert len(wrapped) == 3 + 2 + 2 + 1
    assert set(wrapped) == {current}
    assert former != current
