"""The hash tree of RFC 6962 section 2.1: root, inclusion proofs and consistency proofs, pure and in memory.

Vocabulary: a *leaf hash* is ``SHA-256(0x00 | entry)``, a *node hash* ``SHA-256(0x01 | left | right)``; the
tree over ``n`` leaves splits at the largest power of two below ``n``; the root over nothing is
``SHA-256("")``. All functions take leaf hashes, so that a caller can prove what it has without holding the
entries.

Verification raises :class:`~limen.crypto.errors.BadProof` and never returns a bool. The verifying
algorithms are those of RFC 9162 sections 2.1.3.2 and 2.1.4.2, which compute the same tree.
"""

import hashlib
import hmac
from collections.abc import Sequence

from limen.crypto.errors import BadProof

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash over ``leaves`` (leaf hashes, in order), in one pass with a stack of full subtrees."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


class Frontier:
    """A growing tree that keeps only its full subtrees (at most 64 hashes), for sealing record by record.

    ``size`` and ``peaks`` (largest subtree first) are its whole state and may be stored.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Raises BadProof when ``peaks`` does not fit ``size``."""
        if size < 0 or len(peaks) != size.bit_count():
            raise BadProof("tree state does not fit its size")
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the end."""
        peaks, filled = self.peaks, self.size
        while filled & 1:
            leaf = node_hash(peaks.pop(), leaf)
            filled >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree hash over everything appended so far."""
        if not self.peaks:
            return EMPTY_ROOT
        result = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            result = node_hash(peak, result)
        return result


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf ``index`` (RFC 6962 section 2.1.1), deepest node first.

    Raises:
        BadProof: when there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise BadProof("no such leaf in the tree")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root(leaves[middle:high]))
            high = middle
        else:
            path.append(root(leaves[low:middle]))
            low = middle
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> None:
    """Check that ``leaf`` is number ``index`` (from 0) of the ``size`` leaves under ``expected_root``.

    Raises:
        BadProof: when it is not shown to be.
    """
    if not 0 <= index < size:
        raise BadProof("no such leaf in the tree")
    first, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("inclusion proof is too long")
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        first >>= 1
        last >>= 1
    if last or not hmac.compare_digest(result, expected_root):
        raise BadProof("record is not in the sealed tree")


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """That the first ``old_size`` leaves are the beginning of all (RFC 6962 section 2.1.2).

    Raises:
        BadProof: unless ``0 < old_size <= len(leaves)``.
    """
    if not 0 < old_size <= len(leaves):
        raise BadProof("no such earlier tree")
    return _subproof(leaves, old_size, whole=True)


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of ``new_size`` leaves only appended to that of ``old_size``.

    Raises:
        BadProof: when it is not shown to.
    """
    if not 0 < old_size <= new_size:
        raise BadProof("no such earlier tree")
    if old_size == new_size:
        if proof or not hmac.compare_digest(old_root, new_root):
            raise BadProof("two trees of the same size differ")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)  # a full tree is its own first node and is left out of the proof
    if not path:
        raise BadProof("consistency proof is too short")
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first >>= 1
        last >>= 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            raise BadProof("consistency proof is too long")
        if first & 1 or first == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        first >>= 1
        last >>= 1
    if last or not (hmac.compare_digest(old, old_root) and hmac.compare_digest(new, new_root)):
        raise BadProof("the later tree does not contain the earlier one")


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    size = len(leaves)
    if old_size == size:
        return [] if whole else [root(leaves)]
    middle = _split(size)
    if old_size <= middle:
        return [*_subproof(leaves[:middle], old_size, whole=whole), root(leaves[middle:])]
    return [*_subproof(leaves[middle:], old_size - middle, whole=False), root(leaves[:middle])]


def _split(size: int) -> int:
    """The largest power of two below ``size`` (``size`` > 1)."""
    return 1 << ((size - 1).bit_length() - 1)
