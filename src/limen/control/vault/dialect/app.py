"""The application: dispatch by path, and errors as Vault writes them.

Which status an error gets: what the client did wrong 400, no or no good token and no permission 403, nothing there
404, too many requests 429 with ``Retry-After``, custody or database away 503. A defect is 500 and says nothing.
"""

import math
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from limen.control.vault.dialect.kv import KeyValues
from limen.control.vault.dialect.message import Asked, failure, respond
from limen.control.vault.dialect.system import System
from limen.control.vault.dialect.tokens import TokenSelf
from limen.control.vault.errors import NothingThere, PassageRefused
from limen.control.vault.service import VaultService
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, Malformed, RateLimited, Unavailable

_log = structlog.get_logger(__name__)
_PREFLIGHT = "sys/internal/ui/mounts"
_DENIED = "1 error occurred:\n\t* permission denied\n\n"
_UNSUPPORTED_PATH = "1 error occurred:\n\t* unsupported path\n\n"

_Answer = Callable[[Asked], Awaitable[Response]]


def vault_app(vault: VaultService, clock: Clock) -> Starlette:
    """The Vault-compatible API; mount it at ``/v1``."""
    app = Starlette()
    # No route: a route's pattern drops a line break at the end of a path, and paths are compared as they are.
    app.router.default = _Dispatch(vault, clock)
    return app


class _Dispatch:
    """One ASGI application for every path and verb."""

    def __init__(self, vault: VaultService, clock: Clock) -> None:
        self._door = vault.door
        self._values = KeyValues(vault)
        tokens, system = TokenSelf(vault.tokens, clock), System(vault.door, vault.custody, clock)
        self._system = system
        self._named: dict[str, dict[str, _Answer]] = {
            "sys/health": {"GET": system.health, "HEAD": system.health},
            "sys/seal-status": {"GET": system.seal_status},
            "sys/leader": {"GET": system.leader},
            "sys/init": {"GET": system.initialised},
            "sys/mounts": {"GET": system.mounts},
            "sys/capabilities-self": {"POST": system.capabilities, "PUT": system.capabilities},
            "auth/token/lookup-self": {"GET": tokens.look_up, "POST": tokens.look_up},
            "auth/token/renew-self": {"POST": tokens.renew, "PUT": tokens.renew},
            "auth/token/revoke-self": {"POST": tokens.revoke, "PUT": tokens.revoke},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/")
        asked = Asked(request, request.method, path)
        response = await self._answered(asked)
        await response(scope, receive, send)

    async def _answered(self, asked: Asked) -> Response:
        try:
            return await self._answer(asked)
        except RateLimited as exc:
            return failure(429, exc.message, headers={"Retry-After": str(math.ceil(exc.retry_after))})
        except PassageRefused:
            return failure(403, self._refusal(asked))
        except NothingThere:
            return respond(404, {"errors": []})
        except Unavailable as exc:
            return failure(503, exc.message)
        except LimenError as exc:
            if exc.status >= 500:
                return self._defect(exc)
            return failure(exc.status, exc.message)
        except Exception as exc:
            return self._defect(exc)

    async def _answer(self, asked: Asked) -> Response:
        if asked.request.headers.get("x-vault-wrap-ttl", "0") not in ("", "0"):
            # Ignoring it would show in clear what the client wanted wrapped.
            raise Malformed("response wrapping is not supported", fix="ask without X-Vault-Wrap-TTL")
        answers = self._named.get(asked.path)
        if answers is not None:
            answer = answers.get(asked.method)
            return await answer(asked) if answer else respond(405, {"errors": []})
        if asked.path == _PREFLIGHT or asked.path.startswith(f"{_PREFLIGHT}/"):
            if asked.method != "GET":
                return respond(405, {"errors": []})
            return await self._system.mount(asked, asked.path[len(_PREFLIGHT) + 1 :])
        if asked.path.partition("/")[0] in ("sys", "auth"):
            await self._door.bearer(asked.presented())
            return failure(404, _UNSUPPORTED_PATH)
        return await self._values.answer(asked)

    def _refusal(self, asked: Asked) -> str:
        if not asked.path.startswith(f"{_PREFLIGHT}/"):
            return _DENIED
        return "preflight capability check returned 403, please ensure client's policies grant access to this path"

    def _defect(self, exc: Exception) -> Response:
        # Neither the message nor the traceback is logged: either may hold what the request carried.
        _log.error("vault request failed", error=type(exc).__name__, code=getattr(exc, "code", ""))
        return failure(500, "internal error")
