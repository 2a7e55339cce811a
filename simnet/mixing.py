"""Mixing matrices: the weight W[i, j] that node i gives to node j's message.

Weights are whole multiples of a grain, a power of two, and a node's own weight is one less the sum of the
others in whole numbers of grains. So rows (columns for `column_stochastic`) sum to exactly one in any order
of summation, in the dtype whose grain it is, and nothing in gossip drifts by rounding of the weights.

Shapes: N nodes, E directed edges (src, dst), as `Topology.edges` gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simnet.errors import TopologyError

GRAIN_FLOAT32 = 2.0**-24  # a multiple of it up to 1 is exact in float32
GRAIN_FLOAT64 = 2.0**-53

_DENSE_UP_TO = 2000
_SPECTRUM_UP_TO = 20_000


@dataclass(frozen=True)
class Mixing:
    """A mixing matrix: off-diagonal entries W[dst, src] = weight by edge, the diagonal in `own`."""

    src: np.ndarray  # (E,) int64
    dst: np.ndarray  # (E,) int64
    weight: np.ndarray  # (E,) float64
    own: np.ndarray  # (N,) float64
    grain: float = GRAIN_FLOAT64

    @property
    def n(self) -> int:
        return len(self.own)

    @cached_property
    def row_stochastic(self) -> bool:
        """Rows sum to exactly one and no entry is negative: all ones stay all ones."""
        return self._sums_to_one(self.dst)

    @cached_property
    def column_stochastic(self) -> bool:
        """Columns sum to exactly one and no entry is negative: the mean is kept."""
        return self._sums_to_one(self.src)

    @property
    def doubly_stochastic(self) -> bool:
        return self.row_stochastic and self.column_stochastic

    @cached_property
    def symmetric(self) -> bool:
        """W equals its transpose exactly."""
        there = np.lexsort((self.src, self.dst))
        back = np.lexsort((self.dst, self.src))
        return (
            np.array_equal(self.src[there], self.dst[back])
            and np.array_equal(self.dst[there], self.src[back])
            and np.array_equal(self.weight[there], self.weight[back])
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of what holds, strongest first, for messages and records."""
        names = ("symmetric", "doubly_stochastic", "row_stochastic", "column_stochastic")
        return tuple(name for name in names if getattr(self, name))

    def _sums_to_one(self, ends: np.ndarray) -> bool:
        units = np.rint(self.weight / self.grain).astype(np.int64)
        own = np.rint(self.own / self.grain).astype(np.int64)
        if not (np.array_equal(units * self.grain, self.weight) and np.array_equal(own * self.grain, self.own)):
            return False  # not multiples of the grain: sums depend on their order
        if (units < 0).any() or (own < 0).any():
            return False
        np.add.at(own, ends, units)
        return bool((own == round(1 / self.grain)).all())


Rule = Callable[..., Mixing]


