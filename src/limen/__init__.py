"""Limen decides who may cross, opens exactly that, and shuts it at once when the reason ends."""

__version__ = "0.1.0"
