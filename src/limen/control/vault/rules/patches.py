"""JSON Merge Patch (RFC 7396)."""

from typing import Any


def merge(target: Any, patch: Any) -> Any:
    """Apply ``patch`` to ``target`` without changing either; ``None`` in an object removes the member."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
