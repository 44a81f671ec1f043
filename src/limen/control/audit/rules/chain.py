"""Seals and checkpoints, version 1: their bytes, their hashes, and the planning of one step of the chain.

::

    seal hash  = SHA-256(lp("limen.audit.seal.1", tenant, number, checkpoint, before, count,
                            first_at, last_at, root, previous))
    checkpoint = lp("limen.audit.checkpoint.1", number, at, size, root, previous, key_id)
    its hash   = SHA-256(checkpoint); its signature covers lp("limen.sign", "audit-checkpoint", checkpoint)

Numbers and times (microseconds) are 8 bytes, signed, big-endian; ``lp`` as in :mod:`limen.crypto.encoding`. A
seal's root is the RFC 6962 root over its leaves; a checkpoint's root is the one over its seal hashes, each an
entry of 32 bytes, in order of tenant id. What follows from the bytes:

* a changed, added, removed or reordered leaf changes its seal's root;
* a removed or reordered seal breaks ``number``, ``before`` or ``previous`` of the next one;
* a shortened or rewritten chain disagrees with any checkpoint that was kept elsewhere together with its seal;
* ``first_at`` and ``last_at`` prove that a seal has nothing to show for a window of time.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from limen.control.audit.model import Checkpoint, Member, Proof, Seal
from limen.control.audit.rules.leaf import from_microseconds, microseconds
from limen.crypto import merkle
from limen.crypto.encoding import length_prefixed

SEAL_TAG = "limen.audit.seal.1"
CHECKPOINT_TAG = "limen.audit.checkpoint.1"
SIGNING_PURPOSE = "audit-checkpoint"
GENESIS = bytes(32)
"""What the first seal of a tenant and the first checkpoint name as their previous one."""

MAX_SEAL_LEAVES = 4096
"""More leaves of one tenant wait for the next step: a verifier holds one seal's hashes in memory."""
MEMBER_BYTES = 8 + 16 + 32


@dataclass(frozen=True, slots=True)
class TenantHead:
    """Where a tenant's chain stands: its last seal, or number 0 before the first."""

    number: int = 0
    total: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where the chain of checkpoints stands, or number 0 before the first."""

    number: int = 0
    at: datetime | None = None
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class PlannedSeal:
    """A seal that is about to be written, with the leaves it covers."""

    seal: Seal
    hash: bytes
    proof: Proof
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chain: an unsigned checkpoint and its seals in order of tenant id."""

    checkpoint: Checkpoint
    seals: tuple[PlannedSeal, ...]


def key_id(public_key: bytes) -> bytes:
    """The 8 bytes by which a checkpoint names the key that signs it."""
    return hashlib.sha256(public_key).digest()[:8]


def seal_hash(seal: Seal) -> bytes:
    """The hash by which the next seal and the checkpoint know this one."""
    return hashlib.sha256(
        length_prefixed(
            SEAL_TAG,
            seal.tenant_id,
            _number(seal.number),
            _number(seal.checkpoint),
            _number(seal.before),
            _number(seal.count),
            _number(microseconds(seal.first_at)),
            _number(microseconds(seal.last_at)),
            seal.root,
            seal.previous,
        )
    ).digest()


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """The message that is signed."""
    return length_prefixed(
        CHECKPOINT_TAG,
        _number(checkpoint.number),
        _number(microseconds(checkpoint.at)),
        _number(checkpoint.size),
        checkpoint.root,
        checkpoint.previous,
        checkpoint.key_id,
    )


def checkpoint_hash(checkpoint: Checkpoint) -> bytes:
    """The hash by which the next checkpoint knows this one."""
    return hashlib.sha256(checkpoint_bytes(checkpoint)).digest()


def plan_step(
    pending: Iterable[tuple[UUID, Member]],
    heads: Mapping[UUID, TenantHead],
    chain: ChainHead,
    *,
    now: datetime,
    signing_key_id: bytes,
) -> Step:
    """The next step of the chain over all of ``pending`` (tenant, leaf), which must not be empty.

    Leaves of a tenant stand in order of time, then id. The caller keeps each tenant within MAX_SEAL_LEAVES.
    The checkpoint's time never runs backwards, whatever the clock does.
    """
    ordered = sorted(pending, key=lambda item: (item[0].bytes, item[1].at, item[1].id.bytes))
    number = chain.number + 1
    seals = [
        _seal(tenant_id, number, heads.get(tenant_id, TenantHead()), tuple(member for _, member in group))
        for tenant_id, group in groupby(ordered, key=lambda item: item[0])
    ]
    hashes = [seal_hash(seal) for seal, _ in seals]
    root, paths = all_proofs([merkle.leaf_hash(entry) for entry in hashes])
    checkpoint = Checkpoint(
        number=number,
        at=now if chain.at is None else max(now, chain.at),
        size=len(seals),
        root=root,
        previous=chain.hash,
        key_id=signing_key_id,
    )
    planned = (
        PlannedSeal(seal, entry, Proof(index, len(seals), path), members)
        for index, ((seal, members), entry, path) in enumerate(zip(seals, hashes, paths, strict=True))
    )
    return Step(checkpoint, tuple(planned))


def all_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The root over ``leaves`` (leaf hashes, at least one) and the audit path of each, in O(n log n)."""
    if len(leaves) == 1:
        return leaves[0], [()]
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    left, left_paths = all_proofs(leaves[:middle])
    right, right_paths = all_proofs(leaves[middle:])
    paths = [(*path, right) for path in left_paths] + [(*path, left) for path in right_paths]
    return merkle.node_hash(left, right), paths


def pack_members(members: Iterable[Member]) -> bytes:
    """Members as they are stored with their seal, MEMBER_BYTES each."""
    return b"".join(microseconds(m.at).to_bytes(8, "big", signed=True) + m.id.bytes + m.leaf_hash for m in members)


def unpack_members(packed: bytes) -> tuple[Member, ...]:
    """The inverse of :func:`pack_members`."""
    pieces = (packed[i : i + MEMBER_BYTES] for i in range(0, len(packed), MEMBER_BYTES))
    return tuple(
        Member(
            from_microseconds(int.from_bytes(piece[:8], "big", signed=True)),
            UUID(bytes=piece[8:24]),
            piece[24:],
        )
        for piece in pieces
    )


def _seal(
    tenant_id: UUID, checkpoint: int, head: TenantHead, members: tuple[Member, ...]
) -> tuple[Seal, tuple[Member, ...]]:
    seal = Seal(
        tenant_id=tenant_id,
        number=head.number + 1,
        checkpoint=checkpoint,
        before=head.total,
        count=len(members),
        first_at=members[0].at,
        last_at=members[-1].at,
        root=merkle.root([member.leaf_hash for member in members]),
        previous=head.hash,
    )
    return seal, members


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)
