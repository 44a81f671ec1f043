"""The S3 calls of the file door over HTTPS: listing in pages, small puts, multipart uploads, delete, copy, head.

Each request is signed (``sigv4``), bounded in time, and repeated a few times where the store was busy or the line
broke; all of them may safely be repeated. Answers are parsed without entity expansion and with a size limit, since the
endpoint is a customer's choice. What goes wrong becomes a ``StorageError`` whose diagnosis names the call, the HTTP
status and the store's error code, never a key, a path or a header.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import httpx

from limen.edge.sftp.storage.errors import Missing, Refused, StorageError, Unreachable
from limen.edge.sftp.storage.sigv4 import EMPTY_SHA256, Keys, encode_path, encode_query, sign

MAX_ANSWER_BYTES: Final = 8 << 20
PAGE: Final = 1000
_BUSY: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds, and how often a request is tried in all."""

    connect: float = 5.0
    idle: float = 20.0
    tries: int = 3
    pause: float = 0.2


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a bucket is. ``endpoint`` is an http(s) URL without a path; addressing is path style."""

    endpoint: str
    name: str
    region: str = "us-east-1"

    @property
    def url(self) -> str:
        """The endpoint; AWS's own when none is given."""
        return self.endpoint.rstrip("/") or f"https://s3.{self.region}.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. ``modified`` is Unix seconds."""

    key: str
    size: int
    modified: int
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; ``next_token`` is empty on the last."""

    objects: tuple[Stored, ...]
    prefixes: tuple[str, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


class S3Calls:
    """Signed calls to one bucket."""

    def __init__(
        self,
        bucket: Bucket,
        keys: Keys,
        client: httpx.AsyncClient,
        now: Callable[[], datetime],
        limits: Limits = Limits(),
    ) -> None:
        self._bucket = bucket
        self._keys = keys
        self._client = client
        self._now = now
        self._limits = limits
        self._host = urlsplit(bucket.url).netloc

    async def head(self, key: str) -> Stored:
        """Size, time and ETag of an object; raises ``Missing``."""
        answer = await self._call("HEAD", key, what="head")
        return Stored(
            key,
            int(answer.headers.get("content-length", "0")),
            _http_date(answer.headers.get("last-modified", "")),
            answer.headers.get("etag", ""),
        )

    async def page(self, prefix: str, *, token: str = "", delimiter: str = "/", limit: int = PAGE) -> Page:
        """One page of the objects below ``prefix`` (ListObjectsV2)."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(limit), "encoding-type": "url"}
        query |= {"delimiter": delimiter} if delimiter else {}
        query |= {"continuation-token": token} if token else {}
        root = _parse(await self._call("GET", "", query, what="list"))
        decode = unquote_plus if _text(root, "EncodingType") == "url" else str
        more = _text(root, "IsTruncated") == "true"
        return Page(
            tuple(
                Stored(
                    decode(_text(item, "Key")),
                    int(_text(item, "Size") or "0"),
                    _iso_date(_text(item, "LastModified")),
                    _text(item, "ETag"),
                )
                for item in root.iterfind("Contents")
            ),
            tuple(decode(_text(item, "Prefix")) for item in root.iterfind("CommonPrefixes")),
            _text(root, "NextContinuationToken") if more else "",
        )

    async def put(self, key: str, body: bytes) -> None:
        """Store a small object in one request."""
        await self._call("PUT", key, body=body, what="put")

    async def copy(self, source: str, target: str) -> None:
        """Server-side copy inside the bucket."""
        where = quote(f"/{self._bucket.name}/{source}", safe="/-_.~")
        answer = await self._call("PUT", target, headers={"x-amz-copy-source": where}, what="copy")
        _expect(answer, "CopyObjectResult", "copy")

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is fine."""
        await self._call("DELETE", key, what="delete")

    async def create_upload(self, key: str) -> str:
        """Begin a multipart upload; return its id. Tried once: a repetition could leave an orphan."""
        answer = await self._call("POST", key, {"uploads": ""}, what="create upload", tries=1)
        upload_id = _text(_parse(answer), "UploadId")
        if not upload_id:
            raise StorageError(diagnosis="create upload: no upload id in the answer")
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Upload one part; return its ETag."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = await self._call("PUT", key, query, body=body, what="upload part")
        return str(answer.headers.get("etag", ""))

    async def complete_upload(self, key: str, upload_id: str, etags: list[str]) -> None:
        """Make the parts one object."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(etags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        body = ElementTree.tostring(root)
        answer = await self._call("POST", key, {"uploadId": upload_id}, body=body, what="complete upload")
        _expect(answer, "CompleteMultipartUploadResult", "complete upload")

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget a multipart upload; raises ``Missing`` when the store does not know it."""
        await self._call("DELETE", key, {"uploadId": upload_id}, what="abort upload")

    async def pending_uploads(self, prefix: str) -> list[Pending]:
        """Multipart uploads under way below ``prefix`` (the first 1000)."""
        root = _parse(await self._call("GET", "", {"uploads": "", "prefix": prefix}, what="list uploads"))
        return [
            Pending(_text(item, "Key"), _text(item, "UploadId"), datetime.fromisoformat(_text(item, "Initiated")))
            for item in root.iterfind("Upload")
        ]

    async def _call(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        what: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        tries: int | None = None,
    ) -> httpx.Response:
        query = query or {}
        path = f"/{self._bucket.name}/{key}" if key else f"/{self._bucket.name}"
        url = self._bucket.url + encode_path(path) + (f"?{encode_query(query)}" if query else "")
        digest = EMPTY_SHA256
        if body:
            digest = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
        failure: StorageError = Unreachable(f"{what}: never tried")
        for attempt in range(tries or self._limits.tries):
            if attempt:
                await asyncio.sleep(self._limits.pause * 2**attempt)
            signed = sign(
                method,
                path,
                query,
                {"host": self._host, **(headers or {})},
                payload_sha256=digest,
                keys=self._keys,
                region=self._bucket.region,
                now=self._now(),
            )
            try:
                answer = await self._send(method, url, signed, body)
            except httpx.TimeoutException:
                failure = Unreachable(f"{what}: no answer in time")
                continue
            except (httpx.TransportError, httpx.InvalidURL) as exc:
                failure = Unreachable(f"{what}: {type(exc).__name__}")
                continue
            if answer.status_code in _BUSY:
                failure = Unreachable(f"{what}: HTTP {answer.status_code} {_code(answer)}".rstrip())
                continue
            _check(answer, what)
            return answer
        raise failure

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        request = self._client.build_request(method, url, headers=dict(headers), content=body or None)
        answer = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise StorageError(diagnosis="the store's answer is too long")
        finally:
            await answer.aclose()
        headers_out = [(k, v) for k, v in answer.headers.items() if k not in {"content-encoding", "transfer-encoding"}]
        return httpx.Response(answer.status_code, headers=headers_out, content=bytes(content))


def http_client(limits: Limits, *, verify: object = True) -> httpx.AsyncClient:
    """A client that follows no redirect and reads no proxy or credential from the environment."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(limits.idle, connect=limits.connect),
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
        follow_redirects=False,
        trust_env=False,
        verify=verify,  # type: ignore[arg-type]  # bool or SSLContext
        headers={"user-agent": "limen", "accept-encoding": "identity"},
    )


