"""Structured logs on standard error: one event per line, JSON for machines or coloured text for a terminal.

No secret may reach a log. Call sites do not log secrets; :func:`redact` is the net beneath them: values under
secret-looking keys are replaced, and text that looks like a credential is cut wherever it stands, tracebacks included.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"(^|_)(pass(word|wd|phrase)?|pwd|secrets?|tokens?|api_?key|(private|secret|data|access|sealing|wrapping)_?key"
    r"|psk|keys?|credentials?|authorization|auth|cookies?|otp|dsn|conninfo|seed|plaintext)$",
    re.IGNORECASE,
)
_PUBLIC_KEY_NAMES = frozenset({"public_key"})
_SECRET_TEXT = re.compile(
    r"(?P<keep>(?i:\b(?:bearer|basic)\s+))[A-Za-z0-9._~+/=-]{8,}"
    r"|\bl[a-z]1\.[A-Za-z0-9._~+/=-]{8,}"  # Limen's own tokens: enrolment, vault, …
    r"|\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # JSON Web Token (RFC 7519)
    r"|\bhv[sbr]\.[A-Za-z0-9_-]{8,}"  # Vault tokens
    r"|\bAKIA[A-Z0-9]{12,}"  # S3 access key id
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password in a URL
    r"|(?P<name>(?i:\bpass(?:word|wd)?=))(?:'[^']*'|[^\s&]+)",
    re.DOTALL,
)


def redact(value: Any, key: str = "") -> Any:
    """``value`` without what must not be logged; containers are copied, other objects are returned as they are."""
    if key and is_secret_name(key) and value is not None and not isinstance(value, bool):
        return REDACTED
    match value:
        case str():
            return _SECRET_TEXT.sub(_replacement, value)
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case Mapping():
            return {name: redact(part, str(name)) for name, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact(part) for part in value]
        case BaseException():
            return redact(repr(value))
    return value


def is_secret_name(key: str) -> bool:
    """Whether a key's name says that its value is secret."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").replace(".", "_").lower()
    return snake not in _PUBLIC_KEY_NAMES and _SECRET_KEY.search(snake) is not None


def _replacement(match: re.Match[str]) -> str:
    return (match["keep"] or match["name"] or "") + REDACTED


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: redact(value, name) for name, value in event.items()}


def configure_logs(process: str, *, level: str = "info", json: bool = True, stream: TextIO | None = None) -> None:
    """Set up logging for this process, the standard library's loggers included.

    ``process`` is written with every event. Call once, before the first event.
    """
    output = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderers: list[Any] = [
        structlog.processors.format_exc_info,
        # After the traceback has become text, so that its text is searched as well.
        _redact_event,
        structlog.processors.JSONRenderer(default=str)
        if json
        else structlog.dev.ConsoleRenderer(colors=output.isatty()),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # Libraries that log each request: what they say is known here already, and their URLs name hosts.
    for chatty in ("httpx", "httpcore", "asyncssh", "websockets"):
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))
    structlog.contextvars.bind_contextvars(process=process)
