"""``auth/token/{lookup,renew,revoke}-self``: the holder's view of a token."""

from typing import Any

from starlette.responses import Response

from limen.control.vault.dialect.message import Asked, envelope, instant, nothing
from limen.control.vault.model import Bearer
from limen.control.vault.rules import parameters
from limen.control.vault.rules.tokens import remaining
from limen.control.vault.service import TokenService
from limen.kernel.clock import Clock


class TokenSelf:
    """What a token may do with itself."""

    def __init__(self, tokens: TokenService, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    async def look_up(self, asked: Asked) -> Response:
        """``lookup-self``."""
        bearer = await self._tokens.look_up(asked.presented())
        token, subject = bearer.token, _policy_of(bearer)
        return envelope(
            {
                "accessor": token.accessor,
                "creation_time": int(token.created_at.timestamp()),
                "creation_ttl": token.ttl,
                "display_name": token.display or subject,
                "entity_id": str(token.subject_id),
                "expire_time": instant(token.expires_at),
                "explicit_max_ttl": token.max_ttl,
                "id": bearer.text,
                "issue_time": instant(token.created_at),
                "meta": None,
                "num_uses": 0,
                "orphan": True,
                "path": "auth/token/create",
                "policies": [subject],
                "renewable": token.renewable,
                "ttl": remaining(token, self._clock.now()),
                "type": "service",
            }
        )

    async def renew(self, asked: Asked) -> Response:
        """``renew-self``; ``increment`` as a duration."""
        presented = asked.presented()
        increment = (await asked.body()).get("increment")
        wanted = None if increment is None else parameters.seconds(increment, "increment")
        bearer = await self._tokens.renew(presented, wanted)
        left = remaining(bearer.token, self._clock.now())
        warnings = None
        if wanted and left < wanted - 1:
            warnings = ["the wanted TTL exceeded the token's max_ttl; it is capped accordingly"]
        return envelope(None, auth=self._auth(bearer, left), warnings=warnings)

    async def revoke(self, asked: Asked) -> Response:
        """``revoke-self``."""
        await self._tokens.revoke(asked.presented())
        return nothing()

    def _auth(self, bearer: Bearer, left: int) -> dict[str, Any]:
        return {
            "client_token": bearer.text,
            "accessor": bearer.token.accessor,
            "policies": [_policy_of(bearer)],
            "token_policies": [_policy_of(bearer)],
            "metadata": None,
            "lease_duration": left,
            "renewable": bearer.token.renewable,
            "entity_id": str(bearer.token.subject_id),
            "token_type": "service",
            "orphan": True,
            "mfa_requirement": None,
            "num_uses": 0,
        }


def _policy_of(bearer: Bearer) -> str:
    """Limen's policies name subjects, not tokens; clients only show this list."""
    return str(bearer.token.subject_kind)
