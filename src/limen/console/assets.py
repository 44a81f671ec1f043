"""Static files and templates, read once at import.

A static file is served under a name that holds the hash of its content (``console.1f2e3d4c5b6a.css``), so browsers may
keep it for ever and a new version is a new name. Style sheets name other files plainly, ``url("plex-sans.woff2")``;
the plain name is replaced by the hashed one here.
"""

import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

PREFIX = "/static/"
_HASH_CHARACTERS = 12
_FOREVER = "public, max-age=31536000, immutable"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_CSS_URL = re.compile(rb'url\("([a-z0-9.-]+)"\)')


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file."""

    media_type: str
    etag: str
    content: bytes = field(repr=False)


class Assets:
    """The static files by their public names."""

    def __init__(self, plain: dict[str, bytes]) -> None:
        """``plain``: content by the file's plain name.

        Raises:
            ValueError: when a file has an unknown type, or a style sheet names a file that does not exist.
        """
        self._public: dict[str, str] = {}
        self._assets: dict[str, Asset] = {}
        # Style sheets last: they hold the names, and with them the hashes, of the others.
        for name in sorted(plain, key=lambda one: (one.endswith(".css"), one)):
            self._add(name, plain[name])

    def url(self, name: str) -> str:
        """The path under which a file is served.

        Raises:
            KeyError: when there is no such file.
        """
        return PREFIX + self._public[name]

    def find(self, public_name: str) -> Asset | None:
        """The file of a public name."""
        return self._assets.get(public_name)

    def _add(self, name: str, content: bytes) -> None:
        stem, dot, ending = name.rpartition(".")
        media_type = _MEDIA_TYPES.get(dot + ending)
        if media_type is None:
            raise ValueError(f"no media type is known for the static file {name}")
        if ending == "css":
            content = _CSS_URL.sub(self._css_url, content)
        digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
        public = f"{stem}.{digest}.{ending}"
        self._public[name] = public
        self._assets[public] = Asset(media_type, f'"{digest}"', content)

    def _css_url(self, match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        if name not in self._public:
            raise ValueError(f"a style sheet names {name}, which is no static file")
        return f'url("{self.url(name)}")'.encode()


async def serve_asset(request: Request) -> Response:
    """``GET /static/{name}``: public, and kept by browsers for a year."""
    asset = ASSETS.find(request.path_params["name"])
    if asset is None:
        return Response("no such file\n", 404, media_type="text/plain")
    headers = {"Cache-Control": _FOREVER, "ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


def _read(folder: str) -> dict[str, bytes]:
    return {
        item.name: item.read_bytes() for item in files("limen.console").joinpath(folder).iterdir() if item.is_file()
    }


ASSETS = Assets(_read("static"))
TEMPLATES: dict[str, str] = {name: content.decode() for name, content in _read("templates").items()}