def _check(answer: httpx.Response, what: str) -> None:
    status = answer.status_code
    if status < 300:
        return
    code = _code(answer)
    if status == 404 and code != "NoSuchBucket":
        raise Missing
    if status in {401, 403}:
        raise Refused(f"{what}: HTTP {status} {code}".rstrip())
    raise StorageError(diagnosis=f"{what}: HTTP {status} {code}".rstrip())


def _code(answer: httpx.Response) -> str:
    """The store's error code, if it looks like one."""
    try:
        code = _text(_parse(answer), "Code")
    except StorageError:
        return ""
    return code if code.isalnum() and len(code) <= 64 else ""


def _expect(answer: httpx.Response, root_tag: str, what: str) -> None:
    """Some calls answer 200 first and report their failure in the body."""
    root = _parse(answer)
    if root.tag != root_tag:
        code = _text(root, "Code")
        raise StorageError(diagnosis=f"{what}: {code if code.isalnum() else 'failed in the answer'}")


def _parse(answer: httpx.Response) -> ElementTree.Element:
    content = answer.content
    if b"<!" in content:
        raise StorageError(diagnosis="the store's answer holds a document type")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - no document type, hence no entities
    except ElementTree.ParseError:
        raise StorageError(diagnosis=f"HTTP {answer.status_code}: the answer is not XML") from None
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    return root


def _text(element: ElementTree.Element, tag: str) -> str:
    return element.findtext(tag) or ""


def _iso_date(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return 0


def _http_date(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError):
        return 0
