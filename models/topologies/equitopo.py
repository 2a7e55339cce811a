"""EquiTopo: a constant spectral gap at few or one neighbours. Reference: Song et al., NeurIPS 2022."""

from __future__ import annotations

import math

import numpy as np

from simnet import streams
from simnet.errors import TopologyError
from simnet.topology import Topology, is_connected, weighted_edges


class EquiStatic(Topology):
    """W = mean over u of (1/n) I + ((n-1)/n) S(a_u), with M shifts a_u uniform in 1 .. n-1; S(a): i -> i + a mod n.

    Directed (D-EquiStatic) with M neighbours at most, doubly stochastic; `undirected` (U-EquiStatic) takes
    (W + W')/2. With M = 8 ln(2n/p) / (3 eps^2), |W - 1 1'/n| < eps with probability 1 - p. Median gap at n = 64,
    directed: M = 4 .08, 6 .24, 8 .31, 12 .44. The topology prescribes the weights; shifts drawn twice add up.

    Args:
        n: nodes.
        seed: of the shifts, which are drawn again under the next until the graph is connected.
        shifts: M, by default ceil(log2 n).
        undirected: see above.
    """

    static = True

    def __init__(self, n: int, *, seed: int = 0, shifts: int | None = None, undirected: bool = False) -> None:
        count = max(1, math.ceil(math.log2(max(n, 2)))) if shifts is None else shifts
        if count < 1:
            raise TopologyError(f"equi_static: shifts = {shifts}; give at least 1")
        self.n, self.directed = n, not undirected
        for attempt in range(100):
            drawn = streams.uniform1(streams.key(seed, "equi_static", attempt), count) * (n - 1)
            hops = np.repeat(1 + drawn.astype(np.int64), n)[: count * n if n > 1 else 0]
            i = np.tile(np.arange(n), count)[: len(hops)]
            j = (i + hops) % max(n, 1)
            w = np.full(len(i), (n - 1) / (n * count))
            if undirected:
                i, j, w = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([w, w]) / 2
            self._src, self._dst, self._weight = weighted_edges(i, j, w, n)
            if is_connected(self._src, self._dst, n):
                return
        raise TopologyError(f"equi_static: {count} shifts of {n} nodes make no connected graph; take more shifts")

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._src, self._dst

    def weights(self, k: int) -> np.ndarray:
        return self._weight


class EquiDyn(Topology):
    """Exchange k: one shift a uniform in 1 .. n-1, drawn from (seed, k); i -> i + a with weight 1/2.

    Directed (OD-EquiDyn): E |W x|^2 = (1/2 - 1/(2(n-1))) |x|^2 for x of mean zero. `undirected` (OU-EquiDyn):
    along each cycle i, i + a, i + 2a, ... neighbours pair up from a random start (the last of an odd cycle stays
    alone); for n a power of 2 the same constant.

    Args:
        n: nodes.
        seed: of the shifts.
        undirected: see above.
    """

    def __init__(self, n: int, *, seed: int = 0, undirected: bool = False) -> None:
        self.n, self.seed, self.directed = n, seed, not undirected

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self.n < 2:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        u = streams.uniform1(streams.key(self.seed, "equi_dyn", k), 2)
        hop = 1 + int(u[0] * (self.n - 1))
        i = np.arange(self.n)
        if self.directed:
            return weighted_edges(i, (i + hop) % self.n, np.ones(self.n), self.n)[:2]
        cycles = math.gcd(hop, self.n)
        length = self.n // cycles
        step = 2 * np.arange(length // 2) + int(u[1] * length)  # the same start in every cycle
        i = (np.arange(cycles)[:, None] + step * hop).ravel() % self.n
        j = (i + hop) % self.n
        both = np.concatenate([i, j]), np.concatenate([j, i])
        return weighted_edges(*both, np.ones(2 * len(i)), self.n)[:2]

    def weights(self, k: int) -> np.ndarray:
        return np.full(len(self.edges(k)[0]), 0.5)
