"""Many writers and readers at once: versions are never lost, doubled or skipped."""

import asyncio

import pytest

from tests.integration.vault.world import VaultWorld
from tests.support.postgres import Tenants


@pytest.mark.row("V1")
async def test_writers_of_one_new_secret_each_get_a_version_of_their_own(world: VaultWorld, tenants: Tenants) -> None:
    mount = await world.mount(tenants.a)
    clients = [world.client((await world.allowed(tenants.a, mount)).text) for _ in range(4)]

    async def write(number: int) -> int:
        answer = await clients[number % 4].put("/secret/data/x", json={"data": {"n": number}})
        assert answer.status_code == 200
        return int(answer.json()["data"]["version"])

    numbers = await asyncio.gather(*(write(number) for number in range(10)))
    assert sorted(numbers) == list(range(1, 11))
    stored = [(await clients[0].get(f"/secret/data/x?version={number}")).json() for number in range(1, 11)]
    assert [answer["data"]["data"]["n"] for answer in stored] == [numbers.index(number) for number in range(1, 11)]


@pytest.mark.row("V1")
async def test_of_many_check_and_sets_one_wins(world: VaultWorld, tenants: Tenants) -> None:
    client = world.client((await world.allowed(tenants.a, await world.mount(tenants.a))).text)
    for version in (0, 1):
        body = {"data": {}, "options": {"cas": version}}
        answers = await asyncio.gather(*(client.put("/secret/data/x", json=body) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7


async def test_patches_of_different_keys_are_all_kept(world: VaultWorld, tenants: Tenants) -> None:
    client = world.client((await world.allowed(tenants.a, await world.mount(tenants.a))).text)
    await client.put("/secret/data/x", json={"data": {}})
    headers = {"Content-Type": "application/merge-patch+json"}
    await asyncio.gather(
        *(client.patch("/secret/data/x", json={"data": {f"k{n}": n}}, headers=headers) for n in range(8))
    )
    assert (await client.get("/secret/data/x")).json()["data"]["data"] == {f"k{n}": n for n in range(8)}


async def test_a_cancelled_read_disturbs_nobody(world: VaultWorld, tenants: Tenants) -> None:
    client = world.client((await world.allowed(tenants.a, await world.mount(tenants.a))).text)
    await client.put("/secret/data/x", json={"data": {}})
    reads = [asyncio.create_task(client.get("/secret/data/x")) for _ in range(30)]
    await asyncio.sleep(0.01)
    for read in reads[::3]:
        read.cancel()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    kept = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(kept) >= 20
    assert {answer.status_code for answer in kept} == {200}
