"""From soft dependencies to a tree, and from a tree to parts.

How the paper decodes its tree is in no source at hand; its second author's earlier code for language
(github.com/yikangshen/UDGN) takes the maximum spanning arborescence of log(weight + 1e-9) over all roots, as is done
here.

N tokens. Matrices are indexed [parent, child]. Everything is numpy, for one image.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from visionpatch.errors import DataError

EPS = 1e-9


@dataclass(frozen=True)
class DependencyTree:
    """A rooted tree over N tokens.

    Attributes:
        parent: (N,) int64; the root's is itself.
        weight: (N,) share of what a token sends that goes to its parent, 0..1; the root's is 0.
    """

    parent: ndarray
    weight: ndarray

    @cached_property
    def root(self) -> int:
        return int(np.flatnonzero(self.parent == np.arange(len(self.parent)))[0])

    @cached_property
    def children(self) -> list[list[int]]:
        """Of every token, ascending."""
        found: list[list[int]] = [[] for _ in self.parent]
        for child, parent in enumerate(self.parent.tolist()):
            if child != parent:
                found[parent].append(child)
        return found

    @cached_property
    def order(self) -> ndarray:
        """Tokens (N,), every parent before its children."""
        line = [self.root]
        for token in line:  # grows on the way
            line += self.children[token]
        return np.array(line)

    @cached_property
    def depth(self) -> ndarray:
        """Edges to the root (N,)."""
        depth = np.zeros(len(self.parent), np.int64)
        for token in self.order[1:]:
            depth[token] = depth[self.parent[token]] + 1
        return depth

    @cached_property
    def size(self) -> ndarray:
        """Tokens of every token's subtree, itself included (N,)."""
        size = np.ones(len(self.parent), np.int64)
        for token in self.order[:0:-1]:
            size[self.parent[token]] += size[token]
        return size

    def subtree_mask(self, token: int) -> ndarray:
        """(N,) bool: the token and all below it."""
        inside = np.zeros(len(self.parent), bool)
        inside[token] = True
        for other in self.order[1:]:
            inside[other] |= inside[self.parent[other]]
        return inside

    def nearest_ancestor(self, wanted: ndarray) -> ndarray:
        """(N,) int64: of every token itself or the nearest token above it that is in `wanted` (N,) bool; itself where
        none is."""
        found = np.where(wanted, np.arange(len(self.parent)), -1)
        for token in self.order[1:]:
            if found[token] < 0:
                found[token] = found[self.parent[token]]
        return np.where(found < 0, np.arange(len(self.parent)), found)


def decode_tree(dependency: Any) -> DependencyTree:
    """The tree of the largest sum of log shares over its edges, whatever its root.

    Args:
        dependency: (N, N) array or tensor of sums of soft dependency masks, [recipient, sender], not negative.

    Raises:
        DataError: not a square matrix of finite numbers from 0 on.
    """
    share = shares(dependency)
    parent = arborescence(np.log(share + EPS))
    tokens = np.arange(len(share))
    return DependencyTree(parent, np.where(parent == tokens, 0.0, share[parent, tokens]))


def greedy_parents(dependency: Any) -> ndarray:
    """(N,) int64: the other token to which each sends most; the first of equal ones. Always holds a cycle for N > 1."""
    share = shares(dependency)
    np.fill_diagonal(share, -1.0 if len(share) > 1 else 0.0)
    return share.argmax(0)


def tree_parts(tree: DependencyTree, received: Any, number: int, min_dist: int = 1, min_size: int = 4) -> ndarray:
    """Cut a tree at its hubs: part 0..number-1 of every token (N,), int64. Deterministic; our choice.

    Hubs are the root and the `number` - 1 other tokens that received most (of equal ones the first), where a token
    within `min_dist` edges of a hub is passed over unless its subtree holds `min_size` tokens. A token belongs to the
    first hub on its way to the root. The first hub chosen is part 0; what the root keeps is the last part. A tree
    without enough hubs gives fewer parts.

    Args:
        received: (N,), the row sums of the dependency matrix.

    Raises:
        DataError: `number` below 1, or `received` of another length than the tree.
    """
    mass = np.asarray(received.detach().cpu() if hasattr(received, "detach") else received, np.float64)
    if number < 1 or mass.shape != tree.parent.shape:
        raise DataError(f"tree_parts: {number} parts and {mass.shape} masses for a tree of {len(tree.parent)} tokens")
    hubs: list[int] = []
    near = _around(tree, tree.root, min_dist)
    for token in np.argsort(-mass, kind="stable").tolist():
        if len(hubs) == number - 1:
            break
        if token != tree.root and (not near[token] or tree.size[token] >= min_size):
            hubs.append(token)
            near |= _around(tree, token, min_dist)
    part = np.full(len(mass), -1)
    part[hubs] = np.arange(len(hubs))
    part[tree.root] = len(hubs)
    for token in tree.order[1:]:
        if part[token] < 0:
            part[token] = part[tree.parent[token]]
    return part


