"""A world per test."""

import pytest

from limen.db.database import Database
from tests.integration.console.world import ConsoleWorld


@pytest.fixture
def world(database: Database) -> ConsoleWorld:
    """A platform with a console and no tenant yet."""
    return ConsoleWorld(database)
