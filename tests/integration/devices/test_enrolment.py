"""Joining with a one-time token: over real TLS, with keyd and PostgreSQL."""

import asyncio
import base64
import os
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from limen.control.devices.rules import MAX_TUNNEL_HOST
from limen.control.devices.service.certificates import peer_certificate
from limen.db.database import SystemRole
from limen.edge.channel import BadIdentity, Identity, enrol, load_identity
from limen.edge.channel.enrolment import renew_without_channel
from limen.edge.channel.errors import AgentRefused
from limen.kernel.clock import SystemClock
from limen.kernel.errors import Conflict, Denied, LimenError, Malformed, NotFound, Unavailable
from limen.kernel.principal import Role
from limen.wire.agent import AgentKind
from limen.wire.enrolment import AUTHORITIES_PATH, EnrolRequest, enrol_statement, parse_token
from tests.support.agent_plane import MovableClock, Plane
from tests.support.postgres import Tenants

GATEWAY, CLIENT, SFTP = AgentKind.GATEWAY, AgentKind.CLIENT, AgentKind.SFTP


async def agents_of(plane: Plane, tenant_id: UUID) -> int:
    rows = await plane.database.query(tenant_id, "SELECT count(*) AS n FROM agents WHERE tenant_id = %s", [tenant_id])
    return int(rows[0]["n"])


@pytest.mark.row("T5")
async def test_a_gateway_joins(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a, name="lab gateway")
    identity = await enrol(token, tmp_path / "state", GATEWAY)
    assert (identity.tenant_id, identity.kind, identity.agent.name) == (tenants.a, GATEWAY, "lab gateway")
    assert identity.agent.channel_url == plane.channel_url
    assert identity.agent.tunnel_address == "100.64.0.1/11"
    loaded = load_identity(tmp_path / "state")
    assert loaded.agent == identity.agent
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert modes == dict.fromkeys(["agent.json", "identity.key", "sealing.key", "cert.pem", "ca.pem"], 0o600)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    leaf = x509.load_pem_x509_certificate(identity.certificate_path.read_bytes())
    peer = peer_certificate(leaf.public_bytes(Encoding.DER))
    agent = await plane.registry.find(tenants.a, identity.agent_id)
    assert agent is not None
    assert (peer.tenant_id, peer.agent_id, peer.kind) == (tenants.a, agent.id, GATEWAY)
    assert peer.spki_sha256 == agent.spki_sha256
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=2)
    assert await plane.audit_actions(tenants.a) == [
        ("devices.token.create", "ok"),
        ("devices.agent.enrol", "ok"),
    ]


async def test_a_platform_agent_joins(plane: Plane, tmp_path: Path) -> None:
    made = await plane.enrolment.create_platform_token(await plane.operator(), SFTP, "files")
    identity = await enrol(made.text, tmp_path / "state", SFTP)
    assert identity.tenant_id is None
    assert identity.agent.tunnel_address == ""
    with pytest.raises(Conflict, match="used already"):
        await enrol(made.text, tmp_path / "again", SFTP)


