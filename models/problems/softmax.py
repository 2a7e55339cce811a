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

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return {"loss": 2.0, "gradient": 4.0, "hvp": 6.0}[oracle] * self._cut * np.asarray(samples, np.float64)

    def _views(self, x_SD: Tensor) -> tuple[Tensor, Tensor]:
        """(W (S, C, F), b (S, C)) as views."""
        return x_SD[:, : self._cut].view(-1, self.classes, self.features), x_SD[:, self._cut :]

    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        w_SCF, b_SC = self._views(x_SD)
        return torch.baddbmm(b_SC[:, None], X_SBF, w_SCF.mT)

    def row_losses(self, z_SBC: Tensor, y_SB: Tensor) -> Tensor:
        return cross_entropy(z_SBC, y_SB)

    def scores(self, z_KMC: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (z_KMC.argmax(2) == y_M).sum(1)}

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF, y_SB = data[:2]
        dz_SBC = self.weigh(cross_entropy_slope(self.outputs(x_SD, X_SBF), y_SB), data)
        gw_SCF, gb_SC = self._views(out)
        gw_SCF.baddbmm_(dz_SBC.mT, X_SBF, beta=0)
        torch.sum(dz_SBC, 1, out=gb_SC)
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF = data[0]
        p_SBC = torch.softmax(self.outputs(x_SD, X_SBF), 2)
        h_SBC = self.weigh(softmax_hessian(p_SBC, self.outputs(v_SD, X_SBF)), data)
        hw_SCF, hb_SC = self._views(out)
        hw_SCF.baddbmm_(h_SBC.mT, X_SBF, beta=0)
        torch.sum(h_SBC, 1, out=hb_SC)
        self.ridge(out, v_SD)


def cross_entropy(z_SBC: Tensor, y_SB: Tensor) -> Tensor:
    """logsumexp(z) - z_y by row, (S, B)."""
    return torch.logsumexp(z_SBC, 2) - z_SBC.gather(2, y_SB[:, :, None])[:, :, 0]


def cross_entropy_slope(z_SBC: Tensor, y_SB: Tensor) -> Tensor:
    """softmax(z) - onehot(y) by row; a new tensor."""
    dz_SBC = torch.softmax(z_SBC, 2)
    return dz_SBC.scatter_add_(2, y_SB[:, :, None], dz_SBC.new_full((), -1.0).expand(*y_SB.shape, 1))


def softmax_hessian(p_SBC: Tensor, s_SBC: Tensor) -> Tensor:
    """(diag(p) - p p') s by row; a new tensor."""
    return p_SBC * (s_SBC - (p_SBC * s_SBC).sum(2, keepdim=True))
