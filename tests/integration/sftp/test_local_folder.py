"""OpenSSH's clients against the door, with a local folder behind it."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.sftp_door import OpenSsh, RunningDoor


def fill(path: Path, size: int) -> str:
    data = os.urandom(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.row("F9")
async def test_put_list_get_rename_remove(door: RunningDoor, ssh: OpenSsh, tmp_path: Path) -> None:
    login = door.local(keys=(ssh.public_key,))
    door.control.logins["share", "ana"] = login
    expected = fill(tmp_path / "up.bin", 9_000_001)
    result = await ssh.sftp(
        "ana.share", "put up.bin", "mkdir docs", "rename up.bin docs/moved.bin", "ls -l docs",
        "get docs/moved.bin down.bin", "rm docs/moved.bin", "rmdir docs", "ls -la", "df",
    )  # fmt: skip
    assert result.status == 0, result.output
    assert "moved.bin" in result.output
    assert "9000001" in result.output
    assert digest(tmp_path / "down.bin") == expected
    assert list(door.folder(login).iterdir()) == []
    actions = [(event.action, event.outcome, event.bytes) for event in await door.settled(9)]
    assert ("files.object.put", "ok", 9_000_001) in actions
    assert ("files.object.get", "ok", 9_000_001) in actions
    for action in ("object.rename", "object.remove", "directory.make", "directory.remove", "directory.list"):
        assert (f"files.{action}", "ok", 0) in actions