async def test_a_token_works_once(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    await enrol(token, tmp_path / "one", GATEWAY)
    with pytest.raises(Conflict, match="used already"):
        await enrol(token, tmp_path / "two", GATEWAY)
    assert list((tmp_path / "two").iterdir()) == []
    assert ("devices.agent.enrol", "denied") in await plane.audit_actions(tenants.a)


async def test_twenty_race_for_one_token(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    results = await asyncio.gather(
        *(enrol(token, tmp_path / str(n), GATEWAY) for n in range(20)), return_exceptions=True
    )
    won = [r for r in results if isinstance(r, Identity)]
    lost = [r for r in results if isinstance(r, LimenError)]
    assert len(won) == 1
    assert len(lost) == 19
    assert {type(error) for error in lost} <= {Conflict, Unavailable}
    assert sum(isinstance(error, Conflict) for error in lost) >= 15
    assert await agents_of(plane, tenants.a) == 1


async def test_concurrent_enrolments_take_different_addresses(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    async def join(tenant_id: UUID, n: int) -> Identity:
        return await enrol(await plane.token(tenant_id), tmp_path / f"{tenant_id}-{n}", GATEWAY)

    joined = await asyncio.gather(*(join(tenant, n) for tenant in tenants for n in range(8)))
    for tenant in tenants:
        addresses = {i.agent.tunnel_address for i in joined if i.tenant_id == tenant}
        assert addresses == {f"100.64.0.{n}/11" for n in range(1, 9)}


async def test_a_used_up_network_gives_free_addresses_again(plane: Plane, tenants: Tenants) -> None:
    first, second, third = [await plane.agent(tenants.a) for _ in range(3)]
    owner = await plane.person(tenants.a)
    await plane.registry.remove_agent(owner, second.agent_id)
    await plane.database.query(
        tenants.a,
        "UPDATE tunnel_pools SET last_host = %s WHERE tenant_id = %s",
        [MAX_TUNNEL_HOST - 1, tenants.a],
    )
    last = await plane.agent(tenants.a)
    assert last.agent.tunnel_address == "100.95.255.254/11"
    reused = await plane.agent(tenants.a)
    assert reused.agent.tunnel_address == second.agent.tunnel_address
    fresh = await plane.agent(tenants.a)
    assert fresh.agent.tunnel_address == "100.64.0.4/11"
    assert first.agent.tunnel_address != third.agent.tunnel_address


def altered(token: str, **changes: object) -> str:
    return msgspec.structs.replace(parse_token(token), **changes).text()


async def test_wrong_secret_looks_like_an_unknown_token(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    wrong = [
        altered(token, secret=os.urandom(32)),
        altered(token, token_id=UUID(int=5)),
        altered(token, tenant_id=None),
    ]
    seen = set()
    for text in wrong:
        with pytest.raises(NotFound) as caught:
            await enrol(text, tmp_path / "state", GATEWAY)
        seen.add((caught.value.message, caught.value.fix))
    assert len(seen) == 1
    await enrol(token, tmp_path / "state", GATEWAY)


async def test_an_expired_token(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    plane.clock.offset = timedelta(minutes=15, seconds=1)
    with pytest.raises(Denied, match="expired"):
        await enrol(token, tmp_path / "state", GATEWAY, clock=plane.clock)
    assert await agents_of(plane, tenants.a) == 0


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_an_hour_off_is_named_and_costs_nothing(
    plane: Plane, tenants: Tenants, tmp_path: Path, hours: int
) -> None:
    token = await plane.token(tenants.a)
    wrong = MovableClock()
    wrong.offset = timedelta(hours=hours)
    with pytest.raises(Malformed, match="3600 s") as caught:
        await enrol(token, tmp_path / "state", GATEWAY, clock=wrong)
    assert "set the clock" in caught.value.fix
    await enrol(token, tmp_path / "state", GATEWAY)


async def test_a_token_of_another_kind(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a, GATEWAY)
    with pytest.raises(Malformed, match="for a gateway agent"):
        await enrol(token, tmp_path / "state", CLIENT)
    with pytest.raises(NotFound):  # the text was altered; the record decides
        await enrol(altered(token, kind=CLIENT), tmp_path / "state", CLIENT)
    assert await agents_of(plane, tenants.a) == 0


@pytest.mark.row("T5")
async def test_a_server_with_other_authorities_is_not_trusted(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    with pytest.raises(Denied, match="not the server that made this token"):
        await enrol(altered(token, authorities_sha256=bytes(32)), tmp_path / "state", GATEWAY)
    assert list((tmp_path / "state").iterdir()) == []
    await enrol(token, tmp_path / "state", GATEWAY)  # the token was not shown to that server


async def test_nobody_there(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    token = await plane.token(tenants.a)
    with pytest.raises(Unavailable, match="cannot reach"):
        await enrol(token, tmp_path / "state", GATEWAY, server="https://127.0.0.1:1")


async def test_without_keyd_nothing_happens(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    """Nothing half-done: the token is still good, no agent is on record."""
    token = await plane.token(tenants.a)
    good = plane.enrolment._authority

    class Silent:
        async def enrol_agent(self, *_: object) -> object:
            raise Unavailable("the key custody process does not answer")

        async def remove_agent(self, _: UUID) -> None:
            raise Unavailable("the key custody process does not answer")

    plane.enrolment._authority = Silent()  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="key custody"):
        await enrol(token, tmp_path / "state", GATEWAY)
    assert await agents_of(plane, tenants.a) == 0
    plane.enrolment._authority = good
    identity = await enrol(token, tmp_path / "state", GATEWAY)
    assert identity.agent.tunnel_address == "100.64.0.1/11"


async def test_a_key_enrols_once(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    """A copied state directory cannot become a second agent."""
    identity = await plane.agent(tenants.a)
    token = await plane.token(tenants.a)
    request = EnrolRequest(
        token=token,
        kind=GATEWAY,
        identity_key=identity.public_key,
        sealing_key=b"\x09" + bytes(31),
        proof=identity.sign(enrol_statement(parse_token(token).token_id, b"\x09" + bytes(31))),
        software="",
        now=plane.clock.now().timestamp(),
    )
    with pytest.raises(Malformed, match="enrolled already"):
        await plane.enrolment.enrol(request, "")


async def test_keys_must_be_proved(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    token = await plane.token(tenants.a)
    good = enrol_statement(parse_token(token).token_id, b"\x09" + bytes(31))
    request = EnrolRequest(
        token=token,
        kind=GATEWAY,
        identity_key=identity.public_key,
        sealing_key=b"\x0a" + bytes(31),  # not the one that was signed
        proof=identity.sign(good),
        software="",
        now=plane.clock.now().timestamp(),
    )
    with pytest.raises(Malformed, match="did not sign"):
        await plane.enrolment.enrol(request, "")
    with pytest.raises(Malformed, match="cannot be read"):
        await plane.enrolment.enrol(msgspec.structs.replace(request, identity_key=b"\x30\x00"), "")
    with pytest.raises(Malformed, match="X25519"):
        await plane.enrolment.enrol(msgspec.structs.replace(request, sealing_key=bytes(32)), "")


async def test_a_state_directory_is_not_overwritten(plane: Plane, tenants: Tenants, tmp_path: Path) -> None:
    await enrol(await plane.token(tenants.a), tmp_path / "state", GATEWAY)
    with pytest.raises(BadIdentity, match="already holds"):
        await enrol(await plane.token(tenants.a), tmp_path / "state", GATEWAY)


# --- renewal without a channel ----------------------------------------------------------------------------


async def test_a_certificate_that_ran_out_renews_by_signature(plane: Plane, tenants: Tenants) -> None:
    identity = await plane.agent(tenants.a)
    before = identity.certificate_path.read_bytes()
    pem = await renew_without_channel(identity, SystemClock())
    identity.replace_certificate(pem)
    assert identity.certificate_path.read_bytes() != before
    assert ("devices.certificate.renew", "ok") in await plane.audit_actions(tenants.a)


async def test_removed_agents_and_foreign_keys_do_not_renew(plane: Plane, tenants: Tenants) -> None:
    identity, other = await plane.agent(tenants.a), await plane.agent(tenants.b)
    stolen = replace(identity, key=other.key)
    with pytest.raises(AgentRefused, match="not enrolled"):
        await renew_without_channel(stolen, SystemClock())
    await plane.registry.remove_agent(await plane.person(tenants.a), identity.agent_id)
    with pytest.raises(AgentRefused, match="removed"):
        await renew_without_channel(identity, SystemClock())
    wrong = MovableClock()
    wrong.offset = timedelta(hours=1)
    with pytest.raises(AgentRefused, match="3600 s"):
        await renew_without_channel(other, wrong)


# --- over HTTP --------------------------------------------------------------------------------------------


async def test_routes_and_permissions(plane: Plane, tenants: Tenants) -> None:
    member = await plane.person(tenants.a, Role.MEMBER)
    owner = await plane.person(tenants.a, Role.OWNER)
    operator = await plane.operator()
    gateway, client = {"kind": "gateway", "name": "g"}, {"kind": "client", "name": "laptop"}
    async with plane.client() as nobody, plane.client(member) as m, plane.client(owner) as o:
        assert (await nobody.post("/api/v1/agents/tokens", json=client)).status_code == 401
        assert (await m.post("/api/v1/agents/tokens", json=gateway)).status_code == 403
        made = await m.post("/api/v1/agents/tokens", json=client)
        assert made.status_code == 201
        assert made.json()["token"].startswith("le1.")
        assert (await o.post("/api/v1/agents/tokens", json=gateway)).status_code == 201
        assert (await o.post("/api/v1/agents/tokens", json={"kind": "sftp", "name": "x"})).status_code == 400
        platform = {"kind": "sftp", "name": "files"}
        assert (await o.post("/api/v1/platform/agents/tokens", json=platform)).status_code == 403
        device = await enrol(made.json()["token"], plane.directory / "laptop", CLIENT)
        await plane.agent(tenants.a)
        assert [a["name"] for a in (await m.get("/api/v1/agents")).json()["agents"]] == ["laptop"]
        assert len((await o.get("/api/v1/agents")).json()["agents"]) == 2
        entry = (await m.get("/api/v1/agents")).json()["agents"][0]
        assert entry["person_id"] == str(member.person_id)
        assert entry["connected"] is False
        other = await plane.agent(tenants.a)
        assert (await m.delete(f"/api/v1/agents/{other.agent_id}")).status_code == 404
        assert (await m.delete(f"/api/v1/agents/{device.agent_id}")).status_code == 204
        assert (await m.delete(f"/api/v1/agents/{device.agent_id}")).status_code == 404
        assert (await o.delete(f"/api/v1/agents/{other.agent_id}")).status_code == 204
    async with plane.client(operator) as p:
        assert (await p.post("/api/v1/platform/agents/tokens", json=platform)).status_code == 201
        assert (await p.get("/api/v1/agents")).status_code == 403
        files = await plane.agent(None, SFTP)
        assert [a["id"] for a in (await p.get("/api/v1/platform/agents")).json()["agents"]] == [str(files.agent_id)]
        assert (await p.delete(f"/api/v1/platform/agents/{files.agent_id}")).status_code == 204
        assert (await p.get("/api/v1/platform/agents")).json()["agents"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"token": 5}',
        b'{"token":"le1.AA","kind":"gateway","identity_key":"!","sealing_key":"","proof":"","software":"","now":1}',
        b'{"token":"le1.AA","kind":"gateway","identity_key":"","sealing_key":"","proof":"","software":"","now":1e400}',
        b'{"token":"' + b"A" * 5000 + b'"}',
    ],
)
async def test_malformed_enrolments(plane: Plane, body: bytes) -> None:
    async with plane.client() as nobody:
        answer = await nobody.post("/api/v1/agents/enrol", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["detail"]


async def test_authorities_are_public(plane: Plane) -> None:
    async with plane.client() as nobody:
        answer = await nobody.get(AUTHORITIES_PATH)
        assert answer.content == plane.authorities.server_ca_pem


@pytest.mark.row("T5")
async def test_nothing_older_than_tls_13_and_nothing_plain(plane: Plane) -> None:
    old = ssl.create_default_context(cadata=plane.authorities.server_ca_pem.decode())
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient(verify=old, trust_env=False).get(plane.url + AUTHORITIES_PATH)
    with pytest.raises(httpx.HTTPError):
        await httpx.AsyncClient(trust_env=False).get(plane.url.replace("https:", "http:") + AUTHORITIES_PATH)


async def test_the_database_holds_no_secret_and_no_address(plane: Plane, tenants: Tenants) -> None:
    owner = await plane.person(tenants.a)
    made = await plane.enrolment.create_enrolment_token(owner, GATEWAY, "one")
    secret = parse_token(made.text).secret
    await enrol(made.text, plane.directory / "g", GATEWAY)
    for table in ("enrolment_tokens", "agents", "tunnel_pools"):
        rows = await plane.database.query(
            tenants.a,
            f"SELECT row_to_json(t)::text AS j FROM {table} t WHERE tenant_id = %s",
            [tenants.a],
        )
        for row in rows:
            assert secret.hex() not in row["j"]
            assert base64.b64encode(secret).decode() not in row["j"]
            assert "100.64." not in row["j"]
    async with plane.database.system(SystemRole.PLATFORM) as system:
        assert await system.fetch("SELECT id FROM platform_agents") == []
