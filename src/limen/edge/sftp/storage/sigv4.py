"""AWS Signature Version 4 for S3 ("Authenticating Requests", Amazon S3 API Reference). Pure: the time is passed in."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Keys:
    """An S3 access key; the secret never shows in a repr."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


def encode_path(path: str) -> str:
    """Percent-encode an absolute path once, as S3 wants it in the request and in the signature."""
    return quote(path, safe="/-_.~")


def encode_query(query: Mapping[str, str]) -> str:
    """The canonical query string: sorted by name, everything but the unreserved characters encoded."""
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    payload_sha256: str,
    keys: Keys,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers to send: ``headers`` (``host`` must be among them) plus the signature's own.

    ``path`` is not yet encoded, ``payload_sha256`` is the hex digest of the body, ``now`` is UTC.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    day = stamp[:8]
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {"x-amz-date": stamp, "x-amz-content-sha256": payload_sha256}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            method,
            encode_path(path),
            encode_query(query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            payload_sha256,
        ]
    )
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed
