"""Fixtures for all tests, and the scratch directory of the run."""

import pytest

from tests.support.postgres import database, field_cipher, postgres_server, scratch_source, tenants
from tests.support.scratch import begin_run, end_run

__all__ = ["database", "field_cipher", "postgres_server", "scratch_source", "tenants"]


def pytest_configure(config: pytest.Config) -> None:
    """Only in the process that the developer started, not in the workers of pytest-xdist."""
    if not hasattr(config, "workerinput"):
        begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The counterpart; also runs after Ctrl-C."""
    if not hasattr(config, "workerinput"):
        end_run()
