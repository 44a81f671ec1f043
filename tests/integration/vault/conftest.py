"""The vault world of one test."""

import pytest

from limen.db.database import Database
from tests.integration.vault.world import VaultWorld
from tests.support.cipher import RandomFieldCipher


@pytest.fixture
def world(database: Database, field_cipher: RandomFieldCipher) -> VaultWorld:
    """A vault with nobody in it."""
    return VaultWorld(database, field_cipher)
