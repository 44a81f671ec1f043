"""Fixtures for all tests."""

from tests.support.postgres import database, field_cipher, postgres_server, scratch_source, tenants

__all__ = ["database", "field_cipher", "postgres_server", "scratch_source", "tenants"]
