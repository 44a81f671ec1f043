"""A suspension shuts the door: the next request, the requests in flight, and the token for good."""

import asyncio
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from limen.control.vault.service.tokens import TokenWish
from limen.control.vault.store import standing
from limen.kernel.principal import SYSTEM, Actor, ActorKind
from limen.wire.keyd import Purpose
from tests.integration.vault.world import ProcessCustody, VaultWorld
from tests.support.postgres import Tenants

ADMIN = Actor(ActorKind.PERSON, None, "192.0.2.1")


@pytest.mark.row("V3")
async def test_a_polled_token_gets_403_right_after_the_commit(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    issued, other = await world.allowed(tenants.a, mount), await world.allowed(tenants.a, mount)
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {"n": 1}})
    answers: list[tuple[float, int]] = []  # when the request began, what it got

    async def poll() -> None:
        while True:
            began = time.monotonic()
            answers.append((began, (await client.get("/secret/data/x")).status_code))
            await asyncio.sleep(0.005)

    poller = asyncio.create_task(poll())
    await asyncio.sleep(0.1)
    await world.suspend(tenants.a, issued.token.subject_id)
    committed = time.monotonic()
    await asyncio.sleep(0.1)
    poller.cancel()
    assert {status for began, status in answers if began < committed - 0.05} == {200}
    after = [status for began, status in answers if began >= committed]
    assert len(after) > 3
    assert set(after) == {403}
    # Somebody else's token is not disturbed.
    assert (await world.client(other.text).get("/secret/data/x")).status_code == 200


@pytest.mark.row("V3")
async def test_lifting_does_not_bring_the_token_back_but_a_new_one_works(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    issued = await world.allowed(tenants.a, mount)
    person = issued.token.subject_id
    await world.client(issued.text).put("/secret/data/x", json={"data": {}})
    await world.suspend(tenants.a, person)
    await world.policy.administrator.lift_person(SYSTEM, tenants.a, person)
    assert (await world.client(issued.text).get("/secret/data/x")).status_code == 403
    again = await world.token(tenants.a, person)
    assert (await world.client(again.text).get("/secret/data/x")).status_code == 200


class SuspendingCustody(ProcessCustody):
    """Runs something while a value is being opened or sealed: the worst moment for a revocation."""

    meanwhile: Any = None

    async def open_value(self, tenant_id: UUID, purpose: Purpose, **place: Any) -> bytes:
        value = await super().open_value(tenant_id, purpose, **place)
        await self._run()
        return value

    async def seal_value(self, tenant_id: UUID, purpose: Purpose, **place: Any) -> bytes:
        await self._run()
        return await super().seal_value(tenant_id, purpose, **place)

    async def _run(self) -> None:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()


async def test_a_read_that_is_overtaken_by_a_suspension_is_refused(world: VaultWorld, tenants: Tenants) -> None:
    custody = SuspendingCustody()
    world.vault.secrets._custody = custody
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {"planted": "value"}})
    custody.meanwhile = lambda: world.suspend(tenants.a, issued.token.subject_id)
    answer = await client.get("/secret/data/x")
    assert answer.status_code == 403
    assert "planted" not in answer.text
    last = (await world.audit(tenants.a, "vault.secret.read"))[-1]
    assert (last["outcome"], last["detail"]["reason"]) == ("denied", "the grant has ended")


async def test_a_write_that_is_overtaken_by_a_suspension_is_undone(world: VaultWorld, tenants: Tenants) -> None:
    custody = SuspendingCustody()
    world.vault.secrets._custody = custody
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {"n": 1}})
    custody.meanwhile = lambda: world.suspend(tenants.a, issued.token.subject_id)
    assert (await client.put("/secret/data/x", json={"data": {"n": 2}})).status_code == 403
    rows = await world.database.query(
        tenants.a, "SELECT max(version) AS newest FROM vault_versions WHERE tenant_id = %s", (tenants.a,)
    )
    assert rows[0]["newest"] == 1
    assert (await world.audit(tenants.a, "vault.secret.write"))[-1]["outcome"] == "denied"


async def test_a_suspension_waits_for_a_write_that_is_about_to_commit(world: VaultWorld, tenants: Tenants) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    await world.client(issued.text).put("/secret/data/x", json={"data": {}})
    (grant,) = await world.database.query(tenants.a, "SELECT id FROM grants WHERE tenant_id = %s", (tenants.a,))
    async with world.database.transaction(tenants.a) as tx:
        assert await standing.hold_grant(tx, grant["id"], world.clock.now())
        suspension = asyncio.create_task(world.suspend(tenants.a, issued.token.subject_id))
        await asyncio.sleep(0.15)
        assert not suspension.done()
    await suspension
    async with world.database.transaction(tenants.a) as tx:
        assert not await standing.hold_grant(tx, grant["id"], world.clock.now())


async def test_revoking_a_grant_denies_the_mount_and_leaves_the_token(world: VaultWorld, tenants: Tenants) -> None:
    mount, spare = await world.mount(tenants.a), await world.mount(tenants.a, "spare")
    issued = await world.allowed(tenants.a, mount)
    await world.policy.policy(tenants.a, "spare", issued.token.subject_id, spare.id, "write", "read")
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {}})
    await client.put("/spare/data/x", json={"data": {}})
    grants = await world.database.query(
        tenants.a, "SELECT id FROM grants WHERE tenant_id = %s AND resource_id = %s", (tenants.a, mount.id)
    )
    await world.policy.administrator.revoke_grant(SYSTEM, tenants.a, grants[0]["id"], "test")
    assert (await client.get("/secret/data/x")).status_code == 403
    assert (await client.get("/spare/data/x")).status_code == 200


