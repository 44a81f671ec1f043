"""The vault world of one test."""

from tests.integration.vault.conftest import world

__all__ = ["world"]
