"""The hash tree against the known roots of Certificate Transparency and a literal reading of RFC 6962."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto import merkle
from limen.crypto.errors import BadProof

ENTRIES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES]
trees = st.lists(st.binary(max_size=4), min_size=1, max_size=70).map(
    lambda entries: [merkle.leaf_hash(entry) for entry in entries]
)


def by_the_rfc(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word, on leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + by_the_rfc(leaves[:k]) + by_the_rfc(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    assert merkle.root([]) == merkle.EMPTY_ROOT == sha256(b"").digest()


def test_known_inclusion_proof() -> None:
    # certificate-transparency-go, merkle tests: leaf 5 (0-based) of the tree of 8
    proof = [node.hex() for node in merkle.inclusion_proof(LEAVES, 5)]
    assert proof == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(trees)
def test_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == by_the_rfc(leaves)


@given(trees, st.integers(0, 69))
def test_a_stored_frontier_goes_on(leaves: list[bytes], cut: int) -> None:
    cut = min(cut, len(leaves))
    first = merkle.Frontier()
    for leaf in leaves[:cut]:
        first.append(leaf)
    resumed = merkle.Frontier(first.size, first.peaks)
    for leaf in leaves[cut:]:
        resumed.append(leaf)
    assert resumed.root() == merkle.root(leaves)
    assert resumed.size == len(leaves)


def test_a_frontier_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadProof):
        merkle.Frontier(3, [LEAVES[0]])


@given(trees, st.data())
def test_inclusion(leaves: list[bytes], data: st.DataObject) -> None:
    size, expected = len(leaves), merkle.root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(leaves, index)
    merkle.verify_inclusion(leaves[index], index, size, proof, expected)
    wrong = merkle.leaf_hash(b"something else")
    for leaf, at, of, path, top in (
        (wrong, index, size, proof, expected),
        (leaves[index], index, size, [*proof, wrong], expected),
        (leaves[index], index, size, proof, wrong),
        (leaves[index], size, size, proof, expected),
        (leaves[index], -1, size, proof, expected),
    ):
        with pytest.raises(BadProof):
            merkle.verify_inclusion(leaf, at, of, path, top)
    if proof:
        with pytest.raises(BadProof):
            merkle.verify_inclusion(leaves[index], index, size, proof[:-1], expected)
        with pytest.raises(BadProof):
            merkle.verify_inclusion(leaves[index], index, size, [wrong, *proof[1:]], expected)


@given(trees, st.data())
def test_consistency(leaves: list[bytes], data: st.DataObject) -> None:
    size, new = len(leaves), merkle.root(leaves)
    old_size = data.draw(st.integers(1, size))
    old = merkle.root(leaves[:old_size])
    proof = merkle.consistency_proof(leaves, old_size)
    merkle.verify_consistency(old_size, old, size, new, proof)
    wrong = merkle.leaf_hash(b"something else")
    for older, newer, path in ((wrong, new, proof), (old, wrong, proof), (old, new, [*proof, wrong])):
        with pytest.raises(BadProof):
            merkle.verify_consistency(old_size, older, size, newer, path)
    if proof:
        with pytest.raises(BadProof):
            merkle.verify_consistency(old_size, old, size, new, proof[:-1])


@pytest.mark.parametrize("index", [-1, 8])
def test_no_proof_of_what_is_not_there(index: int) -> None:
    with pytest.raises(BadProof):
        merkle.inclusion_proof(LEAVES, index)


@pytest.mark.parametrize("old_size", [0, 9])
def test_no_consistency_with_what_never_was(old_size: int) -> None:
    with pytest.raises(BadProof):
        merkle.consistency_proof(LEAVES, old_size)
    with pytest.raises(BadProof):
        merkle.verify_consistency(old_size, LEAVES[0], 8, LEAVES[0], [])
