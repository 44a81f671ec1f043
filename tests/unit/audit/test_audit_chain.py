"""Seals and checkpoints: planning a step, proofs, packing."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from limen.control.audit.model import Member
from limen.control.audit.rules import chain
from limen.crypto import merkle
from tests.unit.audit.trail import START
from tests.unit.audit.verifier import verify

hashes = st.binary(min_size=32, max_size=32)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
members = st.builds(Member, moments, st.uuids(), hashes)


@given(st.lists(hashes, min_size=1, max_size=70))
def test_all_proofs_are_those_of_rfc_6962(leaves: list[bytes]) -> None:
    root, paths = chain.all_proofs(leaves)
    assert root == merkle.root(leaves) == verify.tree_root(leaves)
    for index, path in enumerate(paths):
        assert list(path) == merkle.inclusion_proof(leaves, index)
        assert verify.root_from_proof(leaves[index], index, len(leaves), list(path)) == root


@given(st.lists(members, max_size=20))
def test_packing_members_loses_nothing(given_members: list[Member]) -> None:
    packed = chain.pack_members(given_members)
    assert len(packed) == chain.MEMBER_BYTES * len(given_members)
    assert chain.unpack_members(packed) == tuple(given_members)


@given(
    st.lists(st.tuples(st.sampled_from([uuid4() for _ in range(4)]), members), min_size=1, max_size=40), st.randoms()
)
def test_a_step_covers_every_leaf_once_in_one_order(pending: list[tuple[UUID, Member]], random: object) -> None:
    shuffled = list(pending)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = chain.plan_step(pending, {}, chain.ChainHead(), now=START, signing_key_id=bytes(8))
    other = chain.plan_step(shuffled, {}, chain.ChainHead(), now=START, signing_key_id=bytes(8))
    assert one.checkpoint.size == len({tenant for tenant, _ in pending})
    assert sum(planned.seal.count for planned in one.seals) == len(pending)
    covered = [(p.seal.tenant_id, m) for p in one.seals for m in p.members]
    assert sorted(covered, key=repr) == sorted(pending, key=repr)
    tenants = [planned.seal.tenant_id.bytes for planned in one.seals]
    assert tenants == sorted(tenants)
    if len({(tenant, m.at, m.id) for tenant, m in pending}) == len(pending):
        assert one == other


def test_chains_continue() -> None:
    tenant = uuid4()
    first = chain.plan_step(
        [(tenant, Member(START, uuid4(), bytes(32)))], {}, chain.ChainHead(), now=START, signing_key_id=bytes(8)
    )
    assert first.seals[0].seal.previous == first.checkpoint.previous == chain.GENESIS
    heads = {tenant: chain.TenantHead(1, 1, first.seals[0].hash)}
    head = chain.ChainHead(1, START, chain.checkpoint_hash(first.checkpoint))
    second = chain.plan_step(
        [(tenant, Member(START, uuid4(), bytes(32)))],
        heads,
        head,
        now=START - timedelta(hours=1),
        signing_key_id=bytes(8),
    )
    seal = second.seals[0].seal
    assert (seal.number, seal.before, seal.previous, seal.checkpoint) == (2, 1, first.seals[0].hash, 2)
    assert second.checkpoint.previous == chain.checkpoint_hash(first.checkpoint)
    assert second.checkpoint.at == START, "a clock that goes back must not make the chain go back"
