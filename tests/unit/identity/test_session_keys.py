"""Leases of session keys: one call a lease, fail closed, older keys readable, strangers cheap."""

from uuid import UUID

import pytest

from limen.control.identity.adapters.session_keys import CustodySessionKeys
from limen.kernel.errors import NotFound, Unavailable
from limen.kernel.ids import new_id
from limen.wire.keyd import DataKey, FormerKey, Purpose

TENANT = new_id()


class Keyd:
    """Lends for 300 s; can be made to fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.current = (b"1" * 16, b"a" * 32)
        self.former: tuple[FormerKey, ...] = ()

    async def lease_data_key(self, tenant_id: UUID, purpose: Purpose) -> DataKey:
        self.asked += 1
        assert purpose is Purpose.SESSIONS
        if self.failure is not None:
            raise self.failure
        if tenant_id != TENANT:
            raise NotFound("no such tenant")
        return DataKey(key_id=self.current[0], key=self.current[1], lease_seconds=300.0, former=self.former)


class Time:
    """Seconds that move when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def test_one_call_a_lease() -> None:
    keyd, time = Keyd(), Time()
    keys = CustodySessionKeys(keyd, time)
    for _ in range(5):
        assert (await keys.current(TENANT)).key == b"a" * 32
        assert await keys.by_id(TENANT, b"1" * 16) is not None
    assert keyd.asked == 1
    time.seconds += 241
    await keys.current(TENANT)
    assert keyd.asked == 2


async def test_fails_closed_when_the_lease_is_over() -> None:
    keyd, time = Keyd(), Time()
    keys = CustodySessionKeys(keyd, time)
    await keys.current(TENANT)
    keyd.failure = Unavailable("gone")
    time.seconds += 299
    assert await keys.current(TENANT)
    time.seconds += 2
    with pytest.raises(Unavailable):
        await keys.current(TENANT)
    with pytest.raises(Unavailable):
        await keys.by_id(TENANT, b"1" * 16)


async def test_former_keys_read_and_do_not_sign() -> None:
    keyd = Keyd()
    keyd.former = (FormerKey(key_id=b"0" * 16, key=b"z" * 32),)
    keys = CustodySessionKeys(keyd, Time())
    old = await keys.by_id(TENANT, b"0" * 16)
    assert old is not None
    assert old.key == b"z" * 32
    assert (await keys.current(TENANT)).key == b"a" * 32
    assert await keys.by_id(TENANT, b"9" * 16) is None


async def test_an_unknown_tenant_is_asked_about_once() -> None:
    keyd, time = Keyd(), Time()
    keys = CustodySessionKeys(keyd, time)
    stranger = new_id()
    for _ in range(5):
        assert await keys.by_id(stranger, b"1" * 16) is None
    assert keyd.asked == 1
    time.seconds += 61
    assert await keys.by_id(stranger, b"1" * 16) is None
    assert keyd.asked == 2


async def test_a_tenant_whose_keys_are_gone_is_refused_at_the_next_lease() -> None:
    keyd, time = Keyd(), Time()
    keys = CustodySessionKeys(keyd, time)
    await keys.current(TENANT)
    keyd.failure = NotFound("destroyed")
    keys.forget(TENANT)
    with pytest.raises(NotFound):
        await keys.current(TENANT)
