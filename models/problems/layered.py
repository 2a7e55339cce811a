"""Models whose parameters are named tensors, cut from one flat vector.

Shapes: S nodes of a call, B rows, F features, D parameters, K models. A model's outputs for B rows are
(B, C) for C classes, (B, C, T) where each row has T targets, or whatever the loss takes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet import streams
from simnet.dataset import Parts
from simnet.lazy import torch
from simnet.models.problems.data import RowProblem

if TYPE_CHECKING:
    from torch import Tensor

_PIECE_NUMBERS = 1 << 23  # numbers that one piece of a minibatch call may hold: 32 MiB of float32


class LayeredProblem(RowProblem):
    """A model given as `forward(parameters by name, rows)`; derivatives by vmap over nodes, row chunk by row chunk.

    A subclass gives `shapes` (the names and shapes of its parameters, in their order in x), `forward`, and
    the loss where it is not cross entropy. Layer by layer, x is `problem.slices`.
    """

    closed_forms: ClassVar[bool] = False
    _parts: Parts
    _widest: int = 1  # numbers that the model holds for one row

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in their order in x."""

    @abstractmethod
    def forward(self, p: dict[str, Tensor], X_BF: Tensor) -> Tensor:
        """The outputs of one node's model for its rows."""

    def targets(self, X_BF: Tensor, y_B: Tensor) -> Tensor:
        """What the outputs are compared with: the labels, unless a subclass says otherwise."""
        return y_B

    def output_losses(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss of each row (B,); cross entropy, where a row has several targets their mean."""
        loss = torch.nn.functional.cross_entropy(z, y, reduction="none")
        return loss if loss.ndim == 1 else loss.flatten(1).mean(1)

    def output_scores(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Test metrics of each row, (B,) each: the share of its targets where the largest output is right."""
        right = (z.argmax(1) == y).to(z.dtype)
        return {"accuracy": right if right.ndim == 1 else right.flatten(1).mean(1)}

    # ---- what RowProblem asks for ----------------------------------------------------------------------------------

    def parts(self) -> Parts:
        return self._parts

    @cached_property
    def _sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes.values()]

    def feature_rows(self, x: np.ndarray, device: Any, dtype: Any) -> Tensor:
        """Whole numbers (characters) stay whole."""
        return super().feature_rows(x, device, torch.int64 if np.issubdtype(x.dtype, np.integer) else dtype)

    def widest(self) -> int:
        return self._widest

    def piece_size(self, batch: int | None) -> int:
        """As few nodes as keep x in the cache, and fewer where what the model holds would fill the memory."""
        size = super().piece_size(batch)
        return size if batch is None else max(1, min(size, _PIECE_NUMBERS // (batch * self._widest)))

    def named(self, x_D: Tensor) -> dict[str, Tensor]:
        """The parameters by name: views of x."""
        pieces = x_D.split(self._sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        loss_B = self._row_losses(x_D, data[0], data[1])
        loss = loss_B.mean() if len(data) == 2 else loss_B @ data[2]
        return loss + 0.5 * self.l2 * x_D.square().sum() if self.l2 else loss

    def _row_losses(self, x_D: Tensor, X_BF: Tensor, y_B: Tensor) -> Tensor:
        return self.output_losses(self.forward(self.named(x_D), X_BF), self.targets(X_BF, y_B))

    def pooled_losses(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> Tensor:
        return self.each(lambda x_D: self._row_losses(x_D, X_MF, y_M))(x_KD)

    def pooled_metrics(self, x_KD: Tensor, X_MF: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        def metrics(x_D: Tensor) -> Tensor:
            z, y = self.forward(self.named(x_D), X_MF), self.targets(X_MF, y_M)
            rows = {"validation_loss": self.output_losses(z, y), **self.output_scores(z, y)}
            names[:] = rows
            return torch.stack([value.sum() for value in rows.values()])

        names: list[str] = []
        sums_KQ = self.each(metrics)(x_KD)
        return dict(zip(names, sums_KQ.T, strict=True))


def normal_point(shapes: dict[str, tuple[int, ...]], std: dict[str, float], seed: int, name: str) -> np.ndarray:
    """A first point: each tensor named in `std` normal of that deviation, the others zero, float64 (D,)."""
    pieces = []
    for number, (tensor, shape) in enumerate(shapes.items()):
        size = math.prod(shape)
        key = np.array([streams.key(seed, f"{name} first point", number)], np.uint64)
        pieces.append(streams.normal(key, size)[0] * std[tensor] if tensor in std else np.zeros(size))
    return np.concatenate(pieces)
