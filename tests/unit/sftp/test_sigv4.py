"""Signatures against botocore's, which AWS itself uses."""

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from limen.edge.sftp.storage.sigv4 import EMPTY_SHA256, Keys, encode_path, encode_query, sign

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def botocore_signature(monkeypatch: pytest.MonkeyPatch, method: str, path: str, query: dict[str, str]) -> str:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None))
    url = f"https://s3.example.com{encode_path(path)}" + (f"?{encode_query(query)}" if query else "")
    request = AWSRequest(method, url, headers={"host": "s3.example.com", "x-amz-content-sha256": EMPTY_SHA256})
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(KEYS.access_key_id, KEYS.secret_access_key), "s3", "eu-central-1").add_auth(request)
    return str(request.headers["Authorization"])


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(path=text, query=st.dictionaries(text, text, max_size=3))
def test_it_signs_as_botocore_does(path: str, query: dict[str, str]) -> None:
    # botocore keeps "." and ".." and "//" of S3 paths as they are, as we do; a jailed key has none of them anyway.
    with pytest.MonkeyPatch.context() as monkeypatch:
        theirs = botocore_signature(monkeypatch, "GET", f"/bucket/{path}", query)
    ours = sign(
        "GET", f"/bucket/{path}", query, {"host": "s3.example.com"},
        payload_sha256=EMPTY_SHA256, keys=KEYS, region="eu-central-1", now=NOW,
    )  # fmt: skip
    assert ours["authorization"] == theirs


def test_the_secret_does_not_show() -> None:
    assert KEYS.secret_access_key not in repr(KEYS)
