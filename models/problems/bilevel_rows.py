"""Bilevel problems on rows of data: each node holds training rows (lower level) and validation rows (upper level).

    g_i(x, y) = sum_r q_r(x) loss(y; row r) + ridge,    f_i(x, y) = mean over validation rows of loss(y; row)

with a linear model y: logistic for two classes (Y = F), softmax for more (Y = F C, flat). Closed forms for two classes.

Legend: N nodes, S of a call, X and Y numbers of x and y, B rows, F features, C classes, M rows in total.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet.bilevel import BilevelProblem, Level
from simnet.dataset import Parts
from simnet.errors import DataError, InputError
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LevelRows:
    """Features (M, F) and labels (M,) of 0 .. classes-1; which rows each node has at each level; rows for testing."""

    features: np.ndarray
    labels: np.ndarray
    upper: list[np.ndarray]
    lower: list[np.ndarray]
    classes: int = 2
    test: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.zeros((0, 0)), np.zeros(0, np.int64)))

    @classmethod
    def of(cls, parts: Parts, validation: float, name: str) -> LevelRows:
        """The rows of a dataset with a column of ones; a part `validation` of each node's is held out."""
        data = parts.dataset
        if data.classes is None:
            raise DataError(f"{name} classifies, but the labels of {data.name} are real numbers")
        if not 0 < validation < 1:
            raise InputError(f"{name}: validation = {validation}; give a part of the rows between 0 and 1")
        upper, lower = [], []
        for node, rows in enumerate(parts.rows):
            if len(rows) < 2:
                raise DataError(
                    f"{data.name}: node {node} holds {len(rows)} row, and both levels need one; take fewer nodes, or "
                    "another split"
                )
            count = min(max(int(len(rows) * validation), 1), len(rows) - 1)
            number = np.arange(len(rows))
            held = (number + 1) * count // len(rows) > number * count // len(rows)  # spread over the rows
            upper.append(rows[held])
            lower.append(rows[~held])
        test = (_with_ones(data.test_x), data.test_y) if data.has_test else (np.zeros((0, 0)), np.zeros(0, np.int64))
        return cls(_with_ones(data.train_x), data.train_y, upper, lower, data.classes, test)


def _with_ones(x_MF: np.ndarray) -> np.ndarray:
    return np.concatenate([x_MF, np.ones((len(x_MF), 1))], 1)


