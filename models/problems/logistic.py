"""Binary logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.dataset import Parts
from simnet.lazy import torch
from simnet.models.problems.data import DataProblem, Weighting, classification_parts

if TYPE_CHECKING:
    from torch import Tensor


class Logistic(DataProblem):
    """loss(x; a, y) = log(1 + exp(z)) - y z with z = <w, a> + b and y in {0, 1}; x = (w, b), w (F), b (1).

    D = F + 1. Convex; starts at zero. With l2 > 0 strongly convex.
    FLOP of a call on B rows (matrix products only): loss 2 B F, gradient 4 B F, hvp 6 B F.

    Args:
        parts: rows of two classes and who holds them.
        l2: ridge coefficient on all parameters.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(self, parts: Parts, *, l2: float = 0.0, weighting: Weighting = "nodes") -> None:
        data = classification_parts(parts, "Logistic", binary=True).dataset
        self.features = data.features
        super().__init__(parts.sizes, self.features + 1, has_test=data.has_test, l2=l2, weighting=weighting)
        self._parts = parts

    def parts(self) -> Parts:
        return self._parts

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return {"loss": 2.0, "gradient": 4.0, "hvp": 6.0}[oracle] * self.features * np.asarray(samples, np.float64)

    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        # row form: (S, 1, F) times (S, F, B) is far quicker than the column form
        return torch.baddbmm(x_SD[:, None, -1:], x_SD[:, None, :-1], X_SBF.mT)

    def row_losses(self, z_S1B: Tensor, y_SB: Tensor) -> Tensor:
        z_SB = z_S1B[:, 0]
        return torch.nn.functional.softplus(z_SB, threshold=40.0) - y_SB * z_SB

    def scores(self, z_K1M: Tensor, y_M: Tensor) -> dict[str, Tensor]:
        return {"accuracy": ((z_K1M[:, 0] > 0) == y_M).sum(1)}

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF, y_SB = data[:2]
        z_S1B = self.outputs(x_SD, X_SBF)
        dz_S1B = self.weigh(torch.sigmoid(z_S1B).sub_(y_SB[:, None]), data)
        self._back(dz_S1B, X_SBF, out)
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF = data[0]
        p_S1B = torch.sigmoid(self.outputs(x_SD, X_SBF))
        h_S1B = self.weigh(p_S1B * (1 - p_S1B) * self.outputs(v_SD, X_SBF), data)
        self._back(h_S1B, X_SBF, out)
        self.ridge(out, v_SD)

    def _back(self, dz_S1B: Tensor, X_SBF: Tensor, out_SD: Tensor) -> None:
        out_SD[:, None, :-1].copy_(torch.bmm(dz_S1B, X_SBF))
        torch.sum(dz_S1B[:, 0], 1, out=out_SD[:, -1])
