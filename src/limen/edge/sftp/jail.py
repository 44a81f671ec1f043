"""Paths that cannot leave their jail: the one place where a client's bytes become a storage key.

A :class:`JailedPath` can only be made by :meth:`Jail.enter`, :meth:`Jail.root` or :meth:`JailedPath.child`, all of
which hold these rules:

1. A path is UTF-8 (strict: no overlong forms, no surrogates) of at most 4096 bytes; ``/`` separates segments; the
   jail is the root, absolute and relative mean the same; empty segments and ``.`` say nothing.
2. ``..`` takes back one segment. Taking back more than there is leaves the jail and is refused, not clamped.
3. A segment holds no NUL, no control or line-breaking character, no bidirectional override, no backslash, and at
   most 255 bytes.
4. A segment that *looks* like a separator or like ``.``/``..`` to a system that normalises (NFKC) or drops invisible
   characters is refused. Names are otherwise kept byte for byte: object stores do not normalise.
5. The key is the connection's prefix, the jail and the path, at most 1024 bytes (the S3 limit), and never starts
   with ``/``.

Pure: bytes in, value or error out.
"""

import unicodedata
from typing import ClassVar, Final

from limen.kernel.errors import Denied, LimenError, Malformed

MAX_PATH_BYTES: Final = 4096
MAX_SEGMENT_BYTES: Final = 255
MAX_KEY_BYTES: Final = 1024

_SEPARATORS: Final = frozenset("/\\\u2044\u2215\u2216\u29f5\u29f8\u29f9\ufe68\uff0f\uff3c")
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DOTS: Final = frozenset({".", ".."})


class OutsideJail(Denied):
    """The path would leave the jail."""


class BadName(Malformed):
    """The path breaks the rules of names; nothing is looked up for it."""


def check_segment(segment: str) -> str:
    """Return ``segment`` if it may be a name.

    Raises:
        BadName: when it breaks rule 3 or 4.
    """
    if not segment or segment in _DOTS:
        raise BadName("a name must not be empty, '.' or '..'")
    try:
        size = len(segment.encode())
    except UnicodeEncodeError:
        raise BadName("a name must be UTF-8") from None
    if size > MAX_SEGMENT_BYTES:
        raise BadName(f"a name is longer than {MAX_SEGMENT_BYTES} bytes")
    if segment.isascii() and segment.isprintable():
        if "\\" in segment or "/" in segment:
            raise BadName("a name must not hold a slash or a backslash")
        return segment
    for char in segment:
        category = unicodedata.category(char)
        if category in {"Cc", "Cs", "Zl", "Zp"} or char in _BIDI:
            raise BadName("a name must not hold control characters")
        if char in _SEPARATORS:
            raise BadName("a name must not hold a slash, a backslash or a look-alike of one")
    visible = "".join(char for char in segment if unicodedata.category(char) != "Cf")
    for form in (visible, segment):
        folded = unicodedata.normalize("NFKC", form)
        if not folded.strip() or folded.strip() in _DOTS or _SEPARATORS.intersection(folded):
            raise BadName("a name must not be a look-alike of '.', '..' or a slash")
    return segment


class JailedPath:
    """A place inside one jail. Compare by value; see the module for what it promises."""

    __slots__ = ("_base", "_segments")

    _base: tuple[str, ...]
    _segments: tuple[str, ...]
    _seal: ClassVar[object] = object()

    def __init__(self, seal: object, base: tuple[str, ...], segments: tuple[str, ...]) -> None:
        if seal is not JailedPath._seal:
            raise TypeError("a JailedPath is made by Jail.enter only")
        object.__setattr__(self, "_base", base)
        object.__setattr__(self, "_segments", segments)
        if len(self.key.encode()) > MAX_KEY_BYTES:
            raise BadName(f"the path is longer than {MAX_KEY_BYTES} bytes with its prefix")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a JailedPath does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JailedPath) and self._base == other._base and self._segments == other._segments

    def __hash__(self) -> int:
        return hash((self._base, self._segments))

    def __repr__(self) -> str:
        return f"JailedPath({self.shown!r})"

    @property
    def segments(self) -> tuple[str, ...]:
        """The names from the jail's root down to here."""
        return self._segments

    @property
    def all_segments(self) -> tuple[str, ...]:
        """The names from the connection's root down to here, prefix and jail included."""
        return self._base + self._segments

    @property
    def key(self) -> str:
        """The storage key: never starts or ends with ``/``; empty for the root of an unprefixed bucket."""
        return "/".join(self._base + self._segments)

    @property
    def listing_prefix(self) -> str:
        """What every key below this directory starts with: ``key/``, or nothing at the bucket's root."""
        key = self.key
        return f"{key}/" if key else ""

    @property
    def shown(self) -> str:
        """The absolute path as the client sees it."""
        return "/" + "/".join(self._segments)

    @property
    def name(self) -> str:
        """The last name; empty for the root."""
        return self._segments[-1] if self._segments else ""

    @property
    def is_root(self) -> bool:
        """Whether this is the jail itself."""
        return not self._segments

    @property
    def parent(self) -> "JailedPath":
        """One up; the root's parent is the root."""
        return JailedPath(JailedPath._seal, self._base, self._segments[:-1])

    def child(self, name: str) -> "JailedPath":
        """One name further down.

        Raises:
            BadName: when ``name`` may not be a name.
        """
        return JailedPath(JailedPath._seal, self._base, (*self._segments, check_segment(name)))

    def contains(self, other: "JailedPath") -> bool:
        """Whether ``other`` is here or below."""
        mine = self.all_segments
        return other.all_segments[: len(mine)] == mine


class Jail:
    """The part of a connection that one grant opens."""

    def __init__(self, prefix: str, jail: str) -> None:
        """Join the connection's ``prefix`` and the user's ``jail``; both use ``/`` and may be empty.

        Raises:
            Malformed: when either breaks the rules of names, ``..`` included.
        """
        segments: list[str] = []
        for text in (prefix, jail):
            segments += [check_segment(part) for part in text.split("/") if part]
        self._base = tuple(segments)
        self._root = JailedPath(JailedPath._seal, self._base, ())

    @property
    def root(self) -> JailedPath:
        """The jail itself."""
        return self._root

    def enter(self, raw: bytes) -> JailedPath:
        """Turn what a client sent into a path inside the jail.

        Raises:
            OutsideJail: when ``..`` climbs over the jail's root.
            BadName: when the bytes break the rules of names.
        """
        if len(raw) > MAX_PATH_BYTES:
            raise BadName(f"the path is longer than {MAX_PATH_BYTES} bytes")
        try:
            text = raw.decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise BadName("the path is not UTF-8") from None
        segments: list[str] = []
        for part in text.split("/"):
            if part in {"", "."}:
                continue
            if part == "..":
                if not segments:
                    raise OutsideJail("the path leads outside of your folder")
                segments.pop()
                continue
            segments.append(check_segment(part))
        return JailedPath(JailedPath._seal, self._base, tuple(segments))


def is_valid_name(name: str) -> bool:
    """Whether a name found in storage may be shown to a client (it could open it again)."""
    try:
        check_segment(name)
    except LimenError:
        return False
    return True
