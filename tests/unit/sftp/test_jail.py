"""Paths cannot leave their jail: examples, properties, and a reference that normalises differently."""

import posixpath
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limen.edge.sftp.jail import BadName, Jail, JailedPath, OutsideJail, is_valid_name
from limen.kernel.errors import LimenError, Malformed

pytestmark = pytest.mark.row("F5")

JAIL = Jail("customers/acme", "home/ana")
BASE = "customers/acme/home/ana"


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"", BASE),
        (b".", BASE),
        (b"/", BASE),
        (b"a.txt", f"{BASE}/a.txt"),
        (b"/a//b/./c/", f"{BASE}/a/b/c"),
        (b"a/../b", f"{BASE}/b"),
        (b"a/b/../..", BASE),
        (b"...", f"{BASE}/..."),
        (b"a b+%2e%2e#?", f"{BASE}/a b+%2e%2e#?"),
        ("grüße/日本/👩\u200d💻".encode(), f"{BASE}/grüße/日本/👩\u200d💻"),
    ],
)  # fmt: skip
def test_good_paths(raw: bytes, key: str) -> None:
    assert JAIL.enter(raw).key == key


@pytest.mark.parametrize("raw", [b"..", b"/..", b"../x", b"a/../../x", b"a/../..", b"/../../etc/passwd", b"./../"])
def test_climbing_out_is_refused_not_clamped(raw: bytes) -> None:
    with pytest.raises(OutsideJail):
        JAIL.enter(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"a\0b", b"a\nb", b"a\x7fb", b"a\x1b[31m", b"..\\x", b"a\\b",
        b"\xff", b"\xc0\xaf", b"\xc0\xae\xc0\xae", b"\xed\xa0\x80", b"\xe0\x80\xaf",
        "a\u2028b".encode(), "a\u202eb".encode(), "a\u0085b".encode(),
        "\uff0e\uff0e".encode(), "\uff0e.".encode(), "\u2025".encode(), ".\u200b.".encode(), "\u2024\u2024".encode(),
        "a\uff0fb".encode(), "a\u2215b".encode(), "a\u2044b".encode(), "a\uff3cb".encode(),
        "\u200b".encode(), "\u2100".encode(),
        b"x" * 256, b"/".join([b"y" * 200] * 6), b"a/" * 3000,
    ],
)  # fmt: skip
def test_names_that_are_refused(raw: bytes) -> None:
    with pytest.raises(BadName):
        JAIL.enter(raw)


@pytest.mark.parametrize("jail", ["..", "a/../b", ".", "a\0", "a\\b", "\uff0e\uff0e"])
def test_a_jail_itself_must_be_clean(jail: str) -> None:
    with pytest.raises(Malformed):
        Jail("", jail)
    with pytest.raises(Malformed):
        Jail(jail, "")


def test_a_path_is_made_by_a_jail_only_and_does_not_change() -> None:
    with pytest.raises(TypeError):
        JailedPath(object(), (), ("..",))
    path = JAIL.enter(b"a")
    with pytest.raises(AttributeError):
        path._segments = ("..", "b")
    with pytest.raises(BadName):
        path.child("..")
    with pytest.raises(BadName):
        path.child("a/b")


def test_parent_of_the_root_is_the_root() -> None:
    assert JAIL.root.parent == JAIL.root
    assert JAIL.enter(b"a/b").parent == JAIL.enter(b"a")
    assert JAIL.root.contains(JAIL.enter(b"a"))
    assert not JAIL.enter(b"a").contains(JAIL.enter(b"ab"))


pieces = st.one_of(
    st.sampled_from(["..", ".", "", "...", "a", "b", "\uff0e\uff0e", "..\u200b", "%2e%2e", "\\", "\0", "\u2025"]),
    st.text(max_size=6),
)
paths = st.one_of(
    st.lists(pieces, max_size=12).map(lambda parts: "/".join(parts).encode("utf-8", "surrogatepass")),
    st.binary(max_size=64),
)


@given(paths)
@example(b"/a/b/../../../c")
@example("a/\uff0e\uff0e/b".encode())
def test_the_key_is_always_below_the_jail(raw: bytes) -> None:
    try:
        path = JAIL.enter(raw)
    except LimenError:
        return
    assert path.key == BASE or path.key.startswith(f"{BASE}/")
    for folded in (path.key, unicodedata.normalize("NFKC", path.key), unicodedata.normalize("NFKD", path.key)):
        visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
        assert ".." not in [part.strip() for part in visible.split("/")]
        assert posixpath.normpath(visible.replace("\\", "/")).startswith(BASE)
    assert all(is_valid_name(name) for name in path.segments)


@given(paths)
def test_it_agrees_with_a_reference_that_walks(raw: bytes) -> None:
    """posixpath.normpath below a deep root finds the same place, or the reference has left the root."""
    try:
        path = JAIL.enter(raw)
    except OutsideJail:
        depth = lowest = 0
        for part in raw.decode().split("/"):
            depth += -1 if part == ".." else part not in {"", "."}
            lowest = min(lowest, depth)
        assert lowest < 0
        return
    except LimenError:
        return
    assert path.shown == posixpath.normpath("/deep/" + raw.decode()).removeprefix("/deep") or path.is_root


@given(paths)
def test_what_is_shown_leads_back_to_the_same_place(raw: bytes) -> None:
    try:
        path = JAIL.enter(raw)
    except LimenError:
        return
    assert JAIL.enter(path.shown.encode()) == path
