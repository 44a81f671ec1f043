"""Seals and checkpoints: planning a step, proofs, packing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from limen.control.audit.model import Checkpoint, Member, Seal, SignedCheckpoint
from limen.control.audit.rules import chain, lines
from limen.crypto import merkle, signatures
from tests.unit.audit.trail import START
from tests.unit.audit.verifier import public_key, verify

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


# The same values stand in docs/audit-format.md. They may never change.
GOLDEN_SEED = bytes(range(32))
GOLDEN_SEAL = Seal(
    tenant_id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    number=1,
    checkpoint=1,
    before=0,
    count=1,
    first_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    last_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    root=bytes.fromhex("9862b3c078b268832924a99271a8330bd66bdd3f240463f6827c0685234e70dd"),
    previous=chain.GENESIS,
)
GOLDEN_SEAL_HASH = "a4328ad2461278c4e307c45342dc089fd5032a20806fda1ea6ca8fa558aed22d"
GOLDEN_ROOT = "b1132655d4881982c58ddbbd255ce11a79731600781b8f476f8799ca6e6340b7"
GOLDEN_CHECKPOINT = Checkpoint(
    number=1,
    at=datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC),
    size=1,
    root=bytes.fromhex(GOLDEN_ROOT),
    previous=chain.GENESIS,
    key_id=chain.key_id(signatures.public_of(GOLDEN_SEED)),
)
GOLDEN_CHECKPOINT_HASH = "2640becf54320f0262e9d0b868c13a9ae3ef24e7d77fad562c0dbd8a746ae8ea"
GOLDEN_SIGNATURE = (
    "1c4bd9b0e90d366dd0d728478ea97a3f013243b0fd6175bcdecd55b757d2eb26"
    "5f4965a117e84ccb40563a61cafebc2d5c5b8ad534f156c2e6a806e918dc120e"
)


def test_golden_vectors() -> None:
    assert chain.seal_hash(GOLDEN_SEAL).hex() == GOLDEN_SEAL_HASH
    assert merkle.root([merkle.leaf_hash(chain.seal_hash(GOLDEN_SEAL))]).hex() == GOLDEN_ROOT
    assert chain.checkpoint_hash(GOLDEN_CHECKPOINT).hex() == GOLDEN_CHECKPOINT_HASH
    message = chain.checkpoint_bytes(GOLDEN_CHECKPOINT)
    assert signatures.sign(GOLDEN_SEED, chain.SIGNING_PURPOSE, message).hex() == GOLDEN_SIGNATURE
    key = public_key(signatures.public_of(GOLDEN_SEED))
    read = verify.read_checkpoint(
        lines.signed(SignedCheckpoint(GOLDEN_CHECKPOINT, bytes.fromhex(GOLDEN_SIGNATURE))), {key.id: key}
    )
    assert read.hash.hex() == GOLDEN_CHECKPOINT_HASH
    assert verify.read_seal(lines.seal(GOLDEN_SEAL)).hash.hex() == GOLDEN_SEAL_HASH
    document = " ".join((Path(__file__).parents[3] / "docs" / "audit-format.md").read_text().split())
    for value in (GOLDEN_SEAL_HASH, GOLDEN_ROOT, GOLDEN_CHECKPOINT_HASH, GOLDEN_SIGNATURE, key.raw.hex()):
        assert value in document, "the document gives the vectors to people who write their own verifier"
