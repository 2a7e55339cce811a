"""Softmax (multinomial logistic) regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.dataset import Parts
from simnet.lazy import torch
from simnet.models.problems.data import DataProblem, Weighting, classification_parts

if TYPE_CHECKING:
    from torch import Tensor


class Softmax(DataProblem):
    """loss(x; a, y) = logsumexp(W a + b) - (W a + b)_y, with x = (W, b): W (C, F) row by row, then b (C).

    D = C (F + 1). Convex; starts at zero. With l2 > 0 strongly convex.
    FLOP of a call on B rows (matrix products only): loss 2 B F C, gradient 4 B F C, hvp 6 B F C.

    Args:
        parts: rows with classes and who holds them.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(self, parts: Parts, *, l2: float = 0.0, weighting: Weighting = "nodes") -> None:
        data = classification_parts(parts, "Softmax").dataset
        self.features, self.classes = data.features, int(data.classes or 0)
        dim = self.classes * (self.features + 1)
        super().__init__(parts.sizes, dim, has_test=data.has_test, l2=l2, weighting=weighting)
        self._parts, self._cut = parts, self.classes * self.features

    def parts(self) -> Parts:
        return self._parts

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.classes, self.features), "bias": (self.classes,)}

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return {"loss": 2.0, "gradient": 4.0, "hvp": 6.0}[oracle] * self._cut * np.asarray(samples, np.float64)

    def _views(self, x_SD: Tensor) -> tuple[Tensor, Tensor]:
        """(W (S, C, F), b (S, C)) as views."""
        return x_SD[:, : self._cut].view(-1, self.classes, self.features), x_SD[:, self._cut :]

    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        w_SCF, b_SC = self._views(x_SD)
        return torch.baddbmm(b_SC[:, :, None], w_SCF, X_SBF.mT)

    def row_losses(self, z_SCB: Tensor, y_SB: Tensor) -> Tensor:
        return cross_entropy(z_SCB, y_SB)

    def scores(self, z_KCM: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (z_KCM.argmax(1) == y_M).sum(1)}

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF, y_SB = data[:2]
        (w_SCF, b_SC), (gw_SCF, gb_SC) = self._views(x_SD), self._views(out)
        z_SCB = self.affine("z", b_SC[:, :, None], w_SCF, X_SBF.mT)
        dz_SCB = self.weigh(cross_entropy_slope(z_SCB, y_SB), data)
        gw_SCF.copy_(self.product("gw", dz_SCB, X_SBF))  # quicker than a product into strided rows
        torch.sum(dz_SCB, 2, out=gb_SC)
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF = data[0]
        p_SCB = torch.softmax(self.outputs(x_SD, X_SBF), 1)
        h_SCB = self.weigh(softmax_hessian(p_SCB, self.outputs(v_SD, X_SBF)), data)
        hw_SCF, hb_SC = self._views(out)
        hw_SCF.copy_(torch.bmm(h_SCB, X_SBF))
        torch.sum(h_SCB, 2, out=hb_SC)
        self.ridge(out, v_SD)


def cross_entropy(z_SCB: Tensor, y_SB: Tensor) -> Tensor:
    """logsumexp(z) - z_y by row, (S, B)."""
    return torch.logsumexp(z_SCB, 1) - z_SCB.gather(1, y_SB[:, None])[:, 0]


def cross_entropy_slope(z_SCB: Tensor, y_SB: Tensor) -> Tensor:
    """softmax(z) - onehot(y) by row; a new tensor."""
    dz_SCB = torch.softmax(z_SCB, 1)
    return dz_SCB.scatter_add_(1, y_SB[:, None], dz_SCB.new_full((), -1.0).expand(len(y_SB), 1, y_SB.shape[1]))


def softmax_hessian(p_SCB: Tensor, s_SCB: Tensor) -> Tensor:
    """(diag(p) - p p') s by row; a new tensor."""
    return p_SCB * (s_SCB - (p_SCB * s_SCB).sum(1, keepdim=True))
