"""No secret reaches a log, whether by key, by the look of the text, or inside a traceback."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from limen.runtime.logs import REDACTED, configure_logs, is_secret_name, redact

SECRETS = [
    "lv1.0123456789abcdef.fedcba.s3cr3tvalue",
    "le1.eyJ0ZW5hbnQiOiJ4In0",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "hvs.CAESIJabcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----",
    "Bearer abcdefghijklmnop",
    "postgresql://app:hunter22@db/limen",
    "host=db password=hunter22 dbname=x",
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("serve", stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "name",
    ["password", "Authorization", "secret_access_key", "access_key_id_secret", "token", "refreshToken", "set-cookie",
     "private_key", "psk", "client.secret", "dsn", "sealing_key", "api_key", "passwd", "credentials"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)
    assert redact({name: "value"}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name", ["tenant", "key_id", "public_key", "token_id", "session_id", "monkey", "passed", "keyd"]
)
def test_harmless_names(name: str) -> None:
    assert not is_secret_name(name)
    assert redact({name: "value"}) == {name: "value"}


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_looking_text_is_cut_wherever_it_stands(secret: str) -> None:
    for shape in (f"before {secret} after", [f"x {secret}"], {"a": {"b": (secret,)}}, ValueError(secret)):
        shown = str(redact(shape))
        assert REDACTED in shown
        for part in ("s3cr3tvalue", "eyJ", "CAESI", "IOSFOD", "MC4CAQ", "abcdefghijklmnop", "hunter22"):
            assert part not in shown


def test_events_of_both_kinds_of_loggers_are_json_and_redacted(log: io.StringIO) -> None:
    structlog.get_logger("x").info("signed in", password="hunter22", tenant="a", raw=b"bytes")
    logging.getLogger("uvicorn").warning("failed for %s", SECRETS[0])
    first, second = map(json.loads, log.getvalue().splitlines())
    assert (first["event"], first["tenant"], first["password"], first["process"]) == (
        "signed in",
        "a",
        REDACTED,
        "serve",
    )
    assert first["raw"] == "[5 bytes]"
    assert first["at"].endswith("Z")
    assert second["level"] == "warning"
    assert "s3cr3tvalue" not in second["event"]


def test_tracebacks_are_redacted(log: io.StringIO) -> None:
    try:
        raise ValueError(SECRETS[7])
    except ValueError:
        structlog.get_logger("x").exception("failed")
    event = json.loads(log.getvalue())
    assert "ValueError" in event["exception"]
    assert "hunter22" not in log.getvalue()


def test_the_level_is_a_floor(log: io.StringIO) -> None:
    structlog.get_logger("x").debug("quiet")
    assert log.getvalue() == ""


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_redaction_never_fails_and_is_stable(value: object) -> None:
    once = redact(value)
    assert redact(once) == once
