"""The scalings of SAVIC: RMSProp, Adam, OASIS and AdaHessian (Chezhegov et al., arXiv 2406.00846)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.graph import elementwise, recorded
from simnet.lazy import torch
from simnet.preconditioner import Scaling, Statistic, mean


@dataclass(frozen=True)
class RMSProp(Scaling):
    """D_k^2 = beta D_{k-1}^2 + (1 - beta) g_k^2, with the averaged gradient (Tieleman and Hinton, 2012)."""

    def first(self, *h: Any) -> Any:
        return torch.sqrt(mean([torch.square(each) for each in h]))

    def update(self, D: Any, h: Any, k: int) -> Any:
        return _root_mean_square(D, h, self.beta_at(k))


@recorded
@elementwise
def _root_mean_square(D: Any, h: Any, beta: float, out: Any = None) -> Any:
    return torch.square(D, out=out).mul_(beta).addcmul_(h, h, value=1.0 - beta).sqrt_()


@dataclass(frozen=True)
class Adam(RMSProp):
    """RMSProp's recursion with beta_k = (beta - beta^(k+1)) / (1 - beta^(k+1)): exactly Adam's bias correction.

    D_k^2 is v_k / (1 - beta^(k+1)) of Kingma and Ba (ICLR 2015), whose v starts at 0; beta_0 = 0.
    """

    def beta_at(self, k: int) -> float:
        power = self.beta ** (k + 1)
        return (self.beta - power) / (1.0 - power) if power < 1.0 else 0.0


@dataclass(frozen=True)
class OASIS(Scaling):
    """D_k = beta D_{k-1} + (1 - beta) v * (Hessian v), v of random signs (Jahani et al., ICLR 2022)."""

    statistic: ClassVar[Statistic] = "hessian"
    linear: ClassVar[bool] = True

    beta: float = 0.99
    alpha: float = 1e-2

    def first(self, *h: Any) -> Any:
        return mean(h)

    def update(self, D: Any, h: Any, k: int) -> Any:
        beta = self.beta_at(k)
        return beta * D + (1.0 - beta) * h


@dataclass(frozen=True)
class AdaHessian(Adam):
    """Adam's recursion on v * (Hessian v) (Yao et al., AAAI 2021), without averaging over blocks."""

    statistic: ClassVar[Statistic] = "hessian"

    alpha: float = 1e-2
