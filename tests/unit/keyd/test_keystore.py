"""Records on disk: atomic, locked, never replaced when damaged."""

import os
from pathlib import Path
from uuid import uuid4

import pytest

from limen.kernel.errors import Unavailable
from limen.keyd import durable
from limen.keyd.calllog import CallLog
from limen.keyd.errors import CannotStart, KeystoreDamaged
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.keyd.local_backend import rotate_key_file
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose
from tests.unit.keyd.conftest import Opener


class Note(Record, frozen=True, kw_only=True):
    text: str


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keystore")


def test_a_record_comes_back(keystore: Keystore) -> None:
    assert keystore.is_empty()
    assert keystore.read(Shelf.TENANTS, "a", Note) is None
    keystore.write(Shelf.TENANTS, "a", Note(text="x"))
    assert keystore.read(Shelf.TENANTS, "a", Note) == Note(text="x")
    assert keystore.names(Shelf.TENANTS) == ["a"]
    assert not keystore.is_empty()


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_failure_in_the_middle_of_a_write_leaves_the_old_record(
    keystore: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    keystore.write(Shelf.TENANTS, "a", Note(text="old"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(Unavailable):
            keystore.write(Shelf.TENANTS, "a", Note(text="new"))
    assert keystore.read(Shelf.TENANTS, "a", Note) == Note(text="old")
    assert [path.name for path in (tmp_path / "keystore/tenants").iterdir()] == ["a.json"]


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore")
    keystore.write(Shelf.TENANTS, "a", Note(text="x"))
    keystore.close()
    leftover = tmp_path / "keystore/tenants/.a.json.0123456789ab.tmp"
    leftover.write_bytes(b"half a rec")
    reopened = Keystore(tmp_path / "keystore")
    assert not leftover.exists()
    assert reopened.read(Shelf.TENANTS, "a", Note) == Note(text="x")


def test_one_keystore_has_one_owner(keystore: Keystore, tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="in use"):
        Keystore(tmp_path / "keystore")
    keystore.close()
    Keystore(tmp_path / "keystore").close()


def test_a_keystore_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keystore").mkdir(mode=0o755)
    with pytest.raises(CannotStart, match="open to other users"):
        Keystore(tmp_path / "keystore")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b'{"format": 1}', b'{"format": 2, "text": "x"}', b'{"format": 1, "text": "x", "y": 1}'],
)
def test_a_damaged_record_is_reported_and_kept(keystore: Keystore, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keystore/agents/a.json"
    path.write_bytes(content)
    with pytest.raises(KeystoreDamaged, match="agents/a"):
        keystore.read(Shelf.AGENTS, "a", Note)
    assert path.read_bytes() == content


async def test_damage_to_a_tenant_stops_that_tenant_only(open_desk: Opener, tmp_path: Path) -> None:
    desk = await open_desk()
    a, b = await desk.tenant(), await desk.tenant()
    path = tmp_path / f"keystore/tenants/{a}.json"
    damaged = path.read_bytes()[:-40]
    path.write_bytes(damaged)
    for request in (wire.LeaseDataKey(tenant_id=a, purpose=Purpose.FIELDS), wire.CreateTenant(tenant_id=a)):
        assert await desk.refused(request) == "keystore-damaged"
    assert isinstance(await desk.ask(wire.LeaseDataKey(tenant_id=b, purpose=Purpose.FIELDS)), wire.DataKey)
    rotate_key_file(tmp_path / "kek.json")
    desk = await open_desk()
    assert await desk.refused(wire.LeaseDataKey(tenant_id=a, purpose=Purpose.FIELDS)) == "keystore-damaged"
    assert isinstance(await desk.ask(wire.LeaseDataKey(tenant_id=b, purpose=Purpose.FIELDS)), wire.DataKey)
    assert path.read_bytes() == damaged


@pytest.mark.row("T3")
async def test_a_tenant_record_put_in_anothers_place_does_not_open(open_desk: Opener, tmp_path: Path) -> None:
    desk = await open_desk()
    a, b = await desk.tenant(), await desk.tenant()
    tenants = tmp_path / "keystore/tenants"
    stolen = (tenants / f"{b}.json").read_text()
    (tenants / f"{a}.json").write_text(stolen)
    assert await desk.refused(wire.LeaseDataKey(tenant_id=a, purpose=Purpose.FIELDS)) == "keystore-damaged"
    (tenants / f"{a}.json").write_text(stolen.replace(str(b), str(a)))
    assert await desk.refused(wire.LeaseDataKey(tenant_id=a, purpose=Purpose.FIELDS)) == "keystore-damaged"


@pytest.mark.row("T3")
async def test_a_purposes_key_put_in_anothers_place_does_not_open(open_desk: Opener, tmp_path: Path) -> None:
    desk = await open_desk()
    tenant_id = await desk.tenant()
    path = tmp_path / f"keystore/tenants/{tenant_id}.json"
    # The vault's key under the name of a purpose that is leased would walk out of keyd.
    text = path.read_text().replace('"vault"', '"swap"').replace('"fields"', '"vault"').replace('"swap"', '"fields"')
    path.write_text(text)
    assert await desk.refused(wire.LeaseDataKey(tenant_id=tenant_id, purpose=Purpose.FIELDS)) == "keystore-damaged"


async def test_a_lost_check_record_stops_the_start(open_desk: Opener, tmp_path: Path) -> None:
    await open_desk()
    (tmp_path / "keystore/platform/keystore.json").unlink()
    with pytest.raises(CannotStart, match="check record"):
        await open_desk()


def test_atomic_write_without_replacing(tmp_path: Path) -> None:
    durable.write_atomically(tmp_path / "f", b"1", replace=False)
    with pytest.raises(FileExistsError):
        durable.write_atomically(tmp_path / "f", b"2", replace=False)
    assert (tmp_path / "f").read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_call_log_turns_over_and_keeps_a_bounded_number(tmp_path: Path) -> None:
    log = CallLog(tmp_path / "calls", max_file_bytes=200)
    for number in range(200):
        log.write({"call": str(uuid4()), "number": number}, durable=False)
    log.close()
    files = sorted((tmp_path / "calls").iterdir())
    assert 2 <= len(files) <= 17
    assert all(path.stat().st_size <= 200 and path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert b'"number":199' in (tmp_path / "calls/calls.jsonl").read_bytes()


def test_the_call_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    for number in range(2):
        log = CallLog(tmp_path / "calls")
        log.write({"number": number}, durable=True)
        log.close()
    assert (tmp_path / "calls/calls.jsonl").read_text().splitlines() == ['{"number":0}', '{"number":1}']
