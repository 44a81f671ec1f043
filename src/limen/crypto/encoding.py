"""One unambiguous encoding for everything that is hashed or authenticated.

Each part is preceded by its length (4 bytes, big-endian), so ``("ab", "c")`` and ``("a", "bc")`` differ.
"""

from uuid import UUID

Piece = bytes | str | UUID


def to_bytes(piece: Piece) -> bytes:
    """Text as UTF-8, an id as its 16 bytes, bytes as they are."""
    if isinstance(piece, UUID):
        return piece.bytes
    if isinstance(piece, str):
        return piece.encode()
    return piece


def length_prefixed(*pieces: Piece) -> bytes:
    """Join ``pieces``, each after its length in 4 big-endian bytes."""
    out = bytearray()
    for piece in pieces:
        raw = to_bytes(piece)
        out += len(raw).to_bytes(4, "big")
        out += raw
    return bytes(out)
