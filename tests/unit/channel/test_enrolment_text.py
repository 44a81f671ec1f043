"""Token texts and certificate names: every good one reads back, every other is refused in plain words."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.kernel.errors import Malformed
from limen.wire.agent import AgentKind
from limen.wire.enrolment import (
    CertifiedAgent,
    EnrolmentToken,
    agent_uri,
    parse_agent_uri,
    parse_token,
    renew_statement,
)

tenants = st.none() | st.uuids()
kinds = st.sampled_from(list(AgentKind))
keys = st.binary(min_size=32, max_size=32)
tokens = st.builds(
    EnrolmentToken,
    tenant_id=tenants,
    token_id=st.uuids(),
    kind=kinds,
    secret=keys,
    server=st.from_regex(r"https://[a-z0-9.]{1,40}(:[0-9]{1,5})?", fullmatch=True),
    authorities_sha256=keys,
)


@given(tokens)
def test_tokens_read_back(token: EnrolmentToken) -> None:
    text = token.text()
    assert text.startswith("le1.")
    assert parse_token(f"  {text}\n") == token
    assert token.secret.hex() not in text


@given(tokens, st.data())
def test_damaged_tokens_are_refused_or_different(token: EnrolmentToken, data: st.DataObject) -> None:
    """A token cut short or with a changed character never reads as the same token."""
    text = token.text()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from("Az09-_.!é ")) + text[at + 1 :]
    for damaged in (text[:at], changed):
        if damaged.strip() == text:
            continue
        try:
            read = parse_token(damaged)
        except Malformed:
            continue
        assert read != token


@pytest.mark.parametrize("text", ["", "le1.", "le2.AAAA", "le1.!!!", "le1." + "A" * 5000, "lv1.a.b.c", "le1.e30"])
def test_not_tokens(text: str) -> None:
    with pytest.raises(Malformed, match="token") as caught:
        parse_token(text)
    assert "copy the whole token" in caught.value.fix


@given(st.text(max_size=60))
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(Malformed):
        parse_token(text)


def test_a_token_never_leads_to_plain_http() -> None:
    token = EnrolmentToken(
        tenant_id=None,
        token_id=UUID(int=1),
        kind=AgentKind.SFTP,
        secret=bytes(32),
        server="http://limen.test",
        authorities_sha256=bytes(32),
    )
    with pytest.raises(Malformed, match="not https"):
        parse_token(token.text())


@given(tenants, st.uuids(), kinds)
def test_names_in_certificates_read_back(tenant_id: UUID | None, agent_id: UUID, kind: AgentKind) -> None:
    agent = CertifiedAgent(tenant_id=tenant_id, agent_id=agent_id, kind=kind)
    assert parse_agent_uri(agent_uri(agent)) == agent


ONE = UUID(int=1)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "limen://",
        f"limen://{ONE}/gateway",
        f"limen://{ONE}/gateway/{ONE}/x",
        f"limen://{ONE.hex}/gateway/{ONE}",  # a second spelling
        f"limen://{ONE}/gateway/{{{ONE}}}",
        f"limen://{ONE}/Gateway/{ONE}",
        f"limen:///gateway/{ONE}",
        f"https://{ONE}/gateway/{ONE}",
        f"limen://None/gateway/{ONE}",
    ],
)
def test_other_names_are_nobody(uri: str) -> None:
    with pytest.raises(Malformed):
        parse_agent_uri(uri)


def test_statements_differ_for_other_times_and_agents() -> None:
    statements = {renew_statement(UUID(int=n), now) for n in (1, 2) for now in (1.0, 2.0)}
    assert len(statements) == 4
