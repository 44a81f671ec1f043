"""Requests and responses of the dialect: bounded bodies, the envelope, the error list.

JSON numbers keep their digits: fractions are decoded to ``Decimal``, so that what is stored is what was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from limen.control.vault.errors import TokenRefused
from limen.control.vault.model import Presented
from limen.control.vault.rules import tokens
from limen.kernel.errors import Malformed

MAX_BODY_BYTES = 1 << 20

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, with its path below ``/v1``."""

    request: Request
    method: str
    path: str

    def presented(self) -> Presented:
        """The token that came with the request.

        Raises:
            TokenRefused: when there is none or it is not one.
        """
        headers = self.request.headers
        text = headers.get("x-vault-token", "")
        if not text:
            scheme, _, credential = headers.get("authorization", "").partition(" ")
            text = credential if scheme.lower() == "bearer" else ""
        if not text:
            raise TokenRefused
        tenant_id, token_id, digest = tokens.parse(text)
        return Presented(
            tenant_id=tenant_id,
            id=token_id,
            digest=digest,
            text=text,
            source=self._source(),
            namespace=headers.get("x-vault-namespace", "").strip("/"),
            host_label=getattr(self.request.state, "tenant_slug", None) or "",
        )

    def _source(self) -> str:
        """The client's address as the HTTP shell understood it, or the peer's when there is no shell."""
        known: str | None = getattr(self.request.state, "source", None)
        return known if known is not None else self.request.client.host if self.request.client else ""

    async def body(self) -> dict[str, Any]:
        """The JSON object sent; empty for no body or ``null``.

        Raises:
            Malformed: when it is too large, not JSON, too deep, or something other than an object.
        """
        raw = await self._bytes()
        if not raw.strip():
            return {}
        decoded = decode(raw)
        if decoded is None:
            return {}
        if not isinstance(decoded, dict):
            raise Malformed("failed to decode JSON input: expected an object", fix="send a JSON object")
        return decoded

    async def _bytes(self) -> bytes:
        chunks, size = [], 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise Malformed(
                    f"request body is larger than {MAX_BODY_BYTES} bytes", fix="store large data in a bucket"
                )
            chunks.append(chunk)
        return b"".join(chunks)


def decode(raw: bytes) -> Any:
    """Decode JSON.

    Raises:
        Malformed: when it is not JSON or nested too deeply. The message repeats nothing of the content.
    """
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ArithmeticError, ValueError):
        raise Malformed("failed to decode JSON input", fix="send well-formed JSON") from None


def encode(value: Any) -> bytes:
    """Encode as JSON, with the digits of decoded numbers."""
    try:
        return _encoder.encode(value)
    except (RecursionError, ValueError):
        raise Malformed("the document is nested too deeply", fix="send a flatter document") from None


def respond(status: int, content: Any) -> Response:
    """A JSON response."""
    return _response(status, encode(content))


def envelope(
    data: Any,
    *,
    status: int = 200,
    auth: Mapping[str, Any] | None = None,
    warnings: list[str] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Response:
    """A response in Vault's envelope; ``beside`` are members that some answers repeat at the top."""
    content = {
        **(beside or {}),
        "request_id": str(uuid4()),
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": data,
        "wrap_info": None,
        "warnings": warnings,
        "auth": auth,
    }
    return respond(status, content)


def failure(status: int, *messages: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as Vault writes it."""
    response = respond(status, {"errors": list(messages)})
    response.headers.update(headers or {})
    return response


def nothing() -> Response:
    """204."""
    return _response(204, b"")


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _response(status: int, content: bytes) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Type": "application/json"}
    return Response(content, status_code=status, headers=headers)
