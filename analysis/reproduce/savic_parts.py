"""What the reproduction of SAVIC needs besides shipped parts: its quadratics and first points, named in scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import simnet
from simnet import streams
from simnet.analysis.reproduce.workers import side_by_side
from simnet.dataset import Parts
from simnet.models.problems.mlp import MLP
from simnet.models.problems.quadratic import Quadratic
from simnet.models.problems.softmax import Softmax

HERE = "simnet.analysis.reproduce.savic_parts"
OASIS: dict[str, Any] = {"name": "oasis", "beta": 0.999, "warm_up": 1}  # one statistic is exact: a Hessian is diagonal


class Scaled(Quadratic):
    """(x - b_m)' diag(a_m) (x - b_m)/2 with a log-spaced on [1, condition] and shuffled.

    Args:
        condition: kappa.
        apart: a_m = a exp(U(-apart, apart)), drawn for each node and coordinate.
        common: one b ~ N(0, I) for all nodes, else b_m = b + N(0, I).
        repeats: each a stands for so many coordinates, for means over more draws.
        noise: as in Quadratic.
    """

    def __init__(
        self, nodes: int, seed: int = 0, *, condition: float, dim: int = 100, apart: float = 0.0, common: bool = False,
        noise: float = 0.0, repeats: int = 1,
    ) -> None:  # fmt: skip
        dim *= repeats
        super().__init__(nodes, seed, dim=dim, condition=condition, noise=noise)
        rng = np.random.default_rng(3)
        a = rng.permutation(np.repeat(np.logspace(0, np.log10(condition), dim // repeats), repeats))
        b = rng.normal(size=dim) + (0.0 if common else 1.0) * rng.normal(size=(nodes, dim))
        self.arrays = a * np.exp(rng.uniform(-apart, apart, (nodes, dim))), b

    @property
    def size(self) -> float:
        """|x*|^2: the squared distance at the start, which is 0."""
        a, b = self.arrays
        return float((((a * b).sum(0) / a.sum(0)) ** 2).sum())


class Regression(Softmax):
    """Softmax regression from N(0, I/64)."""

    def __init__(self, parts: Parts, seed: int = 0) -> None:
        super().__init__(parts)
        self.seed = seed

    def initial_point(self, name: str) -> np.ndarray:
        return _first(self.seed, self.dim)


class Network(MLP):
    """64-32-10 with tanh, weights and biases from N(0, I/64)."""

    def __init__(self, parts: Parts, seed: int = 0) -> None:
        super().__init__(parts, seed, hidden=32, activation="tanh")

    def initial_point(self, name: str) -> np.ndarray:
        return _first(self.seed, self.dim)


def _first(seed: int, dim: int) -> np.ndarray:
    drawn: np.ndarray = streams.normal(np.array([streams.key(seed, "SAVIC first point")], np.uint64), dim)[0] / 8.0
    return drawn


# ---- runs ----------------------------------------------------------------------------------------------------------

COLUMNS = ("objective", "accuracy", "distance_to_optimum", "wire_bytes")


def scenario(problem: dict[str, Any], algorithm: dict[str, Any], rounds: int, nodes: int = 10, **more: Any) -> Any:
    """A run of so many rounds, averaged through a server; every oracle takes 10 ms."""
    told = {
        "network": {"nodes": nodes, "graph": "complete"}, "nodes": {"step": 0.01}, "problem": problem,
        "algorithm": {"name": "SAVIC"} | algorithm, "rounds": rounds, "evaluate_every": 1,
        "record": {"timeline": False},
    }  # fmt: skip
    return told | more


def run(told: dict[str, Any]) -> dict[str, list[float]]:
    """The columns of a run's rounds that the experiments look at."""
    record = simnet.run(told)
    return {name: record.rounds[name].tolist() for name in COLUMNS if name in record.rounds}


def runs(told: Sequence[Any]) -> Iterator[dict[str, list[float]]]:
    """Runs, two at a time, in order."""
    return side_by_side(run, [[each] for each in told])
