"""Finite differences of losses, along random directions or along every coordinate.

All evaluations of one estimate are on the same minibatch. What the Gaussian ones follow is f_nu(x) = E f(x + nu u) with
u ~ N(0, I): |grad f_nu - grad f| <= (nu/2) L (d + 3)^(3/2) (Nesterov and Spokoiny, Found. Comput. Math. 17, 2017).
Shapes: S nodes, D parameters (d in formulas).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simnet.estimator import Asked, Estimator, require
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def _check_nu(nu: float) -> None:
    require(0 < nu < float("inf"), "nu", nu, "losses are compared at two points: the distance nu is above 0 and finite")


@dataclass(frozen=True)
class _Differences(Estimator):
    """A mean over `rv` directions."""

    rv: int = 10  # random directions
    nu: float = 1e-3  # distance over which losses are compared

    def __post_init__(self) -> None:
        require(self.rv >= 1, "rv", self.rv, "an estimate takes at least 1 random direction")
        _check_nu(self.nu)

    @abstractmethod
    def direction(self, ask: Asked, k: int) -> Tensor:
        """Direction number k of each node, (S, D)."""

    def forward_passes(self, d: int) -> float:
        return 2 * self.rv

    def kappa(self, d: int) -> float:
        return 1 + (d + 1) / self.rv

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        total_SD = torch.zeros_like(x_SD)
        for k in range(self.rv):
            u_SD = self.direction(ask, k)
            step_SD = self.nu * u_SD
            slope_S = (ask.losses(x_SD + step_SD) - ask.losses(x_SD - step_SD)) / (2 * self.nu)
            total_SD += (slope_S / self.rv)[:, None] * u_SD
        return total_SD


@dataclass(frozen=True)
class TwoPointCentral(_Differences):
    """(1/rv) sum_k (F(x + nu u_k) - F(x - nu u_k)) / (2 nu) u_k with u_k ~ N(0, I).

    Biased by (nu^2/2) grad(Laplacian f) + O(nu^4), so unbiased on quadratics; 2 rv losses.

    Args:
        rv: random directions.
        nu: distance over which losses are compared.
    """

    def direction(self, ask: Asked, k: int) -> Tensor:
        return ask.normal(k)


@dataclass(frozen=True)
class TwoPointForward(_Differences):
    """(1/rv) sum_k (F(x + nu u_k) - F(x)) / nu u_k with u_k ~ N(0, I).

    The same mean as `two_point_central`, with a variance that grows with nu; rv + 1 losses.

    Args:
        rv: random directions.
        nu: distance over which losses are compared.
    """

    def direction(self, ask: Asked, k: int) -> Tensor:
        return ask.normal(k)

    def forward_passes(self, d: int) -> float:
        return self.rv + 1

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        here_S, total_SD = ask.losses(x_SD), torch.zeros_like(x_SD)
        for k in range(self.rv):
            u_SD = self.direction(ask, k)
            slope_S = (ask.losses(x_SD + self.nu * u_SD) - here_S) / self.nu
            total_SD += (slope_S / self.rv)[:, None] * u_SD
        return total_SD


@dataclass(frozen=True)
class SphereCentral(_Differences):
    """(1/rv) sum_k d (F(x + nu u_k) - F(x - nu u_k)) / (2 nu) u_k with u_k uniform on the unit sphere.

    On linear f the variance of one direction is (d - 1)|g|^2, where Gaussian directions have d + 1. The points lie nu
    apart from x, where Gaussian ones lie about nu sqrt(d) apart. 2 rv losses.

    Args:
        rv: random directions.
        nu: distance over which losses are compared.
    """

    def direction(self, ask: Asked, k: int) -> Tensor:
        u_SD = ask.normal(k)
        return u_SD / torch.linalg.vector_norm(u_SD, dim=1, keepdim=True)

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        return x_SD.shape[1] * super().estimate(ask, x_SD)

    def kappa(self, d: int) -> float:
        return 1 + (d - 1) / self.rv


@dataclass(frozen=True)
class Rademacher(_Differences):
    """(1/rv) sum_k (F(x + nu u_k) - F(x - nu u_k)) / (2 nu) u_k with coordinates +-1, each with probability 1/2.

    On linear f the variance of one direction is (d - 1)|g|^2. 2 rv losses.

    Args:
        rv: random directions.
        nu: distance over which losses are compared.
    """

    def direction(self, ask: Asked, k: int) -> Tensor:
        return ask.sign(k)

    def kappa(self, d: int) -> float:
        return 1 + (d - 1) / self.rv


@dataclass(frozen=True)
class Coordinate(Estimator):
    """(F(x + nu e_k) - F(x)) / nu for every coordinate k: nothing random, g + O(nu), d + 1 losses.

    Args:
        nu: distance over which losses are compared.
    """

    nu: float = 1e-3  # distance over which losses are compared

    def __post_init__(self) -> None:
        _check_nu(self.nu)

    def forward_passes(self, d: int) -> float:
        return d + 1

    def kappa(self, d: int) -> float:
        return 1.0

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        here_S, answer_SD, moved_SD = ask.losses(x_SD), torch.empty_like(x_SD), x_SD.clone()
        for k in range(x_SD.shape[1]):
            moved_SD[:, k] += self.nu
            answer_SD[:, k] = (ask.losses(moved_SD) - here_S) / self.nu
            moved_SD[:, k] = x_SD[:, k]
        return answer_SD
