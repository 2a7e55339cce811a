"""Matrix forms to hold the algorithms against, and the reference problem P0. Nothing here uses the kernel's sums.

Legend: N nodes, D numbers per node, K exchanges of a run. Rows of X_ND are the nodes' states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import numpy as np

from simnet.models.problems.quadratic import Quadratic
from simnet.record import Record

Array = np.ndarray
Mix = Callable[[Array], Array]  # one exchange; each call is the next
Gradient = Callable[[Array], Array]


class Quadratics:
    """f_i(x) = a_i/2 |x - c_i|^2: as arrays for the matrix forms, and as the problem of a scenario."""

    def __init__(self, a_N1: Array, c_ND: Array) -> None:
        self.a, self.c = a_N1, c_ND

    @classmethod
    def reference(cls, copies: int = 1) -> Quadratics:
        """P0: 16 nodes, 5 numbers, generator 0; or several copies of it side by side."""
        generator = np.random.default_rng(0)
        a = generator.uniform(0.5, 2.0, (16, 1))
        c = 2.0 * generator.normal(size=(16, 5))
        return cls(np.tile(a, (copies, 1)), np.tile(c, (copies, 1)))

    @classmethod
    def drawn(cls, nodes: int, dim: int) -> Quadratics:
        generator = np.random.default_rng(nodes * 100 + dim)
        return cls(generator.uniform(0.5, 2.0, (nodes, 1)), generator.normal(size=(nodes, dim)))

    @property
    def problem(self) -> Quadratic:
        return Quadratic.from_arrays(self.a, self.c)

    @property
    def start(self) -> Array:
        return np.zeros_like(self.c)

    @property
    def optimum(self) -> Array:
        best: Array = (self.a * self.c).sum(0) / self.a.sum()
        return best

    def gradient(self, x_ND: Array) -> Array:
        return self.a * (x_ND - self.c)

    def error(self, x_ND: Array) -> float:
        """mean_i |x_i - x*|^2."""
        return float(((x_ND - self.optimum) ** 2).sum(1).mean())

    def scenario(self, algorithm: Any, graph: Any = "ring", rounds: int = 12, **sections: Any) -> dict[str, Any]:
        """A scenario of it that keeps the last round alone; a `network` section is added to the graph's."""
        network = {"graph": graph} if isinstance(graph, nx.Graph) else {"nodes": len(self.c), "graph": graph}
        return {
            "name": "dense",
            "problem": self.problem,
            "algorithm": algorithm,
            "rounds": rounds,
            "evaluate_every": rounds,
            "execution": {"dtype": "float64"} | sections.pop("execution", {}),
            "record": {"timeline": False, "messages": True} | sections.pop("record", {}),
            "network": network | sections.pop("network", {}),
            **sections,
        }


# ---- mixing ---------------------------------------------------------------------------------------------------------


def metropolis(graph: nx.Graph) -> Array:
    """W_ij = 1/(1 + max degree of the two), the rest on the diagonal."""
    w_NN = np.zeros((len(graph), len(graph)))
    for i, j in graph.edges:
        w_NN[i, j] = w_NN[j, i] = 1.0 / (1 + max(graph.degree[i], graph.degree[j]))
    return w_NN + np.diag(1.0 - w_NN.sum(1))


def uniform(graph: nx.DiGraph) -> Array:
    """W_ij = 1/(1 + indegree of i) for j -> i and for i itself."""
    w_NN = nx.to_numpy_array(graph, nodelist=range(len(graph))).T + np.eye(len(graph))
    normalised: Array = w_NN / w_NN.sum(1, keepdims=True)
    return normalised


def arrived(record: Record, n: int) -> Iterator[Array]:
    """For each exchange in order, the (N, N) mask of [receiver, sender] whose message came in time."""
    m = record.messages
    for exchange in np.unique(m["exchange"]):
        of = m["exchange"] == exchange
        got_NN = np.eye(n, dtype=bool)
        got_NN[m["target"][of], m["source"][of]] = m["delivered"][of].astype(bool)
        yield got_NN


def mixer(w_NN: Array, record: Record | None = None) -> Mix:
    """W x, or with the record of a run what its messages made of it: a missing row is replaced by one's own."""
    masks = None if record is None else arrived(record, len(w_NN))

    def mix(x_ND: Array) -> Array:
        if masks is None:
            return w_NN @ x_ND
        kept_NN = np.where(next(masks), w_NN, 0.0)
        product: Array = kept_NN @ x_ND + (1.0 - kept_NN.sum(1, keepdims=True)) * x_ND
        return product

    return mix


# ---- matrix forms, row by row of the literature ---------------------------------------------------------------------


def dpsgd(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    for _ in range(rounds):
        x = mix(x - eta * gradient(x))
    return x


def dpsgd_overlap(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    for _ in range(rounds):
        x = mix(x) - eta * gradient(x)
    return x


def diging(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    g = y = gradient(x)
    for _ in range(rounds):
        d = x.shape[1]
        both = mix(np.hstack((x, y)))  # one message, lost or delivered as one
        x, (g, before) = both[:, :d] - eta * y, (g, g)
        g = gradient(x)
        y = both[:, d:] + g - before
    return x


def gradient_tracking(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    g = y = gradient(x)
    for _ in range(rounds):
        d = x.shape[1]
        both = mix(np.hstack((x - eta * y, y)))
        x, before = both[:, :d], g
        g = gradient(x)
        y = both[:, d:] + g - before
    return x


def aug_dgm(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    g = y = gradient(x)
    for _ in range(rounds):
        x, before = mix(x - eta * y), g
        g = gradient(x)
        y = mix(y + g - before)
    return x


def d2(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    x_before, g_before = x, gradient(x)
    x = mix(x - eta * g_before)
    for _ in range(rounds - 1):
        g = gradient(x)
        x, x_before, g_before = mix(2 * x - x_before - eta * (g - g_before)), x, g
    return x


def exact_diffusion(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    psi = x
    for _ in range(rounds):
        psi, old = x - eta * gradient(x), psi
        phi = psi + x - old
        x = 0.5 * (phi + mix(phi))
    return x


def all_reduce(gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    for _ in range(rounds):
        x = x - eta * gradient(x).mean(0)
    return x


def local_sgd(gradient: Gradient, x: Array, eta: float, steps: int, samples: list[Array]) -> Array:
    """`samples`: the nodes that take part, round by round; everybody gets the average."""
    for chosen in samples:
        local = x
        for _ in range(steps):
            local = local - eta * gradient(local)
        x = np.broadcast_to(local[chosen].mean(0), x.shape)
    return x


MATRIX_FORMS: dict[str, Callable[[Mix, Gradient, Array, float, int], Array]] = {
    "DPSGD": dpsgd,
    "DPSGDOverlap": dpsgd_overlap,
    "DIGing": diging,
    "GradientTracking": gradient_tracking,
    "AugDGM": aug_dgm,
    "D2": d2,
    "ExactDiffusion": exact_diffusion,
}
