"""The control plane: rooms that decide, record and keep. Each room states its purpose in its own docstring."""
