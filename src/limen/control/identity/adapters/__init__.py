"""Identity's ports on other rooms' services; joined in the processes."""
