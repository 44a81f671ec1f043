"""The audit trail: integration tests."""
