"""Forward gradients: directional derivatives u . g along random directions, by forward-mode differentiation.

Unbiased, and no finite differences. The simulator has g anyway and takes products with it; the node is charged for the
Jacobian-vector products (jvp) that it would do. Ansaripour, Talaei, Nadiradze and Alistarh, AAAI 2025, simulate them so
too. Shapes: S nodes, D parameters (d in formulas), K directions of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simnet.estimator import Asked, Estimator, require
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Forward(Estimator):
    """A mean over `rv` directions, at `jvp` evaluations of the loss each."""

    by_jvp: ClassVar[bool] = True

    rv: int = 10  # random directions
    jvp: float = 2.0  # cost of one directional derivative, in evaluations of the loss

    def __post_init__(self) -> None:
        require(self.rv >= 1, "rv", self.rv, "an estimate takes at least 1 random direction")
        require(0 < self.jvp < float("inf"), "jvp", self.jvp,
                "a directional derivative costs more than 0 evaluations of the loss; about 2")  # fmt: skip

    def forward_passes(self, d: int) -> float:
        return self.rv * self.jvp

    def numbers(self, d: int) -> float:
        return self.rv

    def kappa(self, d: int) -> float:
        return 1 + (d + 1) / self.rv


@dataclass(frozen=True)
class ForwardGradient(_Forward):
    """G = (1/rv) sum_k (u_k . g) u_k with u_k ~ N(0, I): E G = g, E|G - g|^2 = (d + 1)/rv |g|^2.

    Args:
        rv: random directions.
        jvp: cost of one directional derivative, in evaluations of the loss.
    """

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        g_SD = ask.gradients(x_SD)
        total_SD = torch.zeros_like(g_SD)
        for u_SKD in ask.normals(self.rv):
            along_SK1 = torch.bmm(u_SKD, g_SD[:, :, None])
            total_SD += torch.bmm(along_SK1.mT, u_SKD)[:, 0]
        return total_SD / self.rv


@dataclass(frozen=True)
class FastForwardGradient(_Forward):
    """Exactly the distribution of `fwd_grad` in O(d), whatever rv.

    With ghat = g/|g|, the part of G along g is |g| s/rv with s ~ chi-square(rv), and across it, given s, normal with
    deviation |g| sqrt(s)/rv:  G = (|g|/rv) (s ghat + sqrt(s) (I - ghat ghat') z), z ~ N(0, I).

    Args:
        rv: random directions.
        jvp: cost of one directional derivative, in evaluations of the loss.
    """

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        g_SD = ask.gradients(x_SD)
        s_S1 = ask.chi_square(self.rv)[:, None]
        norm_S1 = torch.linalg.vector_norm(g_SD, dim=1, keepdim=True)
        z_SD = ask.normal(0)
        tiny = torch.finfo(g_SD.dtype).tiny
        unit_SD = g_SD / norm_S1.clamp_min(tiny)  # a gradient of zero has an estimate of zero
        root_S1 = s_S1.sqrt()
        along_S1 = (unit_SD * z_SD).sum(1, keepdim=True)
        return (norm_S1 / self.rv) * (unit_SD * (s_S1 - root_S1 * along_S1) + root_S1 * z_SD)


@dataclass(frozen=True)
class BlockwiseForwardGradient(_Forward):
    """A forward gradient for each of the model's tensors apart: (1/rv) sum_k (u_kb . g_b) u_kb for each block b.

    This is what the authors' public code computes. Unbiased, with variance sum_b (d_b + 1)|g_b|^2/rv, less than that of
    `fwd_grad`; but no single jvp of a scalar loss gives it, so it flatters ZO nodes.

    Args:
        rv: random directions.
        jvp: cost of one directional derivative, in evaluations of the loss.
    """

    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        g_SD = ask.gradients(x_SD)
        total_SD = torch.zeros_like(g_SD)
        for u_SKD in ask.normals(self.rv):
            for block in ask.slices.values():
                u_SKB = u_SKD[:, :, block]
                along_SK1 = torch.bmm(u_SKB, g_SD[:, block, None])
                total_SD[:, block] += torch.bmm(along_SK1.mT, u_SKB)[:, 0]
        return total_SD / self.rv
