"""``localhost`` and every name under it mean this machine, whatever the resolver thinks (RFC 6761 section 6.3).

Many systems do not resolve ``home.localhost``, so the names are resolved here. The certificate is checked for
``localhost``: every name under it is the same machine, and OpenSSL takes no wildcard directly under a top-level name.
"""

import httpx

_ADDRESSES = ("127.0.0.1", "::1")


def is_loopback_name(host: str) -> bool:
    """Whether RFC 6761 reserves ``host`` for loopback."""
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


class LoopbackTransport(httpx.BaseTransport):
    """Sends requests for such names to loopback: IPv4 first, then IPv6."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send; the Host header stays as it is.

        Raises:
            httpx.ConnectError: when neither address answers; the first one's error.
        """
        if not is_loopback_name(request.url.host):
            return self._inner.handle_request(request)
        request.extensions = {**request.extensions, "sni_hostname": "localhost"}
        refused: httpx.ConnectError | None = None
        named = request.url
        for address in _ADDRESSES:
            request.url = named.copy_with(host=address)
            try:
                return self._inner.handle_request(request)
            except httpx.ConnectError as exc:
                refused = refused or exc
        assert refused is not None
        raise refused

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()
