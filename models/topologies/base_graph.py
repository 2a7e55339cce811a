"""The base-(k+1) graph: an exact average in finitely many exchanges, for every number of nodes."""

from __future__ import annotations

import math

import numpy as np

from simnet.errors import TopologyError
from simnet.topology import Topology, weighted_edges

Edge = tuple[int, int, float]  # i, j, the weight that each gives to the other
Rounds = list[list[Edge]]


class BaseGraph(Topology):
    """A cycle of at most 2 log_(k+1)(n) + 2 symmetric graphs of degree k at most, whose product is 1 1'/n.

    Hyper-hypercube over m = n_1 ... n_L nodes with each n_l <= k+1: in stage l, groups of n_l nodes that differ in
    one digit average (weights 1/n_l); after L stages all m have averaged. For other n, written in base k+1:

        n = sum_l a_l (k+1)^(p_l), p_1 > p_2 > ..., a_l <= k; block V_l of a_l (k+1)^(p_l) nodes
        1. every block averages within itself
        2. for l = 1, 2, ...: each node after block l meets one node of each of V_l's a_l parts, with weight
           (k+1)^(p_l) / (|V_l| + |V_(l+1)| + ...); then each part of V_l holds the average of all in its mean,
           and so do the nodes after it
        3. each part, once met, averages within itself

    Where n has a factor p all of whose primes are at most k+1, p groups of n/p do this side by side and then
    average across; the shorter way is taken. Weights differ by edge and come from the topology, not the mixing.

    Reference: Takezawa et al., NeurIPS 2023 (beyond exponential graph), algorithms 1 to 3.
    Departs: nodes that the cross edges of step 2 leave free stay idle, where the paper joins some of them.

    Args:
        n: nodes.
        degree: k, the most neighbours that a node has in one exchange.
    """

    directed = False

    def __init__(self, n: int, *, degree: int = 1) -> None:
        if degree < 1:
            raise TopologyError(f"base_graph: degree = {degree}; give at least 1")
        self.n, self.degree = n, degree
        self._cycle = []
        for edges in _base(n, degree) or [[]]:
            i, j = (np.array([edge[end] for edge in edges], np.int64) for end in (0, 1))
            w = np.array([edge[2] for edge in edges], np.float64)
            both = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([w, w])
            self._cycle.append(weighted_edges(*both, n))

    @property
    def period(self) -> int:
        """Exchanges after which all have averaged."""
        return len(self._cycle)

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._cycle[k % self.period][:2]

    def weights(self, k: int) -> np.ndarray:
        return self._cycle[k % self.period][2]


def _base(n: int, k: int) -> Rounds:
    smooth, rest = 1, n
    for factor in range(2, k + 2):
        while rest % factor == 0:
            smooth, rest = smooth * factor, rest // factor
    nodes = list(range(n))
    if rest == 1:
        return _hyper_hypercube(nodes, _fewest_factors(n, k))
    plain = _simple(nodes, k)
    groups = [_simple(nodes[g * rest : (g + 1) * rest], k) for g in range(smooth)]
    grouped = [[edge for group in groups for edge in group[t]] for t in range(len(groups[0]))]
    across = [_hyper_hypercube(nodes[i::rest], _fewest_factors(smooth, k)) for i in range(rest)]
    grouped += [[edge for lane in across for edge in lane[t]] for t in range(len(across[0]))]
    return min(plain, grouped, key=len)


def _simple(nodes: list[int], k: int) -> Rounds:
    """Steps 1 to 3 of the class's docstring."""
    blocks: list[tuple[list[int], int, int]] = []  # nodes, a_l, p_l
    rest = nodes
    for power in reversed(range(round(math.log(len(nodes), k + 1)) + 2)):
        size = (k + 1) ** power
        digit = len(rest) // size
        if digit:
            blocks.append((rest[: digit * size], digit, power))
            rest = rest[digit * size :]
    inside = [_hyper_hypercube(block, [k + 1] * power + [digit]) for block, digit, power in blocks]
    if len(blocks) == 1:
        return inside[0]
    rounds: Rounds = []

    def add(first: int, what: Rounds) -> None:
        for t, edges in enumerate(what, first):
            rounds.extend([] for _ in range(t + 1 - len(rounds)))
            rounds[t].extend(edges)

    for averaging in inside:
        add(0, averaging)
    start = len(inside[0])
    for number, (block, digit, power) in enumerate(blocks[:-1]):
        after = [node for later, _, _ in blocks[number + 1 :] for node in later]
        size = (k + 1) ** power
        parts = [block[part * size : (part + 1) * size] for part in range(digit)]
        weight = size / (len(block) + len(after))
        add(start + number, [[(part[i], node, weight) for part in parts for i, node in enumerate(after)]])
        for part in parts:
            add(start + number + 1, _hyper_hypercube(part, [k + 1] * power))
    return rounds


def _hyper_hypercube(nodes: list[int], factors: list[int]) -> Rounds:
    """One stage for each factor: nodes that differ in that digit of their number average."""
    rounds: Rounds = []
    stride = 1
    for factor in factors:
        if factor > 1:
            stage: list[Edge] = []
            for i, node in enumerate(nodes):
                digit = i // stride % factor
                peers = range(i + stride, i + (factor - digit) * stride, stride)
                stage.extend((node, nodes[j], 1 / factor) for j in peers)
            rounds.append(stage)
        stride *= factor
    return rounds


def _fewest_factors(m: int, k: int) -> list[int]:
    """m as a product of as few numbers up to k+1 as can be."""
    best: dict[int, list[int]] = {1: []}

    def split(rest: int) -> list[int]:
        if rest not in best:
            ways = [[f, *split(rest // f)] for f in range(2, k + 2) if rest % f == 0]
            best[rest] = min(ways, key=len)
        return best[rest]

    return split(m)
