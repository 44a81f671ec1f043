"""The sealer on a real PostgreSQL: several at once, writers that commit late, crashes, and the file outside."""

import asyncio
import contextlib
import json
import os
import random
import stat
from pathlib import Path

import pytest

from limen.control.audit import service
from limen.control.audit.checkpoint_file import CheckpointFile
from limen.control.audit.errors import ForkedTrail, NotSealed
from limen.control.audit.sealer import Sealer
from limen.control.audit.tasks import SealingJob, run, seal_and_follow
from limen.db.database import Database, SystemRole
from limen.kernel.errors import Unavailable
from tests.integration.audit.parts import MemorySigner, Room, count, sign_in
from tests.support.postgres import Tenants
from tests.unit.audit.verifier import check

pytestmark = pytest.mark.row("O2")


async def pending(database: Database) -> int:
    async with database.system(SystemRole.SEALER) as tx:
        rows = await tx.fetch("SELECT tenant_id FROM audit_pending")
    return len(rows)


async def verified(room: Room, tenant: object, outside: Path | None = None) -> dict[str, object]:
    export = await room.export(tenant)  # type: ignore[arg-type]
    if outside is not None:
        await CheckpointFile(outside).follow(room.database)
    text = outside.read_bytes() if outside else None
    return check(export, await room.signer.public_key(), room.directory, outside=text)


async def test_nothing_pending_makes_no_checkpoint(room: Room, tenants: Tenants) -> None:
    assert await room.sealer.seal_once() is None
    await room.record(tenants.a, sign_in())
    first = await room.sealer.seal_once()
    assert first is not None
    assert (first.checkpoint.number, first.checkpoint.size) == (1, 1)
    assert await room.sealer.seal_all() == 0
    assert await pending(room.database) == 0


async def test_a_record_that_commits_late_is_sealed_later(room: Room, tenants: Tenants) -> None:
    async with room.database.transaction(tenants.a) as tx:
        late = await service.record(tx, sign_in(), room.clock.now())
        early = (await room.record(tenants.a, sign_in()))[0]
        assert await room.sealer.seal_all() == 1
    lines = await room.export_lines(tenants.a)
    order = [line["id"] for line in lines if line["type"] == "record"]
    assert order[:2] == [str(early), str(late)], "the late one is older, but stands under the second seal"
    assert (await verified(room, tenants.a))["ok"]