@pytest.mark.row("V3")
async def test_narrow_policies_are_narrow(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    writer = world.client((await world.allowed(tenants.a, mount)).text)
    await writer.put("/secret/data/x", json={"data": {"n": 1}})
    expected = {
        "read": {"GET data/x", "GET metadata/x"},
        "write": {"PUT data/x", "PATCH data/x", "POST undelete/x", "POST metadata/x"},
        "list": {"LIST metadata/"},
        "delete": {"POST delete/x", "POST destroy/x", "DELETE data/x", "DELETE metadata/x"},
    }
    everything = sorted(set.union(*expected.values()), key=lambda call: call.startswith("DELETE metadata"))
    for action, allowed in expected.items():
        client = world.client((await world.allowed(tenants.a, mount, action)).text)
        for call in everything:
            method, _, path = call.partition(" ")
            body = {"data": {"n": 1}, "versions": [1]}
            headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
            await writer.put("/secret/data/x", json={"data": {"n": 1}})
            answer = await client.request(
                method, f"/secret/{path}", json=None if method in ("GET", "LIST") else body, headers=headers
            )
            assert (answer.status_code != 403) is (call in allowed), (action, call, answer.status_code)


@pytest.mark.row("V3")
async def test_expiry_renewal_and_revoke_self(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    person = (await world.allowed(tenants.a, mount)).token.subject_id
    issued = await world.token(tenants.a, person, TokenWish(ttl=60, max_ttl=100))
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {}})
    world.clock.advance(59)
    assert (await client.get("/secret/data/x")).status_code == 200
    renewed = (await client.post("/auth/token/renew-self", json={"increment": "1h"})).json()
    assert renewed["auth"]["lease_duration"] == 41
    assert renewed["warnings"]
    world.clock.advance(40)
    assert (await client.get("/secret/data/x")).status_code == 200
    world.clock.advance(2)
    assert (await client.get("/secret/data/x")).status_code == 403
    assert (await client.post("/auth/token/renew-self")).status_code == 403

    fixed = await world.token(tenants.a, person, TokenWish(renewable=False))
    assert (await world.client(fixed.text).post("/auth/token/renew-self")).status_code == 400
    assert (await world.client(fixed.text).post("/auth/token/revoke-self")).status_code == 204
    assert (await world.client(fixed.text).get("/auth/token/lookup-self")).status_code == 403
    assert (await world.client(fixed.text).post("/auth/token/revoke-self")).status_code == 403


async def test_revoking_a_token_ends_its_grants(world: VaultWorld, tenants: Tenants) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    client = world.client(issued.text)
    await client.put("/secret/data/x", json={"data": {}})
    await client.get("/secret/data/x")
    await client.post("/auth/token/revoke-self")
    rows = await world.database.query(
        tenants.a,
        "SELECT state, ended_reason FROM grants WHERE tenant_id = %s AND credential_id = %s",
        (tenants.a, issued.token.id),
    )
    assert {(row["state"], row["ended_reason"]) for row in rows} == {("revoked", "credential ended")}


async def test_a_workload_has_tokens_until_it_is_removed_or_suspended(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    workload = await world.vault.workloads.create(tenants.a, "ci", ADMIN)
    world.policy.directory.kinds[tenants.a, workload.id] = "workload"
    await world.policy.policy(tenants.a, "ci", workload.id, mount.id, "read", "write")
    tokens = [await world.vault.tokens.issue_to_workload(tenants.a, workload.id, ADMIN, TokenWish()) for _ in (1, 2)]
    client = world.client(tokens[0].text)
    assert (await client.put("/secret/data/x", json={"data": {}})).status_code == 200
    assert (await client.get("/auth/token/lookup-self")).json()["data"]["policies"] == ["workload"]
    await world.suspend(tenants.a, workload.id)
    assert (await client.get("/secret/data/x")).status_code == 403
    await world.policy.administrator.lift_person(SYSTEM, tenants.a, workload.id)
    token = await world.vault.tokens.issue_to_workload(tenants.a, workload.id, ADMIN, TokenWish())
    assert (await world.client(token.text).get("/secret/data/x")).status_code == 200
    await world.vault.workloads.remove(tenants.a, workload.id, ADMIN)
    assert (await world.client(token.text).get("/secret/data/x")).status_code == 403


async def test_a_removed_person_has_no_token(world: VaultWorld, tenants: Tenants) -> None:
    issued = await world.allowed(tenants.a, await world.mount(tenants.a))
    async with world.database.transaction(tenants.a) as tx:
        await tx.execute(
            "UPDATE people SET state = 'removed', removed_at = %s, email_tag = NULL WHERE tenant_id = %s AND id = %s",
            (world.clock.now() + timedelta(), tenants.a, issued.token.subject_id),
        )
    assert (await world.client(issued.text).get("/auth/token/lookup-self")).status_code == 403
