"""Which paths a secret may have.

Rules: 1 to 1024 characters in segments separated by one ``/``; no segment is empty, ``.`` or ``..``; no control,
invisible-format or line-breaking character, no surrogate, and no replacement character, which is what a broken
encoding decodes to. A path is compared as it is written: no case folding, no normalisation.
"""

import unicodedata

from limen.kernel.errors import Malformed

MAX_PATH = 1024
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def checked_path(path: str) -> str:
    """Return ``path`` when it can name a secret.

    Raises:
        Malformed: otherwise.
    """
    if path.endswith("/"):
        raise Malformed("cannot write to a path ending in '/'", fix="leave the last '/' out")
    return _checked(path)


def checked_folder(path: str) -> str:
    """Return the prefix that every path in the folder starts with: empty for the root, else ending in ``/``.

    Raises:
        Malformed: when the folder cannot exist.
    """
    stripped = path.removesuffix("/")
    return f"{_checked(stripped)}/" if stripped else ""


def _checked(path: str) -> str:
    if not path:
        raise Malformed("the path is empty", fix="name a secret below the mount")
    if len(path) > MAX_PATH:
        raise Malformed(f"the path is longer than {MAX_PATH} characters", fix="choose a shorter path")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise Malformed("the path has an empty, '.' or '..' segment", fix="write each segment out")
    if any(character == _REPLACEMENT or unicodedata.category(character) in _REFUSED_CATEGORIES for character in path):
        raise Malformed("the path holds a control character or is not UTF-8", fix="use printable characters")
    return path


def bounds(prefix: str) -> tuple[str, str | None]:
    """The half-open range ``[low, high)`` of paths below ``prefix`` in byte order; ``None`` is no bound.

    ``0`` follows ``/`` in ASCII, so it closes the range of a prefix that ends in ``/``.
    """
    return prefix, f"{prefix[:-1]}0" if prefix else None
