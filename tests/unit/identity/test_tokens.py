"""Session tokens: what verifies and what does not."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.identity.errors import SessionEnded
from limen.control.identity.model import SessionKind
from limen.control.identity.ports import SessionKey
from limen.control.identity.service import tokens
from limen.kernel.errors import Unauthenticated
from limen.kernel.ids import new_id

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TENANT, OTHER = new_id(), new_id()
KEYS = {TENANT: SessionKey(b"k" * 16, b"a" * 32), OTHER: SessionKey(b"k" * 16, b"b" * 32)}


class Keys:
    """One key for each tenant."""

    async def current(self, tenant_id: UUID) -> SessionKey:
        return KEYS[tenant_id]

    async def by_id(self, tenant_id: UUID, key_id: bytes) -> SessionKey | None:
        key = KEYS.get(tenant_id)
        return key if key is not None and key.key_id == key_id else None


CLAIMS = tokens.Claims(TENANT, new_id(), new_id(), SessionKind.BEARER, NOW + timedelta(hours=1))
GOOD = tokens.issue(KEYS[TENANT], CLAIMS, NOW)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unpart(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return loaded


def signed(header: dict[str, Any], payload: dict[str, Any], key: bytes = b"a" * 32) -> str:
    message = f"{part(header)}.{part(payload)}"
    digest = hmac.digest(key, message.encode(), hashlib.sha256)
    return f"{message}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await tokens.verify(Keys(), token, NOW)


async def test_what_was_issued_verifies() -> None:
    claims, key = await tokens.verify(Keys(), GOOD, NOW)
    assert (claims, key) == (CLAIMS, KEYS[TENANT])


async def test_it_is_a_plain_hs256_jwt() -> None:
    header, payload, _ = GOOD.split(".")
    assert unpart(header)["alg"] == "HS256"
    assert signed(unpart(header), unpart(payload)).count(".") == 2
    await tokens.verify(Keys(), signed(unpart(header), unpart(payload)), NOW)
    assert not unpart(payload).keys() & {"role", "email", "name"}


async def test_it_ends() -> None:
    with pytest.raises(SessionEnded):
        await tokens.verify(Keys(), GOOD, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    "change",
    [
        {"tid": str(OTHER)},
        {"tid": str(new_id())},
        {"iss": "someone"},
        {"aud": "another"},
        {"aud": ["limen-api"]},
        {"sid": "x"},
        {"sub": None},
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": None},
    ],
)
async def test_changed_claims_do_not_verify_even_if_signed(change: dict[str, Any]) -> None:
    header, payload, _ = GOOD.split(".")
    await refused(signed(unpart(header), unpart(payload) | change))


@pytest.mark.parametrize("missing", ["tid", "iss", "aud", "sid", "sub", "exp"])
async def test_missing_claims_do_not_verify(missing: str) -> None:
    header, payload, _ = GOOD.split(".")
    claims = unpart(payload)
    del claims[missing]
    await refused(signed(unpart(header), claims))


@pytest.mark.parametrize("alg", ["none", "None", "HS512", "RS256", ""])
async def test_other_algorithms_do_not_verify(alg: str) -> None:
    header, payload, signature = GOOD.split(".")
    await refused(signed(unpart(header) | {"alg": alg}, unpart(payload)))
    await refused(f"{part(unpart(header) | {'alg': alg})}.{payload}.")
    await refused(f"{part(unpart(header) | {'alg': alg})}.{payload}.{signature}")


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("Aa0-_.=\x00é"))
async def test_a_changed_character_does_not_verify(position: int, character: str) -> None:
    token = GOOD[:position] + character + GOOD[position + 1 :]
    try:
        claims, _ = await tokens.verify(Keys(), token, NOW)
    except Unauthenticated:
        return
    # The last character of base64url carries unused bits; nothing that matters may differ.
    assert claims == CLAIMS


@given(st.text(max_size=80))
async def test_nothing_else_verifies(text: str) -> None:
    await refused(text)
    await refused(f"{text}.{text}.{text}")


async def test_deep_and_long_tokens_are_refused_quietly() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 1000).rstrip(b"=").decode()
    await refused(f"{deep}.{deep}.x")
    await refused("x" * 1_000_000 + ".y.z")


def test_csrf_token_is_of_the_session_and_the_key() -> None:
    one = tokens.csrf_token(KEYS[TENANT], CLAIMS.session_id)
    assert one == tokens.csrf_token(KEYS[TENANT], CLAIMS.session_id)
    assert one != tokens.csrf_token(KEYS[TENANT], new_id())
    assert one != tokens.csrf_token(KEYS[OTHER], CLAIMS.session_id)
    assert len(one) == 43
