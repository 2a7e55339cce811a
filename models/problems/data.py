"""Problems whose f_i is a mean over the rows that node i holds.

    f_i(x) = (1/n_i) sum_r loss(x; row r of node i) + (l2/2) |x|^2

Shapes: N nodes, S nodes of a call, B rows of each (a minibatch, or all with padding), F features, C outputs
of the model, D parameters, M rows in total, K models.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from simnet.dataset import Parts
from simnet.errors import DataError, InputError
from simnet.lazy import torch
from simnet.problem import FEWEST_NODES, Problem

if TYPE_CHECKING:
    from torch import Tensor

# Numbers that one piece of a full-batch, objective or validation pass may hold.
_PIECE_NUMBERS, _PIECE_ON_GPU = 1 << 22, 1 << 28

Weighting = Literal["nodes", "samples"]


class RowProblem(Problem):
    """What has a loss for each row: gathers rows for its nodes, and sums over all of them.

    A subclass gives `data_loss` (one node's loss on gathered rows) and `pooled_losses` (several models' losses
    on the same rows). A minibatch weights its rows 1/B; a full batch comes with a weight per row, zero where
    rows are padding.

    Args:
        samples_N: rows at each node.
        dim: D.
        has_test: whether the data have a test part.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes, or over samples (nodes weighted by their rows).
    """

    def __init__(
        self, samples_N: np.ndarray, dim: int, *, has_test: bool, l2: float = 0.0, weighting: Weighting = "nodes"
    ) -> None:
        if l2 < 0:
            raise InputError(f"{type(self).__name__}: l2 = {l2}; give 0 or more")
        self.nodes, self.dim, self.samples_N = len(samples_N), dim, np.asarray(samples_N, np.int64)
        self.has_test, self.l2, self.weighting = has_test, l2, weighting

    @abstractmethod
    def parts(self) -> Parts:
        """The dataset and each node's rows."""

    def data_bytes(self, itemsize: int) -> int:
        data = self.parts().dataset
        return itemsize * (data.train_x.size + data.train_y.size + data.test_x.size + data.test_y.size)

    @abstractmethod
    def pooled_losses(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> Tensor:
        """The loss of each of K models on each of M rows, (K, M), without the ridge term; differentiable."""

    @abstractmethod
    def pooled_metrics(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        """Sums over these rows of `validation_loss` and further test metrics, (K,) each."""

    def feature_rows(self, x: np.ndarray, device: Any, dtype: Any) -> Tensor:
        """Rows of features as the model takes them; contiguous, since rows are gathered."""
        return torch.as_tensor(x, dtype=dtype, device=device).contiguous()

    # ---- tensors -------------------------------------------------------------------------------------------------

    def load(self, device: Any, dtype: Any) -> None:
        parts = self.parts()
        self._scratch: dict[str, tuple[tuple[int, ...], Tensor, Tensor]] = {}
        data, sizes = parts.dataset, parts.sizes
        self._X_MF = self.feature_rows(data.train_x, device, dtype)
        self._y_M = self._targets(data.train_y, device, dtype)
        self._test_X = self.feature_rows(data.test_x, device, dtype)
        self._test_y = self._targets(data.test_y, device, dtype)
        flat = np.concatenate(parts.rows).astype(np.int64)
        self._rows = torch.as_tensor(flat, device=device)  # all nodes' rows, one node after another
        self._starts_N1 = torch.as_tensor((np.cumsum(sizes) - sizes)[:, None], device=device)
        self._sizes_N = torch.as_tensor(sizes, device=device)
        share_N = 1.0 / (self.nodes * sizes) if self.weighting == "nodes" else np.full(self.nodes, 1.0 / sizes.sum())
        weight_M = np.bincount(flat, np.repeat(share_N, sizes), len(data.train_y))
        held = np.flatnonzero(weight_M)
        self._held = None if len(held) == len(weight_M) else torch.as_tensor(held, device=device)
        self._weight_M = torch.as_tensor(weight_M[held], dtype=dtype, device=device)

    def _targets(self, y: np.ndarray, device: Any, dtype: Any) -> Tensor:
        whole = np.issubdtype(y.dtype, np.integer)
        return torch.as_tensor(y, dtype=torch.int64 if whole else dtype, device=device)

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        """(X_SBF, y_SB) of a minibatch; (X_SBF, y_SB, w_SB) of all rows, padded to the largest node of the call."""
        if samples_SB is not None:
            rows = self._rows.take(samples_SB + self._starts_N1.index_select(0, nodes_S))
            return self._gather(rows)
        sizes_S1 = self._sizes_N[nodes_S][:, None]
        # on a GPU the largest node of all, since asking for the largest here would wait for the device
        largest = int(sizes_S1.max()) if self.device.type == "cpu" else int(self.samples_N.max())
        column_B = torch.arange(largest, device=self.device)
        real_SB = column_B < sizes_S1
        # padding repeats a row of the node's own with weight zero: a strange row elsewhere cannot reach it
        rows = self._rows.take(self._starts_N1[nodes_S] + torch.where(real_SB, column_B, 0))
        return *self._gather(rows), real_SB / sizes_S1.to(self.dtype)

    def _gather(self, rows_SB: Tensor) -> tuple[Tensor, Tensor]:
        flat = rows_SB.reshape(-1)
        y_SB = self._y_M.index_select(0, flat).view(rows_SB.shape)
        if torch.is_grad_enabled():  # autograd may keep the rows
            return self._X_MF.index_select(0, flat).view(*rows_SB.shape, -1), y_SB
        X_SBF = self.scratch("X", *rows_SB.shape, self._X_MF.shape[1])
        torch.index_select(self._X_MF, 0, flat, out=X_SBF.view(len(flat), -1))
        return X_SBF, y_SB

    def scratch(self, name: str, *shape: int) -> Tensor:
        """A tensor with arbitrary content, the same memory at each call with this name.

        Fresh memory for every product costs page faults, a third of a gradient at 64 nodes. For closed forms
        only: autograd must not see it.
        """
        held = self._scratch.get(name)
        if held is not None and held[0] == shape:
            return held[1]
        count = math.prod(shape)
        memory = held[2] if held is not None and len(held[2]) >= count else self._X_MF.new_empty(count)
        self._scratch[name] = (shape, memory[:count].view(shape), memory)
        return self._scratch[name][1]

    def piece_size(self, batch: int | None) -> int:
        """Few enough nodes for the cache in a minibatch call, for a modest memory in a full-batch one."""
        if batch is not None:  # the gathered rows of a piece should stay there too
            rows = self.numbers_per_piece // (batch * max(1, self.parts().dataset.features))
            return max(FEWEST_NODES, min(super().piece_size(batch), rows))
        return max(1, min(self._piece // max(int(self.samples_N.max()) * self.widest(), self.dim), self.nodes))

    # ---- all data ------------------------------------------------------------------------------------------------

    def objectives(self, x_KD: Tensor) -> Tensor:
        total_K = (0.5 * self.l2) * x_KD.square().sum(1)
        for models, X_MF, y_M, weight_M in self._passes(x_KD, self._train(), self._weight_M):
            total_K[models] += self.pooled_losses(x_KD[models], X_MF, y_M) @ weight_M
        return total_K

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        total_D = self.l2 * x_D
        for _, X_MF, y_M, weight_M in self._passes(x_D[None], self._train(), self._weight_M):
            with torch.enable_grad():
                x = x_D.detach().clone().requires_grad_(True)
                loss = self.pooled_losses(x[None], X_MF, y_M)[0] @ weight_M
            total_D += torch.autograd.grad(loss, x)[0]
        return total_D

    def validate(self, x_KD: Tensor) -> dict[str, Tensor]:
        """Mean loss (without the ridge term) and the subclass's scores over the test rows, for each of K models."""
        if not self.has_test:
            return {}
        totals: dict[str, Tensor] = {}
        count = len(self._test_y)
        weight_M = torch.ones(count, dtype=self.dtype, device=self.device)
        for models, X_MF, y_M, _ in self._passes(x_KD, (self._test_X, self._test_y), weight_M):
            for name, value in self.pooled_metrics(x_KD[models], X_MF, y_M).items():
                totals.setdefault(name, torch.zeros(len(x_KD), dtype=self.dtype, device=self.device))[models] += value
        return {name: total.div_(count) for name, total in totals.items()}

    def widest(self) -> int:
        """The largest number of values that the model holds for one row at one node."""
        return self._X_MF.shape[1]

    @property
    def _piece(self) -> int:
        return _PIECE_ON_GPU if self.on_gpu else _PIECE_NUMBERS

    def _train(self) -> tuple[Tensor, Tensor]:
        return (self._X_MF, self._y_M) if self._held is None else (self._X_MF[self._held], self._y_M[self._held])

    def _passes(
        self, x_KD: Tensor, rows: tuple[Tensor, Tensor], weight_M: Tensor
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """(slice of K, X, y, weights) over blocks whose intermediate values stay small."""
        X_MF, y_M = rows
        block = max(1, min(len(y_M), self._piece // self.widest()))
        models = max(1, self._piece // (block * self.widest()))
        for k in range(0, len(x_KD), models):
            for m in range(0, len(y_M), block):
                piece = slice(m, m + block)
                yield slice(k, k + models), X_MF[piece], y_M[piece], weight_M[piece]


class DataProblem(RowProblem):
    """A model on real rows, with closed forms for all nodes at once.

    A subclass gives `outputs` (the model), `row_losses` (the loss on its outputs), and, if it sets
    `closed_forms`, the closed forms on gathered rows. Arguments as in `RowProblem`.
    """

    closed_forms: ClassVar[bool] = True

    @abstractmethod
    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        """The model's outputs, (S, C, B); differentiable. `X_SBF` may be a broadcast view.

        Rows come last: a softmax over 10 adjacent numbers was 20 times slower than one over a middle axis.
        """

    @abstractmethod
    def row_losses(self, z_SCB: Tensor, y_SB: Tensor) -> Tensor:
        """The loss of each row, (S, B); differentiable."""

    def scores(self, z_KCM: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        """Sums over rows of further test metrics, each (K,); none unless a subclass says more."""
        return {}

    def pooled_losses(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> Tensor:
        z_KCM = self.outputs(x_KD, X_MF.expand(len(x_KD), -1, -1))
        return self.row_losses(z_KCM, y_M.expand(len(z_KCM), -1))

    def pooled_metrics(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        z_KCM = self.outputs(x_KD, X_MF.expand(len(x_KD), -1, -1))
        loss_KM = self.row_losses(z_KCM, y_M.expand(len(z_KCM), -1))
        return {"validation_loss": loss_KM.sum(1), **self.scores(z_KCM, y_M)}

    # ---- one node's loss, and losses by hand -----------------------------------------------------------------------

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        X_BF, y_B = data[:2]
        loss_B = self.row_losses(self.outputs(x_D[None], X_BF[None]), y_B[None])[0]
        loss = loss_B.mean() if len(data) == 2 else loss_B @ data[2]
        return loss + 0.5 * self.l2 * x_D.square().sum() if self.l2 else loss

    def closed_losses(self, x_SD: Tensor, *data: Tensor) -> Tensor:
        X_SBF, y_SB = data[:2]
        loss_SB = self.row_losses(self.outputs(x_SD, X_SBF), y_SB)
        loss_S = loss_SB.mean(1) if len(data) == 2 else (loss_SB * data[2]).sum(1)
        return loss_S.add_(x_SD.square().sum(1), alpha=0.5 * self.l2) if self.l2 else loss_S

    def weigh(self, dz_SCB: Tensor, data: tuple[Tensor, ...]) -> Tensor:
        """Multiply, in place, each row of loss derivatives with the row's weight."""
        return dz_SCB.div_(dz_SCB.shape[2]) if len(data) == 2 else dz_SCB.mul_(data[2][:, None])

    def ridge(self, out_SD: Tensor, x_SD: Tensor) -> None:
        """Add the ridge term l2 x to a gradient (or l2 v to a Hessian-vector product)."""
        if self.l2:
            out_SD.add_(x_SD, alpha=self.l2)

    def product(self, name: str, a_SIJ: Tensor, b_SJK: Tensor) -> Tensor:
        """The batched matrix product in the scratch memory `name`."""
        return torch.bmm(a_SIJ, b_SJK, out=self.scratch(name, *a_SIJ.shape[:2], b_SJK.shape[2]))

    def affine(self, name: str, bias: Tensor, a_SIJ: Tensor, b_SJK: Tensor) -> Tensor:
        """The batched matrix product plus a broadcast bias in the scratch memory `name`."""
        return torch.baddbmm(bias, a_SIJ, b_SJK, out=self.scratch(name, *a_SIJ.shape[:2], b_SJK.shape[2]))


def classification_parts(parts: Parts, name: str, *, binary: bool = False) -> Parts:
    """`parts` if its labels are classes (two of them where `binary`), else a DataError."""
    data = parts.dataset
    if data.classes is None:
        raise DataError(f"{name} classifies, but the labels of {data.name} are real numbers; use LinearRegression")
    if binary and data.classes != 2:
        raise DataError(f"{name} takes two classes, and {data.name} has {data.classes}; use Softmax")
    return parts
