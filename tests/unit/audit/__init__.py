"""The audit trail: unit tests."""
