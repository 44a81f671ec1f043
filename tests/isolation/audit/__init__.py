"""The audit trail: isolation tests."""
