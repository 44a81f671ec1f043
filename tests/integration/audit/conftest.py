"""Fixtures of the audit tests."""

from pathlib import Path

import pytest

from limen.db.database import Database
from tests.integration.audit.parts import Room


@pytest.fixture
def room(database: Database, tmp_path: Path) -> Room:
    """The audit room over a fresh database."""
    return Room(database, tmp_path)
