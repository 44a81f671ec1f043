"""The HTTP API as the commands use it. Whatever goes wrong on the way becomes one sentence that says what to do.

TLS 1.3 only; a server is believed if its certificate comes from the profile's authority (or from the system's, where
the profile has none). Redirects are not followed: the session goes to the server that was named and nowhere else.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from limen.cli.errors import CliError, Refused, SignedOut, Unreachable, UntrustedServer, UsageError
from limen.cli.loopback import LoopbackTransport, is_loopback_name
from limen.runtime.tls import client_context

API = "/api/v1"
TIMEOUT_SECONDS = 30.0
_MAX_WORDS = 1000
_HOSTNAME_MISMATCH = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NOT_IN_TIME = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests and as whom. ``authority`` is PEM; None means the system's authorities."""

    server: str
    authority: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)


def server_url(text: str) -> str:
    """``text`` as the origin of a server.

    Raises:
        UsageError: when it is none.
    """
    given = text.strip() if "://" in text else f"https://{text.strip()}"
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise UsageError(f"'{text}' is not the URL of a server", fix="write https://HOST:PORT") from None
    if parts.scheme != "https":
        raise UsageError("Limen is spoken to over https only", fix="write https://HOST:PORT")
    if not parts.hostname or parts.username or parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"'{text}' is not the URL of a server", fix="write https://HOST:PORT and nothing after it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit(("https", f"{host}:{port}" if port else host, "", "", ""))


class Api:
    """One server as one caller; use it as a context manager."""

    def __init__(self, target: Target) -> None:
        self.target = target
        context = client_context(target.authority)
        local = is_loopback_name(urlsplit(target.server).hostname or "")
        with said_plainly(target.server):
            self._client = httpx.Client(
                base_url=target.server,
                verify=context,
                # A transport of one's own also keeps proxies of the environment out, which loopback needs none of.
                transport=LoopbackTransport(httpx.HTTPTransport(verify=context)) if local else None,
                headers={"Authorization": f"Bearer {target.token}"} if target.token else {},
                timeout=TIMEOUT_SECONDS,
            )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET ``path`` under the API, decoded; members of ``query`` that are None or empty are left out.

        Raises:
            CliError: in words for the person at the terminal.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        """POST; None for an empty answer. Raises as :meth:`get`."""
        return self._call("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """PUT; None for an empty answer. Raises as :meth:`get`."""
        return self._call("PUT", path, body)

    def delete(self, path: str) -> Any:
        """DELETE; None for an empty answer. Raises as :meth:`get`."""
        return self._call("DELETE", path)

    def health(self) -> Any:
        """The server's own account of its parts, whether good or bad. Raises as :meth:`get`."""
        with said_plainly(self.target.server):
            answer = self._client.get(f"{API}/health")
        if answer.status_code in (200, 503) and isinstance(found := _decoded(answer), dict) and "parts" in found:
            return found
        raise self._refusal(answer)

    @contextmanager
    def download(self, path: str, **query: Any) -> Iterator[Iterator[bytes]]:
        """GET as a stream of blocks; also while the blocks are read, errors come as :class:`CliError`."""
        with said_plainly(self.target.server), self._client.stream("GET", API + path, params=_given(query)) as answer:
            if answer.status_code != 200:
                answer.read()
                raise self._refusal(answer)
            yield answer.iter_bytes()

    def _call(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        with said_plainly(self.target.server):
            answer = self._client.request(method, API + path, json=body, params=_given(query or {}))
        if not answer.is_success:
            raise self._refusal(answer)
        return _decoded(answer) if answer.content else None

    def _refusal(self, answer: httpx.Response) -> CliError:
        """The error that an answer other than success stands for."""
        try:
            document = answer.json()
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or "detail" not in document:
            return not_limen(self.target.server)
        detail, fix = str(document["detail"])[:_MAX_WORDS], str(document.get("fix", ""))[:_MAX_WORDS]
        if "id" in document:
            fix = f"{fix or 'look at the log of limen serve'}; id {document['id']}"
        refused = SignedOut if answer.status_code == 401 else Refused
        return refused(detail, http_status=answer.status_code, problem=str(document.get("code", "")), fix=fix)


def not_limen(server: str) -> CliError:
    """The answer is none that Limen gives."""
    return Unreachable(f"what answers at {server} is not Limen", fix="check the address given with --server")


@contextmanager
def said_plainly(server: str) -> Iterator[None]:
    """Turn what can happen on the way to ``server`` into :class:`CliError`."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise _in_words(server, exc) from exc


def _in_words(server: str, exc: Exception) -> CliError:
    causes = list(_causes(exc))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return _untrusted(server, cause)
            case ssl.SSLError():
                return Unreachable(f"{server} does not speak TLS 1.3", fix="check the port; is this Limen's address?")
            case socket.gaierror():
                return Unreachable(
                    f"the name in {server} cannot be resolved", fix="check its spelling, or your network"
                )
            case ConnectionRefusedError():
                fix = "is Limen running? start it with 'limen up', or check --server"
                return Unreachable(f"nothing answers at {server}", fix=fix)
    if isinstance(exc, httpx.TimeoutException):
        return Unreachable(f"{server} did not answer in time", fix="try again; check the network on the way")
    if isinstance(exc, httpx.InvalidURL):
        return UsageError(f"'{server}' is not the URL of a server", fix="write https://HOST:PORT")
    if isinstance(exc, httpx.RemoteProtocolError):
        return Unreachable(f"the answer of {server} broke off", fix="try again; look at the log of limen serve")
    return Unreachable(f"{server} cannot be reached", fix="check the address and the network")


def _untrusted(server: str, exc: ssl.SSLCertVerificationError) -> CliError:
    if exc.verify_code in _HOSTNAME_MISMATCH:
        return UntrustedServer(
            f"the certificate of {server} is for another name", fix="use a name that the server was started with"
        )
    if exc.verify_code in _NOT_IN_TIME:
        return UntrustedServer(
            f"the certificate of {server} is not valid at this time", fix="check the clocks here and on the server"
        )
    return UntrustedServer(
        f"the certificate of {server} is from an authority that is not trusted here",
        fix="sign in again with the server's own --ca FILE; if it was not set up anew, somebody is in between",
    )


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = exc
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise not_limen(str(answer.request.url.copy_with(path="/", query=None))) from None


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value not in (None, "")}
