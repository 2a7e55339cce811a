"""Which training labels to believe: a weight for each row above, a classifier below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet import streams
from simnet.bilevel import BilevelProblem
from simnet.dataset import Parts
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.bilevel_rows import LevelRows, LinearLevels

if TYPE_CHECKING:
    from torch import Tensor


class HyperCleaning(LinearLevels):
    """g_i = mean over rows j of sigmoid(x_j) logloss_j(y) + l2 |y|^2;   f_i = mean log loss of y on clean rows.

    x has a number for each training row of any node, and is common to all nodes: dx is far above dy. A part of the
    training labels is wrong, from `flip_least` of them at the first node to `flip_most` at the last; validation rows
    are clean. Metrics: `label_auc`, how well x tells right labels from wrong ones (the probability that a right one has
    the larger x), `weight_right` and `weight_wrong`, the mean sigmoid(x_j) of either, and `accuracy_mean_model` on test
    rows.

    Args:
        parts: rows with classes and who holds them; a column of ones is added.
        validation: part of each node's rows that is the upper level's, and clean.
        flip_least, flip_most: parts of wrong labels at the first and at the last node.
        l2: ridge coefficient, above 0.
    """

    own_metrics: ClassVar[tuple[str, ...]] = (
        *BilevelProblem.own_metrics, "label_auc", "weight_right", "weight_wrong", "accuracy_mean_model",
    )  # fmt: skip
    l2: float

    def __init__(
        self, parts: Parts, seed: int = 0, *, validation: float = 0.5, flip_least: float = 0.1, flip_most: float = 0.6,
        l2: float = 0.05,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if not (0 <= flip_least <= 1 and 0 <= flip_most <= 1):
            raise InputError(f"{name}: flip_least = {flip_least}, flip_most = {flip_most}; give parts between 0 and 1")
        rows = LevelRows.of(parts, validation, name)
        labels, wrong = rows.labels.copy(), np.zeros(len(rows.labels), bool)
        rates = np.linspace(flip_least, flip_most, len(rows.lower))
        for node, (held, rate) in enumerate(zip(rows.lower, rates, strict=True)):
            key = streams.keys(streams.key(seed, "flipped labels", node), held)
            u = streams.uniform(key, 2)
            flip = u[:, 0] < rate
            other = 1 + (u[:, 1] * (rows.classes - 1)).astype(np.int64)
            labels[held] = np.where(flip, (rows.labels[held] + other) % rows.classes, rows.labels[held])
            wrong[held] = flip
        self._begin(LevelRows(rows.features, labels, rows.upper, rows.lower, rows.classes, rows.test), wrong, l2)

    def _begin(self, rows: LevelRows, wrong_M: np.ndarray, l2: float) -> None:
        if not 0 < l2 < float("inf"):
            raise InputError(f"{type(self).__name__}: l2 = {l2}; give a coefficient above 0")
        numbers = rows.features.shape[1] * (1 if rows.classes == 2 else rows.classes)
        LinearLevels.__init__(self, rows, sum(map(len, rows.lower)), numbers)
        self.l2 = l2
        self.wrong_X = wrong_M[np.concatenate(rows.lower)]  # whose label is wrong, in the order of x

    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        return self.linear_flop(oracle, upper, lower, 4.0 * self.dy * np.asarray(lower))

    def row_weights(self, x_SX: Tensor, w_SB: Tensor, number_SB: Tensor) -> Tensor:
        return w_SB * torch.sigmoid(x_SX.gather(-1, number_SB))

    def ridge(self, x_SX: Tensor) -> Any:
        return 2 * self.l2

    def cross(self, x_SX: Tensor, y_SY: Tensor, v_SY: Tensor, w_SB: Tensor, number_SB: Tensor, slope_SB: Any) -> Tensor:
        weight = torch.sigmoid(x_SX.gather(-1, number_SB))
        return torch.zeros_like(x_SX).scatter_add_(-1, number_SB, w_SB * weight * (1 - weight) * slope_SB())

    def state_metrics(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        found, x = super().state_metrics(means), means["x"]
        wrong = torch.as_tensor(self.wrong_X, device=x.device)
        right = ~wrong
        if bool(wrong.any()) and bool(right.any()):
            found["label_auc"] = _auc(x[right], x[wrong])
            weight = torch.sigmoid(x)
            found["weight_right"], found["weight_wrong"] = weight[right].mean(), weight[wrong].mean()
        return found


class SyntheticHyperCleaning(HyperCleaning):
    """The same on drawn rows of two classes, split by a plane; nodes differ in shift.

    Args:
        dim: features.
        train, validation_rows: rows of each node at the lower and at the upper level.
        test: rows for testing.
        flip_least, flip_most: parts of wrong labels at the first and at the last node.
        l2: ridge coefficient, above 0.
        instance: the number of the generator that draws them.
    """

    def __init__(
        self,
        nodes: int,
        *,
        dim: int = 10,
        train: int = 60,
        validation_rows: int = 60,
        test: int = 4000,
        flip_least: float = 0.1,
        flip_most: float = 0.6,
        l2: float = 0.05,
        instance: int = 0,
    ) -> None:
        if min(dim, train, validation_rows, test) < 1:
            raise InputError(
                f"SyntheticHyperCleaning: dim = {dim}, train = {train}, validation_rows = {validation_rows}, "
                f"test = {test}; give at least 1 of each"
            )
        each, rng = train + validation_rows, np.random.default_rng(instance)
        w = 2 * rng.standard_normal(dim)
        shift = 0.5 * rng.standard_normal((nodes, 1, dim))
        X = rng.standard_normal((nodes, each, dim)) + shift
        t = X @ w > 0
        wrong = np.zeros((nodes, each), bool)
        wrong[:, :train] = rng.random((nodes, train)) < np.linspace(flip_least, flip_most, nodes)[:, None]
        test_X = rng.standard_normal((test, dim))
        rows = np.arange(nodes * each).reshape(nodes, each)
        held = LevelRows(
            X.reshape(-1, dim), (t ^ wrong).reshape(-1).astype(np.int64), list(rows[:, train:]), list(rows[:, :train]),
            test=(test_X, (test_X @ w > 0).astype(np.int64)),
        )  # fmt: skip
        self._begin(held, wrong.reshape(-1), l2)


def _auc(right: Tensor, wrong: Tensor) -> Tensor:
    """The probability that a right one is larger than a wrong one, ties by half."""
    order = torch.sort(wrong).values
    below = torch.searchsorted(order, right) + torch.searchsorted(order, right, right=True)
    return below.to(torch.float64).mean() / (2 * len(wrong))