def _around(tree: DependencyTree, token: int, distance: int) -> ndarray:
    """(N,) bool: the tokens within `distance` edges."""
    inside = np.zeros(len(tree.parent), bool)
    inside[token] = True
    for _ in range(distance):
        inside |= inside[tree.parent] | np.isin(np.arange(len(inside)), tree.parent[inside])
    return inside


def shares(dependency: Any) -> ndarray:
    """(N, N) float64: what a sender gives to each other token over all it gives to others; columns sum to 1, or 0."""
    given = dependency.detach().cpu() if hasattr(dependency, "detach") else dependency
    matrix = np.array(given, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise DataError(f"a dependency matrix must be (N, N), not {matrix.shape}")
    if not np.isfinite(matrix).all() or matrix.min() < 0:
        raise DataError("a dependency matrix must hold finite numbers from 0 on")
    np.fill_diagonal(matrix, 0.0)
    total = matrix.sum(0)
    return matrix / np.where(total > 0, total, 1.0)


def arborescence(score: ndarray) -> ndarray:
    """Parents (N,) of the spanning arborescence with the largest sum of score[parent, child] over all roots.

    Chu and Liu's and Edmonds' algorithm in O(N^2). Exactly one edge leaves the virtual root: it costs more than any
    tree can gain.
    """
    n = len(score)
    reach = float(score.max() - score.min()) + 1.0
    into = np.full((n + 1, n + 1), -np.inf)  # [child, parent], token i in row i + 1
    into[1:, 1:] = score.T - score.max()
    into[1:, 0] = -reach * (n + 1)
    np.fill_diagonal(into, -np.inf)
    heads = _Edmonds(into).heads()
    return np.where(heads == 0, np.arange(n), heads - 1)


class _Edmonds:
    """Best incoming edges along a growing path; a cycle is contracted into one of its nodes and the path goes on.

    `into` [child, parent] holds scores, node 0 is the root, which has no incoming edge; it is changed.
    """

    def __init__(self, into: ndarray) -> None:
        size = len(into)
        self.into = into
        self.tail, self.head = np.meshgrid(np.arange(size), np.arange(size))  # original edge behind into[child, parent]
        self.name = list(range(size))  # of the (contracted) node in each row
        self.edge: dict[int, tuple[int, int]] = {}  # node -> original edge (parent, child) into it
        self.above: dict[int, int] = {}  # node -> contracted node that holds it
        self.merged: list[int] = []  # contracted nodes, innermost first
        self.gain = np.zeros(size)  # of the chosen edge into each row

    def heads(self) -> ndarray:
        """Parents of nodes 1, 2, ..., in the numbering of `into`."""
        size = len(self.into)
        done, live = {0}, [True] * size
        for start in range(1, size):
            if not live[start] or start in done:
                continue
            path = [start]
            while path[-1] not in done:
                child = path[-1]
                parent = int(self.into[child].argmax())
                self.edge[self.name[child]] = (int(self.tail[child, parent]), int(self.head[child, parent]))
                self.gain[child] = self.into[child, parent]
                if parent not in path:
                    path.append(parent)
                    continue
                cycle = path[path.index(parent) :]
                self._contract(cycle)
                for node in cycle[1:]:
                    live[node] = False
                path = path[: path.index(parent) + 1]
            done.update(path)
        return self._expand(size)

    def _contract(self, cycle: list[int]) -> None:
        """The rows and columns of `cycle` become those of its first node."""
        rep, others = cycle[0], cycle[1:]
        whole = len(self.into) + len(self.merged)
        for node in cycle:
            self.above[self.name[node]] = whole
        self.merged.append(whole)
        entering = self.into[cycle] - self.gain[cycle, None]  # (c, N)
        best = entering.argmax(0)
        columns = np.arange(len(self.into))
        rows = np.array(cycle)
        tails, heads = self.tail[rows[best], columns], self.head[rows[best], columns]
        self.into[rep], self.tail[rep], self.head[rep] = entering[best, columns], tails, heads
        leaving = self.into[:, cycle]  # (N, c)
        best = leaving.argmax(1)
        tails, heads = self.tail[columns, rows[best]], self.head[columns, rows[best]]
        self.into[:, rep], self.tail[:, rep], self.head[:, rep] = leaving[columns, best], tails, heads
        self.into[others], self.into[:, others] = -np.inf, -np.inf
        self.into[rep, rep] = -np.inf
        self.name[rep] = whole

    def _expand(self, size: int) -> ndarray:
        """Outermost first, an edge into a contracted node replaces that of the member it ends in."""
        for whole in reversed(self.merged):
            tail, head = self.edge[whole]
            member = head
            while self.above[member] != whole:
                member = self.above[member]
            self.edge[member] = (tail, head)
        return np.array([self.edge[node][0] for node in range(1, size)], np.int64)
