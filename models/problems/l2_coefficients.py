"""Which ridge coefficient for which feature: logistic regression below, its coefficients above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.bilevel_rows import LevelRows, LinearLevels

if TYPE_CHECKING:
    from torch import Tensor


class L2Coefficients(LinearLevels):
    """g_i = mean training log loss + (1/Y) sum_q exp(x_q) y_q^2;   f_i = mean validation log loss of y.

    One coefficient for each number of the linear model y (X = Y): logistic for two classes, softmax for more. Both
    start at zero. FLOP of a call: rows' matrix products, 8 Y a training row and 4 Y a validation row for all three.

    Args:
        parts: rows with classes and who holds them; a column of ones is added.
        validation: part of each node's rows that is the upper level's.
    """

    def __init__(self, parts: Parts, *, validation: float = 1 / 3) -> None:
        rows = LevelRows.of(parts, validation, type(self).__name__)
        self._begin(rows)

    def _begin(self, rows: LevelRows) -> None:
        numbers = rows.features.shape[1] * (1 if rows.classes == 2 else rows.classes)
        LinearLevels.__init__(self, rows, numbers, numbers)

    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        return self.linear_flop(oracle, upper, lower, 4.0 * self.dx)

    def row_weights(self, x_SX: Tensor, w_SB: Tensor, number_SB: Tensor) -> Tensor:
        return w_SB

    def ridge(self, x_SX: Tensor) -> Tensor:
        return 2 / self.dy * torch.exp(x_SX)

    def cross(self, x_SX: Tensor, y_SY: Tensor, v_SY: Tensor, w_SB: Tensor, number_SB: Tensor, slope_SB: Any) -> Tensor:
        return self.ridge(x_SX) * y_SY * v_SY


class SyntheticL2Coefficients(L2Coefficients):
    """The same on drawn rows: labels are logistic in half of the features, and nodes differ in shift and scale.

    Args:
        dim: features, and coefficients.
        train, validation_rows: rows of each node at the lower and at the upper level.
        het: how far the nodes' features lie apart.
        instance: the number of the generator that draws them.
    """

    def __init__(
        self,
        nodes: int,
        *,
        dim: int = 20,
        train: int = 200,
        validation_rows: int = 100,
        het: float = 1.0,
        instance: int = 0,
    ) -> None:
        if min(dim, train, validation_rows) < 1 or not het >= 0:
            raise InputError(
                f"SyntheticL2Coefficients: dim = {dim}, train = {train}, validation_rows = {validation_rows}, "
                f"het = {het}; give at least 1 of each, and het of at least 0"
            )
        each, rng = train + validation_rows, np.random.default_rng(instance)
        w = rng.standard_normal(dim) * (rng.random(dim) < 0.5) * 2
        scale = np.exp(0.5 * het * rng.standard_normal((nodes, 1, dim)))
        shift = 0.5 * het * rng.standard_normal((nodes, 1, dim))
        X = (rng.standard_normal((nodes, each, dim)) + shift) * scale
        t = rng.random((nodes, each)) < 1 / (1 + np.exp(-(X @ w)))
        rows = np.arange(nodes * each).reshape(nodes, each)
        held = LevelRows(
            X.reshape(-1, dim), t.reshape(-1).astype(np.int64), list(rows[:, train:]), list(rows[:, :train])
        )
        self._begin(held)
