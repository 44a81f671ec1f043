"""The commands, one module for each kind of thing; each ends in its table of entries."""
