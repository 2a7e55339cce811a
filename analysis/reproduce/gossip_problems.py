"""The problems of the reproduction of several compressed gossip steps, and what linear algebra predicts for them.

Legend: n nodes, d numbers, m rows a node; H (n, d, d) and c (n, d) with grad f_i(x) = H_i x - c_i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.dataset import Dataset, Parts
from simnet.lazy import torch
from simnet.models.problems.linear import LinearRegression
from simnet.models.problems.logistic import Logistic
from simnet.models.problems.quadratic import Quadratic

if TYPE_CHECKING:
    from torch import Tensor


class Points(Quadratic):
    """f_i(x) = |x - c_i|^2 / 2, and node i begins at its c_i: to minimise f is to average the c_i."""

    @classmethod
    def of(cls, c_ND: np.ndarray) -> Points:
        """From what is averaged, (n, d)."""
        problem = cls(len(c_ND), dim=c_ND.shape[1])
        problem.arrays = np.ones((len(c_ND), 1)), c_ND
        return problem

    def own_points(self, name: str) -> np.ndarray:
        return self.arrays[1]


def points(n: int = 25, d: int = 500) -> Points:
    """Standard normal rows, each with an offset of its own three times as large."""
    generator = np.random.default_rng(0)
    return Points.of(generator.normal(size=(n, d)) + 3.0 * generator.normal(size=(n, 1)))


class Skewed:
    """Least squares of rank 40 in 60 dimensions over 16 nodes whose own solutions lie far apart."""

    def __init__(self) -> None:
        g = np.random.default_rng(0)
        n, d, m, r = 16, 60, 10, 40
        basis = np.linalg.qr(g.normal(size=(d, r)))[0]
        self.A = (g.normal(size=(n, m, r)) * np.linspace(1, 1 / np.sqrt(10), r)) @ basis.T
        true, noise, own = g.normal(size=d), g.normal(size=(n, m)), g.normal(size=(n, d, 1))
        self.b = self.A @ true + 0.1 * noise + (self.A @ own)[..., 0]
        self.H = np.einsum("nmi,nmj->nij", self.A, self.A) / m
        self.c = np.einsum("nmi,nm->ni", self.A, self.b) / m
        self.n, self.d, self.eta = n, d, 1 / 5.533
        values = np.linalg.eigvalsh(self.H.mean(0))
        self.mu = float(values[values > 1e-9 * values[-1]][0])
        self.L = float(np.linalg.eigvalsh(self.H)[:, -1].max())
        self.best = np.linalg.lstsq(self.H.mean(0), self.c.mean(0), rcond=1e-12)[0]

    @property
    def problem(self) -> LinearRegression:
        """The same as a problem of simnet."""
        n, m, d = self.A.shape
        data = Dataset("skewed rows", self.A.reshape(-1, d), self.b.reshape(-1))
        return LinearRegression(Parts(data, list(np.arange(n * m).reshape(n, m))))

    def gap(self, x_D: np.ndarray) -> float:
        """f(x) - f*."""
        off = x_D - self.best
        return float(0.5 * off @ self.H.mean(0) @ off)

    def gradient(self, x_ND: np.ndarray) -> np.ndarray:
        """Row i: grad f_i(x_i)."""
        return np.einsum("nij,nj->ni", self.H, x_ND) - self.c

    def fixed_point(self, w_NN: np.ndarray, gamma: float, Q: int) -> np.ndarray:
        """The X of least norm with X = W_gamma^Q (X - eta (H X - c)), W_gamma = (1 - gamma) I + gamma W; (n, d)."""
        n, d = self.n, self.d
        mix = np.linalg.matrix_power((1 - gamma) * np.eye(n) + gamma * w_NN, Q)
        step = np.eye(d) - self.eta * self.H  # (n, d, d)
        matrix = np.eye(n * d) - np.einsum("ij,jab->iajb", mix, step).reshape(n * d, n * d)
        right = (mix @ (self.eta * self.c)).reshape(-1)
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=1e-11)[0].reshape(n, d))


class Apart:
    """For problems whose nodes begin at normal points of their own, of length about 1."""

    nodes: int
    dim: int

    def own_points(self, name: str) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(self.nodes, self.dim)) / np.sqrt(self.dim)


class Regression(Apart, LinearRegression):
    """Linear regression from there."""


class SortedDigits(Apart, Logistic):
    """Logistic regression from there."""


class ReLURegression(Apart, LinearRegression):
    """f_i(x) = 1/(2 n_i) |max(A_i x, 0) - y_i|^2 + (l2/2) |x|^2: not convex."""

    closed_forms = False

    def row_losses(self, z_S1B: Tensor, y_SB: Tensor) -> Tensor:
        return 0.5 * (torch.relu(z_S1B[:, 0]) - y_SB).square()

    def optimum(self) -> None:
        return None


def synthetic(n: int, relu: bool, d: int = 200, rows: int = 1000) -> LinearRegression:
    """The synthetic data of the paper, scaled down: normal features, dealt out evenly, noise 0.05, l2 0.001."""
    g = np.random.default_rng(0)
    true, A = g.normal(1.0, 1.0, d) / np.sqrt(d / 2), g.normal(size=(rows, d))
    y = A @ true
    y = (np.maximum(y, 0.0) if relu else y) + 0.05 * g.normal(size=rows)
    kind: Any = ReLURegression if relu else Regression
    made: LinearRegression = kind(Parts(Dataset("synthetic", A, y), np.array_split(np.arange(rows), n)), l2=0.001)
    return made


def sorted_digits(n: int) -> SortedDigits:
    """Digits 4 and 9, sorted by label and cut into blocks, the last of which takes the rest."""
    from simnet.models.datasets.shipped import digits

    data = digits()
    x, y = np.concatenate((data.train_x, data.test_x)), np.concatenate((data.train_y, data.test_y))
    chosen = np.flatnonzero((y == 4) | (y == 9))
    order = chosen[np.argsort(y[chosen], kind="stable")]
    blocks = np.split(np.arange(len(order)), len(order) // n * np.arange(1, n))
    return SortedDigits(Parts(Dataset("4 against 9", x[order], (y[order] == 9).astype(np.int64), classes=2), blocks))
