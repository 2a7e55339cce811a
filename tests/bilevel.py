"""Two levels for the tests: the quadratic instance by numpy, matrix forms to hold algorithms against, and scenarios.

Legend: N nodes, X and Y numbers of x and y. Rows of a state are the nodes'.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import torch

import simnet
from simnet.algorithm import Algorithm
from simnet.bilevel import BilevelProblem
from simnet.record import Record

Array = np.ndarray
State = tuple[Array, Array, Array]


class Levels:
    """Q1 of eight nodes, drawn here once more: A, B, b, c, e and the exact oracles of all nodes at once."""

    def __init__(self, n: int = 8, dx: int = 5, dy: int = 10, het: float = 1.0, rho: float = 0.1) -> None:
        rng = np.random.default_rng(0)
        m = rng.standard_normal((n, dy, dy))
        B = rng.standard_normal((n, dy, dx)) / np.sqrt(dx)
        parts = [np.eye(dy) + np.einsum("nij,nkj->nik", m, m) / dy, np.sqrt(n) * B.mean(0) + B - B.mean(0)]
        parts += [rng.standard_normal((n, size)) for size in (dy, dy, dx)]
        self.A, self.B, self.b, self.c, self.e = (v.mean(0) + het * (v - v.mean(0)) for v in parts)
        self.rho, self.n, self.dx, self.dy = rho, n, dx, dy

    @property
    def start(self) -> State:
        return np.zeros((self.n, self.dx)), np.zeros((self.n, self.dy)), np.zeros((self.n, self.dy))

    def hx(self, x: Array, y: Array, z: Array) -> Array:
        found: Array = self.rho * (x - self.e) + np.einsum("nyx,ny->nx", self.B, z)
        return found

    def hy(self, x: Array, y: Array) -> Array:
        found: Array = np.einsum("nij,nj->ni", self.A, y) - np.einsum("nyx,nx->ny", self.B, x) - self.b
        return found

    def hz(self, x: Array, y: Array, z: Array) -> Array:
        found: Array = np.einsum("nij,nj->ni", self.A, z) - (y - self.c)
        return found

    def value(self, x: Array) -> float:
        """F(x)."""
        y = np.linalg.solve(self.A.mean(0), self.B.mean(0) @ x + self.b.mean(0))
        upper = 0.5 * ((y - self.c) ** 2).sum(1) + 0.5 * self.rho * ((x - self.e) ** 2).sum(1)
        return float(upper.mean())


def uniform_ring(n: int) -> Array:
    """W of a ring, a third for each neighbour and for the node itself."""
    w = nx.to_numpy_array(nx.cycle_graph(n)) + np.eye(n)
    scaled: Array = w / w.sum(1)
    return scaled


def scenario(algorithm: Algorithm, rounds: int, graph: str = "ring", **more: Any) -> dict[str, Any]:
    """Q1 on eight nodes with weights of a third, in float64, each section replaceable."""
    made: dict[str, Any] = {
        "network": {"nodes": 8, "graph": graph, "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}},
        "mixing": "uniform",
        "nodes": {"step": "1 ms"},
        "problem": {"name": "BilevelQuadratic"},
        "algorithm": algorithm,
        "rounds": rounds,
        "evaluate_every": rounds,
        "execution": {"dtype": "float64"},
    }
    return made | more


def run(algorithm: Algorithm, rounds: int, graph: str = "ring", **more: Any) -> Record:
    """Run such a scenario."""
    return simnet.run(scenario(algorithm, rounds, graph, **more))


def close(record: Record, state: State, within: float = 1e-11) -> None:
    """The final x, y, z are those of the matrix form."""
    for name, expected in zip("xyz", state, strict=True):
        np.testing.assert_allclose(record.final[name], expected, rtol=0, atol=within * np.abs(expected).max())


def prepared(problem: BilevelProblem, kernels: Any = "closed") -> Any:
    problem.prepare("cpu", torch.float64, kernels)
    return problem


def operands(problem: BilevelProblem, oracle: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(problem.nodes, *shape, generator=generator, dtype=torch.float64)
            for shape in problem.oracles()[oracle].takes]  # fmt: skip