def metropolis(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """W_ij = 1/(1 + max(deg_i, deg_j)), the rest on the diagonal: symmetric on every undirected graph.

    Reference: Xiao, Boyd and Kim, J. Parallel Distrib. Comput. 67, 2007.
    """
    degree = _undirected_degree(src, dst, n, "metropolis")
    return _by_row(src, dst, 1.0 / (1 + np.maximum(degree[src], degree[dst])), n, grain)


def max_degree(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """W_ij = 1/(1 + largest degree), the rest on the diagonal: symmetric on every undirected graph."""
    degree = _undirected_degree(src, dst, n, "max_degree")
    return _by_row(src, dst, np.full(len(src), 1.0 / (1 + degree.max(initial=0))), n, grain)


def lazy(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """(I + W)/2 with metropolis W: symmetric and positive semidefinite, as D2 and EXTRA want on even rings."""
    degree = _undirected_degree(src, dst, n, "lazy")
    return _by_row(src, dst, 0.5 / (1 + np.maximum(degree[src], degree[dst])), n, grain)


def uniform(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """W_ij = 1/(1 + deg_i): doubly stochastic on regular graphs, directed ones too (exponential, one-peer)."""
    degree = np.bincount(dst, minlength=n)
    mixing = _by_row(src, dst, 1.0 / (1 + degree[dst]), n, grain)
    if not mixing.doubly_stochastic:
        raise TopologyError(
            f"mixing uniform needs a regular graph, and here nodes have {degree.min()} to {degree.max()} neighbours:"
            " use metropolis (undirected graphs), row_stochastic or column_stochastic"
        )
    return mixing


def row_stochastic(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """W_ij = 1/(1 + indegree of i): the receiver normalises; any directed graph; all ones stay all ones."""
    degree = np.bincount(dst, minlength=n)
    return _by_row(src, dst, 1.0 / (1 + degree[dst]), n, grain)


def column_stochastic(src: np.ndarray, dst: np.ndarray, n: int, *, grain: float = GRAIN_FLOAT64) -> Mixing:
    """W_ij = 1/(1 + outdegree of j): the sender splits; any directed graph; the sum is kept (push-sum)."""
    degree = np.bincount(src, minlength=n)
    return _with_own(src, dst, 1.0 / (1 + degree[src]), src, n, grain)


def from_weights(src: np.ndarray, dst: np.ndarray, weight: np.ndarray, n: int, *, grain: float) -> Mixing:
    """Weights that a topology prescribes (`Topology.weights`), own weights filling the rows to one."""
    return _by_row(src, dst, weight, n, grain)


def dense(mixing: Mixing) -> np.ndarray:
    """W as a matrix, float64 (N, N)."""
    w_NN = np.diag(mixing.own)
    w_NN[mixing.dst, mixing.src] = mixing.weight
    return w_NN


def spectral_gap(mixing: Mixing) -> float | None:
    """1 - the second largest modulus of W's eigenvalues; one node has gap 1.

    By dense eigenvalues up to 2,000 nodes. Above that by iteration, good to about 0.1 % of the gap; None where
    it does not settle (a long ring, say) and above 20,000 nodes.
    """
    n = mixing.n
    if n == 1:
        return 1.0
    if n > _SPECTRUM_UP_TO:
        return None
    if n > _DENSE_UP_TO:
        if not mixing.symmetric:
            return _power_gap(mixing)
        ends = _lanczos(mixing)
        return None if ends is None else 1.0 - max(abs(ends[0]), abs(ends[1]))
    w_NN = dense(mixing)
    moduli = np.abs(np.linalg.eigvalsh(w_NN) if mixing.symmetric else np.linalg.eigvals(w_NN))
    return float(1.0 - np.sort(moduli)[-2])


def lambda_min(mixing: Mixing) -> float | None:
    """The smallest eigenvalue of a symmetric W; None for other W and where `spectral_gap` gives None."""
    if not mixing.symmetric or mixing.n > _SPECTRUM_UP_TO:
        return None
    if mixing.n > _DENSE_UP_TO:
        ends = _lanczos(mixing)
        return None if ends is None else ends[0]
    return float(np.linalg.eigvalsh(dense(mixing))[0])


# ---- inner functions -----------------------------------------------------------------------------------------------


def _undirected_degree(src: np.ndarray, dst: np.ndarray, n: int, name: str) -> np.ndarray:
    if not np.array_equal(np.sort(src * n + dst), np.sort(dst * n + src)):
        at = int(np.argmax(~np.isin(src * n + dst, dst * n + src)))
        raise TopologyError(
            f"mixing {name} needs an undirected graph, and {src[at]} -> {dst[at]} has no way back: use an undirected"
            " topology, or mixing uniform (regular graphs), row_stochastic or column_stochastic"
        )
    return np.bincount(dst, minlength=n)


def _by_row(src: np.ndarray, dst: np.ndarray, weight: np.ndarray, n: int, grain: float) -> Mixing:
    return _with_own(src, dst, weight, dst, n, grain)


def _with_own(src: np.ndarray, dst: np.ndarray, weight: np.ndarray, ends: np.ndarray, n: int, grain: float) -> Mixing:
    """Weights rounded down to the grain (so that no own weight turns negative); own = one less their sum at `ends`."""
    units = np.floor(np.asarray(weight, np.float64) / grain).astype(np.int64)
    own = np.full(n, round(1 / grain), np.int64)
    np.subtract.at(own, ends, units)
    if (own < 0).any():
        raise TopologyError(f"node {int(np.argmin(own))}: the weights of its edges sum to more than one")
    return Mixing(src, dst, units * grain, own * grain, grain)


def _apply(mixing: Mixing, x_N: np.ndarray) -> np.ndarray:
    """W x."""
    return mixing.own * x_N + np.bincount(mixing.dst, mixing.weight * x_N[mixing.src], mixing.n)


def _start(n: int) -> np.ndarray:
    x = np.sin(np.arange(1.0, n + 1.0) ** 2)  # fixed, and rich in all directions
    x -= x.mean()
    return x / np.linalg.norm(x)


def _lanczos(mixing: Mixing, steps: int = 400) -> tuple[float, float] | None:
    """Extreme eigenvalues of a symmetric W apart from the all-ones one, by Lanczos with full reorthogonalisation.

    None if after `steps` the residuals, which bound the errors, exceed a thousandth of the gap.
    """
    basis = np.zeros((min(steps, mixing.n - 1) + 1, mixing.n))
    basis[0] = _start(mixing.n)
    diagonal: list[float] = []
    off: list[float] = []
    for k in range(len(basis) - 1):
        y = _apply(mixing, basis[k])
        diagonal.append(float(basis[k] @ y))
        for _ in range(2):
            y -= basis[: k + 1].T @ (basis[: k + 1] @ y)
            y -= y.mean()
        size = float(np.linalg.norm(y))
        if k % 20 == 19 or size < 1e-13 or k == len(basis) - 2:
            values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
            residual = size * max(abs(vectors[-1, 0]), abs(vectors[-1, -1]))
            gap = 1.0 - max(abs(values[0]), abs(values[-1]))
            if residual <= 1e-3 * gap or size < 1e-13:
                return float(values[0]), float(values[-1])
        off.append(size)
        basis[k + 1] = y / size
    return None


def _power_gap(mixing: Mixing, steps: int = 1000) -> float | None:
    """1 - the growth per step of W on the complement of the all-ones vector; None if it has not settled."""
    x = _start(mixing.n)
    rates = []
    for _ in range(3):
        logs = 0.0
        for _ in range(steps):
            x = _apply(mixing, x)
            x -= x.mean()
            size = float(np.linalg.norm(x))
            if size == 0:
                return 1.0
            x /= size
            logs += float(np.log(size))
        rates.append(float(np.exp(logs / steps)))
    gap = 1.0 - rates[-1]
    return gap if abs(rates[-1] - rates[-2]) <= 1e-3 * gap else None
