"""Static files: names that hold a hash, and style sheets that follow them."""

import re

import pytest

from limen.console.assets import ASSETS, Assets


def test_a_new_content_is_a_new_name() -> None:
    one, two = Assets({"a.js": b"1"}), Assets({"a.js": b"2"})
    assert one.url("a.js") != two.url("a.js")
    assert re.fullmatch(r"/static/a\.[0-9a-f]{12}\.js", one.url("a.js"))
    assert two.find(one.url("a.js").removeprefix("/static/")) is None


def test_a_style_sheet_names_the_hashed_file_and_changes_with_it() -> None:
    one = Assets({"a.css": b'src: url("f.woff2")', "f.woff2": b"1"})
    two = Assets({"a.css": b'src: url("f.woff2")', "f.woff2": b"2"})
    found = one.find(one.url("a.css").removeprefix("/static/"))
    assert found is not None
    assert found.content == f'src: url("{one.url("f.woff2")}")'.encode()
    assert one.url("a.css") != two.url("a.css")


def test_mistakes_show_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"gone\.woff2"):
        Assets({"a.css": b'url("gone.woff2")'})
    with pytest.raises(ValueError, match="media type"):
        Assets({"a.exe": b""})
    with pytest.raises(KeyError):
        ASSETS.url("no-such-file.js")


def test_nothing_of_ours_asks_another_origin() -> None:
    for name in ("console.css", "console.js", "theme.js", "icons.svg", "favicon.svg"):
        found = ASSETS.find(ASSETS.url(name).removeprefix("/static/"))
        assert found is not None
        text = found.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, name
        assert "style=" not in text, name
        assert "eval(" not in text, name
