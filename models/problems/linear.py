"""Least squares, on synthetic rows with a known optimum and on rows from a file."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet import streams
from simnet.dataset import Dataset, Parts
from simnet.errors import DataError, InputError
from simnet.lazy import torch
from simnet.models.problems.data import DataProblem, Weighting

if TYPE_CHECKING:
    from torch import Tensor


class SquaredLoss(DataProblem):
    """loss(x; a, y) = 1/2 (<x, a> - y)^2; the base of the two problems below.

    FLOP of a call on B rows (matrix products only): loss 2 B F, gradient and hvp 4 B F.
    """

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return {"loss": 2.0, "gradient": 4.0, "hvp": 4.0}[oracle] * self.dim * np.asarray(samples, np.float64)

    def outputs(self, x_SD: Tensor, X_SBF: Tensor) -> Tensor:
        return torch.bmm(x_SD[:, None, :], X_SBF.mT)  # the row form, far quicker than the column form

    def row_losses(self, z_S1B: Tensor, y_SB: Tensor) -> Tensor:
        return 0.5 * (z_S1B[:, 0] - y_SB).square()

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        X_SBF, y_SB = data[:2]
        dz_S1B = self.weigh(self.outputs(x_SD, X_SBF).sub_(y_SB[:, None]), data)
        out[:, None].copy_(torch.bmm(dz_S1B, X_SBF))
        self.ridge(out, x_SD)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        dz_S1B = self.weigh(self.outputs(v_SD, data[0]), data)
        out[:, None].copy_(torch.bmm(dz_S1B, data[0]))
        self.ridge(out, v_SD)

    def load(self, device: Any, dtype: Any) -> None:
        super().load(device, dtype)
        self._best: Tensor | None = None

    def optimum(self) -> tuple[Tensor, Tensor] | None:
        """The minimiser of least norm, by singular values in float64."""
        if self._best is None:
            X_MF, y_M = (part.to(torch.float64) for part in self._train())
            root_M1 = self._weight_M.to(torch.float64).sqrt()[:, None]
            u, s, vt = torch.linalg.svd(root_M1 * X_MF, full_matrices=False)
            kept = s > s[0] * max(X_MF.shape) * torch.finfo(self.dtype).eps  # below lies the rounding of the rows
            filtered = torch.where(kept, s / (s.square() + self.l2), 0.0)
            best = vt.mT @ (filtered * (u.mT @ (root_M1[:, 0] * y_M)))
            self._best = best.to(self.dtype)
        return self._best, self.objective(self._best)


class LeastSquares(SquaredLoss):
    """f_i(x) = 1/(2 R) |A_i x - b_i|^2 on synthetic rows: A_i (R, D) normal, b_i = A_i x_i + noise.

    The nodes' own solutions are x_i = x_0 + h * normal. With `rank` r below D all rows lie in one random
    subspace of r dimensions, so f has no unique minimiser; `optimum` gives the one of least norm.

    Args:
        dim: D.
        rows: R, rows at each node.
        rank: of all rows together; full by default.
        heterogeneity: h >= 0.
        noise: standard deviation added to b.
        l2: ridge coefficient.
    """

    def __init__(
        self,
        nodes: int,
        seed: int = 0,
        *,
        dim: int = 10,
        rows: int = 20,
        rank: int | None = None,
        heterogeneity: float = 1.0,
        noise: float = 0.1,
        l2: float = 0.0,
    ) -> None:
        if dim < 1 or rows < 1:
            raise InputError(f"LeastSquares: dim = {dim}, rows = {rows}; give at least 1 of each")
        if rank is not None and not 1 <= rank <= dim:
            raise InputError(f"LeastSquares: rank = {rank}; give 1 to dim = {dim}")
        if heterogeneity < 0 or noise < 0:
            raise InputError(f"LeastSquares: heterogeneity = {heterogeneity}, noise = {noise}; neither may be negative")
        super().__init__(np.full(nodes, rows), dim, has_test=False, l2=l2)
        self.seed, self.rank, self.heterogeneity, self.noise = seed, rank, heterogeneity, noise

    def parts(self) -> Parts:
        return self._drawn

    @cached_property
    def _drawn(self) -> Parts:
        rows, dim = int(self.samples_N[0]), self.dim
        A_NRD = self._normal("rows", self.nodes, rows * dim).reshape(self.nodes, rows, dim)
        if self.rank is not None and self.rank < dim:
            basis, _ = np.linalg.qr(self._normal("subspace", dim, self.rank))
            A_NRD = A_NRD @ basis @ basis.T
        x_ND = self._normal("solution", 1, dim) + self.heterogeneity * self._normal("solutions", self.nodes, dim)
        b_NR = (A_NRD @ x_ND[:, :, None])[:, :, 0] + self.noise * self._normal("noise", self.nodes, rows)
        data = Dataset("least squares", A_NRD.reshape(-1, dim), b_NR.reshape(-1))
        return Parts(data, list(np.arange(self.nodes * rows).reshape(self.nodes, rows)))

    def _normal(self, what: str, streams_: int, count: int) -> np.ndarray:
        base = streams.key(self.seed, "least squares", what)
        return streams.normal(streams.keys(base, np.arange(streams_)), count)


class LinearRegression(SquaredLoss):
    """f_i(x) = 1/(2 n_i) |A_i x - y_i|^2 + (l2/2) |x|^2 on rows from a dataset with real labels; no bias term.

    Args:
        parts: rows with real labels and who holds them.
        l2: ridge coefficient.
        weighting: f as the mean over nodes or over samples.
    """

    def __init__(self, parts: Parts, *, l2: float = 0.0, weighting: Weighting = "nodes") -> None:
        data = parts.dataset
        if data.classes is not None:
            raise DataError(f"LinearRegression needs real labels, and {data.name} has classes; use Softmax or Logistic")
        super().__init__(parts.sizes, data.features, has_test=data.has_test, l2=l2, weighting=weighting)
        self._parts = parts

    def parts(self) -> Parts:
        return self._parts
