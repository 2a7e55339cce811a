"""A representation that all nodes share, chosen for how well a linear model does on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from simnet import streams
from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.bilevel_rows import LevelRows, RowLevels

if TYPE_CHECKING:
    from torch import Tensor


class HyperRepresentation(RowLevels):
    """Features phi(A W) of rows A: W (F, hidden) is the upper level's x, a linear model on them the lower level's y.

        g_i = mean training log loss of y + l2 |y|^2,    f_i = mean validation log loss of y

    The small task of meta-learning: W is good if a head fitted to training rows does well on others. Strongly convex in
    y, not convex in W, which begins at normal numbers of variance 1/F. No closed forms.
    FLOP of a call on B rows: a forward pass takes 2 B hidden (F + C), a gradient three times that, a product nine.

    Args:
        parts: rows with classes and who holds them; a column of ones is added.
        hidden: features that the model sees.
        activation: phi; its second derivatives are needed.
        l2: ridge coefficient on y, above 0.
        validation: part of each node's rows that is the upper level's.
    """

    def __init__(
        self, parts: Parts, seed: int = 0, *, hidden: int = 8,
        activation: Literal["tanh", "softplus", "sigmoid", "relu"] = "tanh", l2: float = 0.01, validation: float = 0.5,
    ) -> None:  # fmt: skip
        if hidden < 1 or not 0 < l2 < float("inf"):
            raise InputError(f"HyperRepresentation: hidden = {hidden}, l2 = {l2}; give at least 1, and l2 above 0")
        rows = LevelRows.of(parts, validation, "HyperRepresentation")
        self.seed, self.hidden, self.activation, self.l2 = seed, hidden, activation, l2
        self.heads = 1 if rows.classes == 2 else rows.classes
        super().__init__(rows, rows.features.shape[1] * hidden, hidden * self.heads)

    def initial_point(self, name: str) -> np.ndarray:
        if name != "x":
            return super().initial_point(name)
        drawn = streams.normal(np.array([streams.key(self.seed, "representation")], np.uint64), self.dx)[0]
        scaled: np.ndarray = drawn / np.sqrt(self.rows.features.shape[1])
        return scaled

    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        forward = 2.0 * self.hidden * (self.rows.features.shape[1] + self.heads)
        first, second = {
            "hx": (3, 9), "hy": (0, 3), "hz": (3, 9), "directions": (3, 9), "upper": (3, 0), "gyy": (0, 9),
            "gxy": (0, 9), "gyy_matrix": (0, 3 + 6 * self.dy), "gxy_matrix": (0, 3 + 6 * self.dy),
            "gyy_solve": (0, 3 + 6 * (self.dx + self.dy)),
        }[oracle]  # fmt: skip
        return forward * (first * np.asarray(upper) + second * np.asarray(lower))

    def scores(self, x_X: Tensor, y_Y: Tensor, X_BF: Tensor) -> Tensor:
        bend = {"softplus": torch.nn.functional.softplus}.get(self.activation) or getattr(torch, self.activation)
        seen_BH = bend(X_BF @ x_X.view(-1, self.hidden))
        said = seen_BH @ y_Y.view(self.hidden, self.heads)
        return said[:, 0] if self.heads == 1 else said

    def lower_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        X_BF, t_B, w_B, _ = data
        return w_B @ self.row_losses(self.scores(x_X, y_Y, X_BF), t_B) + self.l2 * y_Y.square().sum()
