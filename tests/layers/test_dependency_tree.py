"""Trees of soft dependencies: hand examples, brute force, planted trees, and parts cut from them."""

import itertools

import numpy as np
import pytest
import torch

from visionpatch.errors import DataError
from visionpatch.layers.dependency_tree import (
    DependencyTree,
    arborescence,
    decode_tree,
    greedy_parents,
    shares,
    tree_parts,
)

HAND = np.array([[0, 0.60, 0.10, 0.30], [0.55, 0, 0.30, 0.10], [0.25, 0.25, 0, 0.50], [0.20, 0.15, 0.60, 0]])


def total(score: np.ndarray, parent: np.ndarray) -> float:
    return sum(score[p, child] for child, p in enumerate(parent) if p != child)


def all_trees(n: int):
    """Parents of every rooted tree over n tokens."""
    for parent in itertools.product(range(n), repeat=n):
        roots = [i for i in range(n) if parent[i] == i]
        places = list(range(n))
        for _ in range(n):
            places = [parent[i] for i in places]
        if len(roots) == 1 and set(places) == set(roots):
            yield parent


TREES = {n: list(all_trees(n)) for n in (4, 5)}


def tree(*parent: int) -> DependencyTree:
    return DependencyTree(np.array(parent), np.ones(len(parent)))


def test_hand_example():
    assert greedy_parents(HAND).tolist() == [1, 0, 3, 2]
    found = decode_tree(torch.from_numpy(HAND))
    assert found.parent.tolist() == [0, 0, 3, 0] and found.root == 0
    assert total(np.log(HAND + 1e-9), found.parent) == pytest.approx(-2.2256, abs=1e-4)
    assert total(HAND, found.parent) == pytest.approx(1.5)
    assert found.weight.tolist() == pytest.approx([0, 0.6, 0.6, 0.3 / 0.9])


def test_the_number_of_trees_is_cayleys():
    assert {n: len(trees) for n, trees in TREES.items()} == {4: 4**3, 5: 5**4}


def test_equals_the_best_of_all_trees():
    generator = np.random.default_rng(0)
    for case in range(200):
        n = 4 + case % 2
        score = generator.normal(size=(n, n))
        best = max(TREES[n], key=lambda parent: total(score, parent))
        assert arborescence(score).tolist() == list(best)


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_ties_and_extremes_give_a_tree(n: int):
    for matrix in (np.zeros((n, n)), np.ones((n, n)), np.eye(n)[::-1], np.eye(n), 1e-30 * np.ones((n, n))):
        found = decode_tree(matrix)
        assert sorted(found.order.tolist()) == list(range(n))  # each reached once from one root: no cycle
        assert (found.parent == np.arange(n)).sum() == 1


def test_a_planted_tree_comes_back():
    generator, n = np.random.default_rng(1), 196
    names = generator.permutation(n)
    parent = np.zeros(n, int)
    parent[names[0]] = names[0]
    for place in range(1, n):
        parent[names[place]] = names[generator.integers(place)]
    weights = generator.random((n, n)) * 0.2 / n
    weights[parent, np.arange(n)] = 0.9
    weights[:, names[0]] = 0.1 / n
    assert (decode_tree(weights).parent == parent).all()


def test_large_cycles_inside_cycles():
    """Every best edge lies in a ring; the cheapest one to break is known."""
    n = 100
    matrix = np.full((n, n), 1e-6)
    matrix[np.roll(np.arange(n), -1), np.arange(n)] = 0.9  # i -> i + 1
    matrix[38, 37] = 0.3
    found = decode_tree(matrix)
    assert found.root == 37 and found.depth.max() == n - 1


def test_shares_leave_out_a_token_itself_and_silent_ones():
    given = shares(np.array([[9.0, 1, 0], [1, 0, 0], [3, 1, 0]]))
    assert given.tolist() == [[0, 0.5, 0], [0.25, 0, 0], [0.75, 0.5, 0]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros(3), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_what_is_no_dependency_matrix_is_refused(wrong: np.ndarray):
    with pytest.raises(DataError, match="dependency matrix"):
        decode_tree(wrong)


def test_depth_children_sizes_and_subtrees():
    #      2
    #    /   \
    #   0     4
    #  / \
    # 1   3
    made = tree(2, 0, 2, 0, 2)
    assert made.root == 2
    assert made.children == [[1, 3], [], [0, 4], [], []]
    assert made.depth.tolist() == [1, 2, 0, 2, 1]
    assert made.size.tolist() == [3, 1, 5, 1, 1]
    assert made.subtree_mask(0).tolist() == [True, True, False, True, False]
    assert made.subtree_mask(2).all()
    kept = np.array([True, False, False, False, False])
    assert made.nearest_ancestor(kept).tolist() == [0, 0, 2, 0, 4]


class TestParts:
    def test_hubs_and_what_the_root_keeps(self):
        made = tree(2, 0, 2, 0, 2, 4, 4, 4)  # 2 over 0 (1, 3) and 4 (5, 6, 7)
        received = np.array([2.0, 0, 3, 0, 2.5, 0, 0, 0])
        assert tree_parts(made, received, 2).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]  # 4 is near the root, with 4 tokens
        assert tree_parts(made, received, 3, min_size=3).tolist() == [1, 1, 2, 1, 0, 0, 0, 0]
        assert tree_parts(made, received, 1).tolist() == [0] * 8
        assert tree_parts(made, received, 3, min_dist=0).tolist() == [1, 1, 2, 1, 0, 0, 0, 0]

    def test_too_few_hubs_give_fewer_parts(self):
        assert tree_parts(tree(0, 0, 0), np.ones(3), 3).tolist() == [0, 0, 0]

    def test_equal_masses_go_by_place(self):
        made = tree(0, 0, 1, 2, 0, 4, 5)  # two chains
        assert tree_parts(made, np.ones(7), 2).tolist() == [1, 1, 0, 0, 1, 1, 1]  # 1 is near the root and small
        assert tree_parts(made, np.ones(7), 2, min_size=3).tolist() == [1, 0, 0, 0, 1, 1, 1]

    def test_masses_must_fit(self):
        with pytest.raises(DataError, match=r"0 parts and \(3,\) masses for a tree of 3"):
            tree_parts(tree(0, 0, 0), np.ones(3), 0)
        with pytest.raises(DataError, match="2 parts"):
            tree_parts(tree(0, 0, 0), np.ones(4), 2)
