"""Leases: kept, renewed in time, shared, and never used after their end."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from limen.control.custody.errors import LeaseOver
from limen.control.custody.service import (
    RENEW_BEFORE_SECONDS,
    CustodyFieldCipher,
    KeydClient,
)
from limen.crypto.aead import new_key, new_key_id
from limen.crypto.errors import Unreadable
from limen.db.ports import FieldCipher
from limen.kernel.errors import Conflict, Denied, LimenError, NotFound, Unavailable
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose

TENANT, OTHER, ROW = uuid4(), uuid4(), uuid4()
LEASE = 300.0


class Keyd:
    """Stands where the socket would: answers leases, can be down, slow, or say anything."""

    def __init__(self) -> None:
        self.keys: dict[tuple[UUID, Purpose], list[wire.FormerKey]] = {}
        self.asked: list[wire.Request] = []
        self.down = False
        self.answer: wire.Reply | None = None

    async def ask(self, request: wire.Request) -> wire.Reply:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("down")
        if self.answer is not None:
            return self.answer
        assert isinstance(request, wire.LeaseDataKey)
        chain = self.keys.setdefault((request.tenant_id, request.purpose), [fresh()])
        return wire.DataKey(key_id=chain[-1].key_id, key=chain[-1].key, lease_seconds=LEASE, former=tuple(chain[:-1]))

    async def close(self) -> None:
        return None


def fresh() -> wire.FormerKey:
    return wire.FormerKey(key_id=new_key_id(), key=new_key())


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def keyd() -> Keyd:
    return Keyd()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(keyd: Keyd) -> KeydClient:
    client = KeydClient(Path("/nonexistent"))
    client._channel = keyd  # type: ignore[assignment]
    return client


@pytest.fixture
def cipher(client: KeydClient, clock: Clock) -> CustodyFieldCipher:
    return CustodyFieldCipher(client, clock=clock)


async def test_it_is_a_field_cipher(cipher: CustodyFieldCipher) -> None:
    port: FieldCipher = cipher
    tenant = await port.for_tenant(TENANT)
    blob = tenant.seal("people", "email", ROW, b"ada@example.org")
    assert tenant.open("people", "email", ROW, blob) == b"ada@example.org"
    assert tenant.open("people", "email", ROW, memoryview(blob)) == b"ada@example.org"  # type: ignore[arg-type]


@pytest.mark.row("T3")
async def test_a_value_opens_only_in_its_cell_of_its_tenant(cipher: CustodyFieldCipher) -> None:
    mine, theirs = await cipher.for_tenant(TENANT), await cipher.for_tenant(OTHER)
    blob = mine.seal("people", "email", ROW, b"x")
    for tenant, table, column, row in (
        (theirs, "people", "email", ROW),
        (mine, "groups", "email", ROW),
        (mine, "people", "name", ROW),
        (mine, "people", "email", uuid4()),
    ):
        with pytest.raises(Unreadable):
            tenant.open(table, column, row, blob)


async def test_tags_are_stable_and_separate_tenants_and_kinds(cipher: CustodyFieldCipher) -> None:
    mine, theirs = await cipher.for_tenant(TENANT), await cipher.for_tenant(OTHER)
    tag = mine.tag("email", "ada@example.org")
    assert len(tag) == 32
    assert tag == (await cipher.for_tenant(TENANT)).tag("email", "ada@example.org")
    assert len({tag, theirs.tag("email", "ada@example.org"), mine.tag("address", "ada@example.org")}) == 3


async def test_a_lease_is_asked_for_once(cipher: CustodyFieldCipher, keyd: Keyd) -> None:
    await asyncio.gather(*(cipher.for_tenant(TENANT) for _ in range(20)))
    await cipher.for_tenant(TENANT)
    assert len(keyd.asked) == 2  # fields and lookup


async def test_a_lease_is_renewed_before_it_ends(cipher: CustodyFieldCipher, keyd: Keyd, clock: Clock) -> None:
    first = await cipher.for_tenant(TENANT)
    clock.seconds += LEASE - RENEW_BEFORE_SECONDS - 1
    assert await cipher.for_tenant(TENANT) is first
    clock.seconds += 1
    second = await cipher.for_tenant(TENANT)
    assert second.ends_at == first.ends_at + LEASE - RENEW_BEFORE_SECONDS
    assert len(keyd.asked) == 4


async def test_a_lease_outlives_an_outage_and_then_fails_closed(
    cipher: CustodyFieldCipher, keyd: Keyd, clock: Clock
) -> None:
    tenant = await cipher.for_tenant(TENANT)
    blob = tenant.seal("t", "c", ROW, b"x")
    keyd.down = True
    clock.seconds += LEASE - 0.1
    assert (await cipher.for_tenant(TENANT)).open("t", "c", ROW, blob) == b"x"
    clock.seconds += 0.1
    with pytest.raises(Unavailable):
        await cipher.for_tenant(TENANT)
    for use in (
        lambda: tenant.open("t", "c", ROW, blob),
        lambda: tenant.seal("t", "c", ROW, b"x"),
        lambda: tenant.tag("k", "v"),
    ):
        with pytest.raises(LeaseOver):
            use()
    keyd.down = False
    assert (await cipher.for_tenant(TENANT)).open("t", "c", ROW, blob) == b"x"


async def test_a_slow_answer_shortens_the_lease(client: KeydClient, keyd: Keyd, clock: Clock) -> None:
    class Slow(Keyd):
        async def ask(self, request: wire.Request) -> wire.Reply:
            clock.seconds += 3
            return await super().ask(request)

    client._channel = Slow()  # type: ignore[assignment]
    tenant = await CustodyFieldCipher(client, clock=clock).for_tenant(TENANT)
    assert tenant.ends_at == 1000 + LEASE


async def test_a_tenant_that_lost_its_keys_loses_its_lease_at_renewal(
    cipher: CustodyFieldCipher, keyd: Keyd, clock: Clock
) -> None:
    await cipher.for_tenant(TENANT)
    clock.seconds += LEASE - RENEW_BEFORE_SECONDS
    keyd.answer = wire.Failure(code="not-found", message="no keys")
    for _ in range(2):
        with pytest.raises(NotFound):
            await cipher.for_tenant(TENANT)


async def test_after_a_rotation_old_and_new_values_open(
    cipher: CustodyFieldCipher, client: KeydClient, keyd: Keyd, clock: Clock
) -> None:
    before = await cipher.for_tenant(TENANT)
    old = before.seal("t", "c", ROW, b"old")
    keyd.keys[TENANT, Purpose.FIELDS].append(fresh())
    elsewhere = await CustodyFieldCipher(client, clock=clock).for_tenant(TENANT)
    new = elsewhere.seal("t", "c", ROW, b"new")
    assert elsewhere.open("t", "c", ROW, old) == b"old"
    with pytest.raises(Unreadable):
        before.open("t", "c", ROW, new)
    assert (await cipher.for_tenant(TENANT)).open("t", "c", ROW, new) == b"new"


async def test_forgetting_drops_leases(cipher: CustodyFieldCipher, keyd: Keyd) -> None:
    await cipher.for_tenant(TENANT)
    await cipher.for_tenant(OTHER)
    cipher.forget(TENANT)
    await cipher.for_tenant(OTHER)
    assert len(keyd.asked) == 4
    cipher.forget()
    await cipher.for_tenant(TENANT)
    await cipher.for_tenant(OTHER)
    assert len(keyd.asked) == 8


async def test_an_unknown_tenant_leaves_nothing_in_memory(cipher: CustodyFieldCipher, keyd: Keyd) -> None:
    keyd.answer = wire.Failure(code="not-found", message="no keys")
    with pytest.raises(NotFound):
        await cipher.for_tenant(TENANT)
    assert not cipher._renewals
    assert not cipher._held


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not-found", NotFound),
        ("denied", Denied),
        ("conflict", Conflict),
        ("unreadable", Unreadable),
        ("internal", Unavailable),
        ("something-new", Unavailable),
    ],
)
async def test_failures_come_back_as_their_errors(
    client: KeydClient, keyd: Keyd, code: str, error: type[LimenError]
) -> None:
    keyd.answer = wire.Failure(code=code, message="m", fix="f")
    with pytest.raises(error) as caught:
        await client.health()
    assert type(caught.value) is error


async def test_an_answer_to_another_question_is_not_taken(client: KeydClient, keyd: Keyd) -> None:
    keyd.answer = wire.Done()
    with pytest.raises(Unavailable):
        await client.intake_key(TENANT)


async def test_leases_do_not_show_their_keys(cipher: CustodyFieldCipher, keyd: Keyd) -> None:
    tenant = await cipher.for_tenant(TENANT)
    key = keyd.keys[TENANT, Purpose.FIELDS][0].key
    answer = await keyd.ask(wire.LeaseDataKey(tenant_id=TENANT, purpose=Purpose.FIELDS))
    for holder in (tenant, answer, keyd.keys[TENANT, Purpose.FIELDS], wire.Plaintext(plaintext=key)):
        assert repr(key) not in repr(holder)
