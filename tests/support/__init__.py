"""What several test packages need: a real PostgreSQL per worker, a field cipher with random keys."""
