"""Fixtures: a running door, and a real S3-compatible server for the session."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.seaweed import Seaweed, running_seaweed
from tests.support.sftp_door import OpenSsh, RunningDoor, running_door


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    with running_seaweed() as server:
        yield server


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[RunningDoor]:
    async with running_door(tmp_path) as running:
        yield running


@pytest.fixture
def ssh(tmp_path: Path, door: RunningDoor) -> OpenSsh:
    return OpenSsh(tmp_path, door.port)
