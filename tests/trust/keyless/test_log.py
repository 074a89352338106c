"""Inclusion proofs against RFC 6962's own definition, for every entry of every small tree."""

from __future__ import annotations

import pytest
from sigstore_double import path, tree

from edgepack.trust.keyless.bundle import Proof
from edgepack.trust.keyless.log import root_of


def proof(index: int, size: int, hashes: list[bytes]) -> Proof:
    return Proof(index, size, tuple(hashes), b"", "")


def test_every_entry_of_every_tree_is_proved_and_no_other() -> None:
    for size in range(1, 34):
        leaves = [b"%d" % i for i in range(size)]
        root = tree(leaves)
        for index in range(size):
            hashes = path(index, leaves)
            assert root_of(leaves[index], proof(index, size, hashes)) == root, (index, size)
            assert root_of(b"other", proof(index, size, hashes)) != root
            if hashes:
                swapped = [*hashes[:-1], bytes(32)]
                assert root_of(leaves[index], proof(index, size, swapped)) != root


@pytest.mark.parametrize(
    ("index", "size", "hashes"),
    [(0, 0, 0), (5, 5, 3), (0, 5, 2), (0, 5, 4), (4, 5, 0), (4, 5, 2), (0, 1, 1), (0, 2**62, 63)],
)
def test_a_proof_has_the_length_that_the_tree_asks_for(index: int, size: int, hashes: int) -> None:
    with pytest.raises(ValueError, match=r"inclusion proof"):
        root_of(b"leaf", proof(index, size, [bytes(32)] * hashes))


def test_an_entry_is_not_taken_for_a_node() -> None:
    """The two are hashed with other beginnings, so that no node can be shown as an entry."""
    leaves = [b"a", b"b", b"c", b"d"]
    inner = tree(leaves[:1]) + tree(leaves[1:2])
    assert root_of(inner, proof(0, 2, [tree(leaves[2:])])) != tree(leaves)