async def test_many_sealers_and_many_writers(room: Room, tenants: Tenants) -> None:
    """Every record under exactly one seal, chains without gaps, while four sealers and eight writers race."""
    writing = True
    rolled_back = 0

    async def write(seed: int) -> int:
        nonlocal rolled_back
        dice, written = random.Random(seed), 0
        for number in range(12):
            tenant = tenants.a if dice.random() < 0.6 else tenants.b
            batch = dice.randint(1, 6)
            with contextlib.suppress(KeyError):
                async with room.database.transaction(tenant) as tx:
                    for _ in range(batch):
                        await service.record(tx, sign_in(number), room.clock.now())
                        await asyncio.sleep(dice.random() / 500)
                    if dice.random() < 0.2:
                        rolled_back += batch
                        raise KeyError("roll back")
                written += batch
        return written

    async def keep_sealing() -> None:
        sealer = Sealer(room.database, room.signer, room.clock)
        while writing:
            await sealer.seal_once()
            await asyncio.sleep(0.002)

    sealers = [asyncio.create_task(keep_sealing()) for _ in range(4)]
    written = sum(await asyncio.gather(*(write(seed) for seed in range(6))))
    writing = False
    await asyncio.gather(*sealers)
    await room.sealer.seal_all()
    assert rolled_back
    outside = room.directory / "checkpoints.jsonl"
    results = [await verified(room, tenant, outside) for tenant in tenants]
    assert all(result["ok"] for result in results), results
    # Each export adds a record of its own.
    assert sum(int(str(result["records"])) for result in results) == written + 2
    assert await pending(room.database) == 0
    async with room.database.system(SystemRole.SEALER) as tx:
        numbers = [r["number"] for r in await tx.fetch("SELECT number FROM audit_checkpoints ORDER BY number")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 4


async def test_a_big_backlog_goes_into_several_seals(
    room: Room, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.control.audit.rules.chain.MAX_SEAL_LEAVES", 10)
    monkeypatch.setattr("limen.control.audit.sealer.MAX_STEP_LEAVES", 16)
    await room.record(tenants.a, *(sign_in(n) for n in range(35)))
    await room.record(tenants.b, *(sign_in(n) for n in range(5)))
    assert await room.sealer.seal_all() == 4
    assert (await verified(room, tenants.a))["ok"]
    assert (await verified(room, tenants.b))["records"] == 6


async def test_a_signer_that_fails_leaves_everything_pending(room: Room, tenants: Tenants) -> None:
    await room.record(tenants.a, sign_in(), sign_in())
    room.signer.broken = True
    with pytest.raises(Unavailable):
        await room.sealer.seal_once()
    assert await pending(room.database) == 2
    assert await count(room.database, tenants.a, "audit_seals") == 0
    room.signer.broken = False
    assert await room.sealer.seal_all() == 1


async def test_a_signature_that_does_not_verify_never_enters_the_chain(room: Room, tenants: Tenants) -> None:
    class TwoKeys(MemorySigner):
        async def public_key(self) -> bytes:
            return await MemorySigner().public_key()

    await room.record(tenants.a, sign_in())
    with pytest.raises(NotSealed):
        await Sealer(room.database, TwoKeys(), room.clock).seal_once()
    assert await pending(room.database) == 1


class Crash(BaseException):
    """The process dies here."""


async def test_a_crash_before_the_commit_changes_nothing(room: Room, tenants: Tenants) -> None:
    class Dying(MemorySigner):
        async def sign(self, message: bytes) -> bytes:
            raise Crash

    await room.record(tenants.a, sign_in())
    with pytest.raises(Crash):
        await Sealer(room.database, Dying(), room.clock).seal_once()
    assert await pending(room.database) == 1
    signed = await room.sealer.seal_once()
    assert signed is not None
    assert signed.checkpoint.number == 1


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["signed"]["number"] for line in path.read_bytes().splitlines()]


def job(room: Room) -> SealingJob:
    return SealingJob(room.database, room.sealer, CheckpointFile(room.directory / "checkpoints.jsonl"), interval=0.01)


async def test_the_file_follows_the_chain(room: Room, tenants: Tenants) -> None:
    path = room.directory / "checkpoints.jsonl"
    for _ in range(3):
        await room.record(tenants.a, sign_in())
        assert await seal_and_follow(job(room)) == 1
    assert numbers(path) == [1, 2, 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~_umask()
    assert (await verified(room, tenants.a, path))["ok"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_a_crash_between_commit_and_file_is_made_up_for(room: Room, tenants: Tenants) -> None:
    path = room.directory / "checkpoints.jsonl"
    await room.record(tenants.a, sign_in())
    await room.sealer.seal_all()  # committed, and the process died before it wrote the file
    await room.record(tenants.a, sign_in())
    await seal_and_follow(job(room))
    assert numbers(path) == [1, 2]


async def test_a_torn_line_is_written_again(room: Room, tenants: Tenants) -> None:
    path = room.directory / "checkpoints.jsonl"
    for _ in range(2):
        await room.record(tenants.a, sign_in())
        await seal_and_follow(job(room))
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 100, whole.index(b"\n"), 5, 0):
        path.write_bytes(whole[:cut])
        await CheckpointFile(path).follow(room.database)
        assert path.read_bytes() == whole


async def test_a_long_catch_up(room: Room, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limen.control.audit.checkpoint_file._PAGE", 2)
    monkeypatch.setattr("limen.control.audit.checkpoint_file._TAIL_BYTES", 64)
    path = room.directory / "checkpoints.jsonl"
    for _ in range(5):
        await room.record(tenants.a, sign_in())
        await room.sealer.seal_all()
    followers = [CheckpointFile(path) for _ in range(3)]
    await asyncio.gather(*(follower.follow(room.database) for follower in followers))
    assert numbers(path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("spoil", ["edited", "ahead", "rubbish"])
async def test_a_file_that_contradicts_the_database_stops_the_sealer(room: Room, tenants: Tenants, spoil: str) -> None:
    path = room.directory / "checkpoints.jsonl"
    await room.record(tenants.a, sign_in())
    await seal_and_follow(job(room))
    line = json.loads(path.read_bytes())
    if spoil == "edited":
        line["signed"]["root"] = "ab" * 32
    elif spoil == "ahead":
        line["signed"]["number"] = 9
    path.write_bytes(b"rubbish\n" if spoil == "rubbish" else json.dumps(line).encode() + b"\n")
    before = path.read_bytes()
    await room.record(tenants.a, sign_in())
    with pytest.raises(ForkedTrail) as caught:
        await seal_and_follow(job(room))
    assert caught.value.fix
    assert await pending(room.database) == 1, "nothing is sealed on top of a contradiction"
    assert path.read_bytes() == before


async def test_an_unwritable_file_is_said_plainly(room: Room, tenants: Tenants) -> None:
    with pytest.raises(Unavailable, match=r"cannot be written: No such file"):
        await CheckpointFile(room.directory / "none" / "x").follow(room.database)


async def test_the_job_survives_an_outage(room: Room, tenants: Tenants) -> None:
    await room.record(tenants.a, sign_in())
    room.signer.broken = True
    task = asyncio.create_task(run(job(room)))
    async with asyncio.timeout(20):
        while not (room.directory / "checkpoints.jsonl").exists():
            await asyncio.sleep(0.005)
        room.signer.broken = False
        while await pending(room.database):
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
