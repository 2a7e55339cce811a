"""What the reproduction of HDO needs besides shipped parts: problems, data and two programs, all named in scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from simnet import streams
from simnet.algorithm import Algorithm, Program
from simnet.dataset import Dataset, Parts
from simnet.models.datasets.shipped import digits
from simnet.models.problems.mlp import MLP
from simnet.models.problems.quadratic import Quadratic
from simnet.models.problems.softmax import Softmax
from simnet.node import Node

if TYPE_CHECKING:
    from torch import Tensor

HERE = "simnet.analysis.reproduce.hdo_parts"


def standard_digits() -> Dataset:
    """Digits less the training rows' single mean, over their single standard deviation."""
    raw = digits()
    mean, deviation = raw.train_x.mean(), raw.train_x.std()
    x, test = ((rows - mean) / deviation for rows in (raw.train_x, raw.test_x))
    return Dataset("digits", x, raw.train_y, test, raw.test_y, raw.classes, raw.licence)


class Regression(Softmax):
    """Softmax regression from 0.05 N(0, I)."""

    def __init__(self, parts: Parts, seed: int = 0) -> None:
        super().__init__(parts)
        self.seed = seed

    def initial_point(self, name: str) -> np.ndarray:
        key = np.array([streams.key(self.seed, "HDO first point")], np.uint64)
        return 0.05 * streams.normal(key, self.dim)[0]


class UniformMLP(MLP):
    """64-32-10 from weights and biases uniform on +-1/sqrt(inputs of the layer)."""

    def initial_point(self, name: str) -> np.ndarray:
        key = np.array([streams.key(self.seed, "HDO first point")], np.uint64)
        u = 2.0 * streams.uniform(key, self.dim)[0] - 1.0
        for (inner, _), part in zip(
            [pair for pair in self.layers for _ in range(2)], self.slices.values(), strict=True
        ):
            u[part] /= np.sqrt(inner)
        return u


class Apart(Quadratic):
    """|x - c_i|^2/2 with the mean of the c_i at 0, where x begins: a step of 1 takes each node to its own c_i."""

    def __init__(self, nodes: int, seed: int = 0, *, dim: int) -> None:
        super().__init__(nodes, seed, dim=dim, condition=1.0, heterogeneity=0.0)
        c = np.random.default_rng(seed).normal(size=(nodes, dim))
        self.arrays = np.ones((nodes, 1)), c - c.mean(0)


class Cubic(Quadratic):
    """sum_k x_k^3/6, whose estimates at 0 are nothing but bias and noise."""

    closed_forms: ClassVar[bool] = False

    def __init__(self, nodes: int, seed: int = 0, *, dim: int) -> None:
        super().__init__(nodes, seed, dim=dim, condition=1.0, heterogeneity=0.0)

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        return x_D.pow(3).sum() / 6


@dataclass(frozen=True)
class Estimates(Algorithm):
    """Each round reports the estimate at the first point, afresh."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            node.report(x=g)


@dataclass(frozen=True)
class Mixes(Algorithm):
    """Each round takes every node to its own c_i, and averages each of `blocks` parts of it over pairs of its own draw.

    `pairwise`: one pair; else a matching. The consensus distance of a row is a sum over so many independent draws.
    """

    mixing: ClassVar[str | None] = None

    pairwise: bool = False
    blocks: int = 20

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        g = yield node.gradient(x)
        c = x - g
        size = c.shape[0] // self.blocks
        for _ in node.rounds():
            parts: list[Any] = []
            for b in range(self.blocks):
                over = node.pair() if self.pairwise else node.matchings()
                parts.append((yield node.gossip(c[b * size : (b + 1) * size], over=over)))
            node.report(x=torch.cat(parts))