class RowLevels(BilevelProblem):
    """The base of bilevel problems on rows; a subclass says what x does to the lower level.

    Args:
        rows: features, labels, and who holds what.
        dx: X.
        dy: Y.
    """

    def __init__(self, rows: LevelRows, dx: int, dy: int) -> None:
        sizes = [np.array([len(r) for r in level]) for level in (rows.upper, rows.lower)]
        super().__init__(len(rows.lower), dx, dy, *sizes)
        self.rows, self.row_numbers = rows, rows.features.shape[1]

    def data_bytes(self, itemsize: int) -> int:
        return itemsize * (self.rows.features.size + self.rows.labels.size + self.rows.test[0].size)

    def load(self, device: Any, dtype: Any) -> None:
        rows = self.rows
        labels = np.int64 if rows.classes > 2 else np.float64
        self._X_MF = torch.as_tensor(rows.features, dtype=dtype, device=device).contiguous()
        self._t_M = torch.as_tensor(rows.labels.astype(labels), device=device)
        self._t_M = self._t_M if rows.classes > 2 else self._t_M.to(dtype)
        self._test = tuple(torch.as_tensor(part, device=device) for part in rows.test)
        self._tables = {level: self._table(held) for level, held in (("upper", rows.upper), ("lower", rows.lower))}

    def _table(self, held: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Row numbers (N, most), weights (N, most) that are zero for padding, and the number of a node's first row."""
        sizes = np.array([len(rows) for rows in held])
        table = np.stack([np.pad(rows, (0, sizes.max() - len(rows)), mode="edge") for rows in held])
        weights = (np.arange(sizes.max()) < sizes[:, None]) / sizes[:, None]
        return (
            self._indices(table),
            torch.as_tensor(weights, dtype=self.dtype, device=self.device),
            self._indices(np.cumsum(sizes) - sizes),
        )

    def level_data(self, level: Level, nodes_S: Tensor, rows_SB: Tensor | None) -> tuple[Tensor, ...]:
        """X (S, B, F), labels (S, B), weights (S, B), and each row's number among all rows of the level (S, B)."""
        table, weight, first = self._tables[level]
        if rows_SB is None:
            held, w_SB = table[nodes_S], weight[nodes_S]
            place = torch.arange(held.shape[1], device=self.device).expand_as(held)
        else:
            held, place = table[nodes_S].gather(1, rows_SB), rows_SB
            w_SB = torch.full(rows_SB.shape, 1.0 / rows_SB.shape[1], dtype=self.dtype, device=self.device)
        # padding stands for the row before it, with weight 0
        number = first[nodes_S][:, None] + torch.where(w_SB > 0, place, 0)
        return self._X_MF[held], self._t_M[held], w_SB, number

    @abstractmethod
    def scores(self, x_X: Tensor, y_Y: Tensor, X_BF: Tensor) -> Tensor:
        """What the model says of rows: (B,) for two classes, else (B, C)."""

    def row_losses(self, scores: Tensor, t_B: Tensor) -> Tensor:
        """The log loss of each row, (B,)."""
        if self.rows.classes == 2:
            return torch.nn.functional.softplus(scores) - t_B * scores
        return torch.logsumexp(scores, -1) - scores.gather(-1, t_B[..., None])[..., 0]

    def upper_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        X_BF, t_B, w_B, _ = data
        return w_B @ self.row_losses(self.scores(x_X, y_Y, X_BF), t_B)

    def accuracy(self, x_X: Tensor, y_Y: Tensor) -> Tensor:
        """The part of test rows that the model has right."""
        X_MF, t_M = self._test
        said = self.scores(x_X, y_Y, X_MF.to(y_Y.dtype))
        right = (said > 0) == t_M if self.rows.classes == 2 else said.argmax(1) == t_M
        return right.to(torch.float64).mean()

    def state_metrics(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        found = super().state_metrics(means)
        if "y" in means and len(self._test[1]):
            found["accuracy_mean_model"] = self.accuracy(means["x"], means["y"])
        return found


class LinearLevels(RowLevels):
    """A linear model y, weights q_r(x) of the training rows, and a ridge sum_q rho_q(x) y_q^2 / 2."""

    closed_forms: ClassVar[bool] = True

    def scores(self, x_X: Tensor, y_Y: Tensor, X_BF: Tensor) -> Tensor:
        if self.rows.classes == 2:
            return (y_Y[None] @ X_BF.mT)[0]  # the row form, far quicker than the column form
        return X_BF @ y_Y.view(-1, self.rows.classes)

    @abstractmethod
    def row_weights(self, x_SX: Tensor, w_SB: Tensor, number_SB: Tensor) -> Tensor:
        """q, (..., B)."""

    @abstractmethod
    def ridge(self, x_SX: Tensor) -> Tensor:
        """rho, (..., Y) or a number."""

    @abstractmethod
    def cross(self, x_SX: Tensor, y_SY: Tensor, v_SY: Tensor, w_SB: Tensor, number_SB: Tensor, slope_SB: Any) -> Tensor:
        """Gxy v, (S, X); `slope_SB()` is the derivative of each row's loss along v."""

    def lower_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        X_BF, t_B, w_B, number_B = data
        loss = self.row_weights(x_X, w_B, number_B) @ self.row_losses(self.scores(x_X, y_Y, X_BF), t_B)
        return loss + 0.5 * (self.ridge(x_X) * y_Y.square()).sum()

    def upper_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        X_SBF, t_SB, w_SB, _ = data
        return (w_SB * self._losses(y_SY, X_SBF, t_SB)).sum(1)

    def lower_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        X_SBF, t_SB, w_SB, number_SB = data
        loss_S = (self.row_weights(x_SX, w_SB, number_SB) * self._losses(y_SY, X_SBF, t_SB)).sum(1)
        return loss_S + 0.5 * (self.ridge(x_SX) * y_SY.square()).sum(1)

    def _losses(self, y_SY: Tensor, X_SBF: Tensor, t_SB: Tensor) -> Tensor:
        """Of each row, (S, B)."""
        if self.rows.classes == 2:
            return self.row_losses(_scores(y_SY, X_SBF), t_SB)
        return self.row_losses(torch.bmm(X_SBF, y_SY.view(len(y_SY), -1, self.rows.classes)), t_SB)

    def closed_answers(
        self, oracle: str, operands: list[Tensor], upper: tuple[Tensor, ...], lower: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        if self.rows.classes > 2 or oracle in ("gyy_solve", "gxy_matrix"):
            return None
        x_SX, y_SY = operands[:2]
        fx: Any = None
        fy: Any = None
        if upper:
            fx, fy = self._upper(x_SX, y_SY, upper)
        if oracle == "upper":
            return fx, fy
        X_SBF, t_SB, w_SB, number_SB = lower
        q_SB, rho = self.row_weights(x_SX, w_SB, number_SB), self.ridge(x_SX)
        if oracle == "gyy_matrix":
            s_SB = torch.sigmoid(_scores(y_SY, X_SBF))
            bend_SB = q_SB * s_SB * (1 - s_SB)
            hessian = torch.bmm(X_SBF.mT, bend_SB[:, :, None] * X_SBF)
            hessian.diagonal(dim1=1, dim2=2).add_(rho)
            return (hessian.flatten(1),)
        if oracle == "hy":
            gap_SB = torch.sigmoid(_scores(y_SY, X_SBF)) - t_SB
            return (_back(q_SB * gap_SB, X_SBF) + rho * y_SY,)
        v_SY = operands[2]
        both_S2B = torch.bmm(torch.stack((y_SY, v_SY), 1), X_SBF.mT)  # y and z through the rows at once
        s_SB, along_SB = torch.sigmoid(both_S2B[:, 0]), both_S2B[:, 1]
        gap_SB = s_SB - t_SB
        cross: Any = None
        if oracle in ("directions", "hx", "gxy"):
            cross = self.cross(x_SX, y_SY, v_SY, w_SB, number_SB, lambda: gap_SB * along_SB)
            if oracle != "directions":
                return (cross if oracle == "gxy" else fx - cross,)
        bend_SB = q_SB * s_SB * (1 - s_SB) * along_SB
        if oracle in ("hz", "gyy"):
            product = _back(bend_SB, X_SBF) + rho * v_SY
            return (product if oracle == "gyy" else product - fy,)
        back_S2Y = torch.bmm(torch.stack((q_SB * gap_SB, bend_SB), 1), X_SBF)
        return fx - cross, back_S2Y[:, 0] + rho * y_SY, back_S2Y[:, 1] + rho * v_SY - fy

    def _upper(self, x_SX: Tensor, y_SY: Tensor, data: tuple[Tensor, ...]) -> tuple[Any, Any]:
        X_SBF, t_SB, w_SB, _ = data
        return torch.zeros_like(x_SX), _back(w_SB * (torch.sigmoid(_scores(y_SY, X_SBF)) - t_SB), X_SBF)

    def linear_flop(
        self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float, cross: np.ndarray | float
    ) -> np.ndarray | float:
        """FLOP of matrix products alone: a pass over a row is 2 Y, there or back; `cross` of Gxy v."""
        dx, dy = self.dx, self.dy
        row = {
            "hx": 0.0, "hy": 4.0 * dy, "hz": 6.0 * dy, "directions": 8.0 * dy, "upper": 0.0, "gyy": 6.0 * dy,
            "gxy": 0.0, "gyy_matrix": 2.0 * dy + 2.0 * dy * self.rows.features.shape[1], "gxy_matrix": 0.0,
            "gyy_solve": 2.0 * dy + 2.0 * dy * self.rows.features.shape[1],
        }[oracle]  # fmt: skip
        reads_upper = 4.0 * dy if oracle in ("upper", "hz", "directions") else 0.0
        more = cross if oracle in ("hx", "gxy", "directions", "gxy_matrix", "gyy_solve") else 0.0
        whole = 2.0 * dx * dy * dy if oracle == "gyy_solve" else 0.0
        return row * np.asarray(lower) + reads_upper * np.asarray(upper) + more + whole


def _scores(y_SY: Tensor, X_SBF: Tensor) -> Tensor:
    return torch.bmm(y_SY[:, None, :], X_SBF.mT)[:, 0]


def _back(slope_SB: Tensor, X_SBF: Tensor) -> Tensor:
    return torch.bmm(slope_SB[:, None, :], X_SBF)[:, 0]
