"""Quadratics whose optimum, condition number and heterogeneity are known."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet import streams
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.noise import noise_rows, noise_samples
from simnet.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor


class Quadratic(Problem):
    """f_i(x) = 1/2 (x - c_i)' diag(a_i) (x - c_i), exact gradients.

    The mean of the a_i is the spectrum condition^(-j/(D-1)), j = 0 .. D-1, so f has smoothness 1 and the
    chosen condition number whatever the heterogeneity h. Centres are c_i = c + h * normal; curvatures a_ij
    are the spectrum times factors in 1 +- h/(1+h), scaled to mean one over the nodes. With h = 0 all f_i are
    equal.

    Optimum: x* = sum_i a_i c_i / sum_i a_i, coordinate by coordinate.
    FLOP of a call: gradient 2 D, loss 4 D, hvp D.

    Args:
        dim: D.
        condition: condition number of f, at least 1.
        heterogeneity: h >= 0, how far the nodes' functions lie apart.
        noise: total variance E|z|^2 of a term z_r'x that minibatches of one row r add to each f_i; 0 for none. Its
            4,096 rows have mean zero and equal variances in all coordinates, so a full batch is without noise.
    """

    closed_forms: ClassVar[bool] = True

    def __init__(
        self,
        nodes: int,
        seed: int = 0,
        *,
        dim: int = 10,
        condition: float = 10.0,
        heterogeneity: float = 1.0,
        noise: float = 0.0,
    ) -> None:
        if dim < 1:
            raise InputError(f"Quadratic: dim = {dim}; give at least 1")
        if condition < 1:
            raise InputError(f"Quadratic: condition = {condition}; a condition number is at least 1")
        if heterogeneity < 0:
            raise InputError(f"Quadratic: heterogeneity = {heterogeneity}; give 0 (equal nodes) or more")
        self.nodes, self.dim, self.seed, self.noise = nodes, dim, seed, noise
        self.condition, self.heterogeneity = condition, heterogeneity
        self.samples_N = noise_samples("Quadratic", nodes, noise)

    @classmethod
    def from_arrays(cls, a: np.ndarray, c: np.ndarray, noise: float = 0.0) -> Quadratic:
        """From curvatures `a`, shape (N, 1) or (N, D), centres `c`, shape (N, D), and `noise` as in the class."""
        a, c = np.asarray(a, np.float64), np.asarray(c, np.float64)
        if a.ndim != 2 or c.ndim != 2 or len(a) != len(c) or a.shape[1] not in (1, c.shape[1]):
            raise InputError(f"Quadratic: a has shape {a.shape} and c {c.shape}; give (N, 1) or (N, D), and (N, D)")
        problem = cls(len(c), dim=c.shape[1], noise=noise)
        problem.arrays = a, c
        return problem

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(a, c): curvatures (N, 1) or (N, D) and centres (N, D), float64."""
        ids, h = np.arange(self.nodes), self.heterogeneity
        spectrum_D = self.condition ** -np.linspace(0.0, 1.0, self.dim)
        common_D = streams.normal(np.array([streams.key(self.seed, "quadratic centre")], np.uint64), self.dim)
        own_ND = streams.normal(streams.keys(streams.key(self.seed, "quadratic centres"), ids), self.dim)
        draws_ND = streams.uniform(streams.keys(streams.key(self.seed, "quadratic curvatures"), ids), self.dim)
        factor_ND = 1.0 + h / (1.0 + h) * (2.0 * draws_ND - 1.0)
        return spectrum_D * factor_ND / factor_ND.mean(0), common_D + h * own_ND

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return np.zeros(np.shape(samples)) + {"gradient": 2.0, "loss": 4.0, "hvp": 1.0}[oracle] * self.dim

    def load(self, device: Any, dtype: Any) -> None:
        a, c = self.arrays
        self._a = torch.as_tensor(a, dtype=dtype, device=device)
        self._c = torch.as_tensor(c, dtype=dtype, device=device)
        weight = np.broadcast_to(a, c.shape).sum(0)
        best = np.divide((a * c).sum(0), weight, out=np.zeros(self.dim), where=weight != 0)
        # f(x) = f(best) + 1/2 sum_j mean_i a_ij (x_j - best_j)^2: O(D) a point, and no cancellation near the optimum
        self._best = torch.as_tensor(best, dtype=dtype, device=device)
        self._mean_a = torch.as_tensor(weight / self.nodes, dtype=dtype, device=device)
        self._noise = None
        if self.noise:
            rows = noise_rows(self.seed, "quadratic noise", self.dim, self.noise)
            self._noise = torch.as_tensor(rows, dtype=dtype, device=device)
        self._f_best = torch.as_tensor(0.5 * (a * (best - c) ** 2).sum() / self.nodes, dtype=dtype, device=device)

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        """(a, c) of each node, and the mean of its minibatch's rows z where there are such."""
        if self._noise is None or samples_SB is None:
            return self._a[nodes_S], self._c[nodes_S]
        return self._a[nodes_S], self._c[nodes_S], self._noise[samples_SB].mean(1)

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        a_D, c_D, *z_D = data
        loss = 0.5 * (a_D * (x_D - c_D) ** 2).sum()
        return loss + z_D[0] @ x_D if z_D else loss

    def closed_losses(self, x_SD: Tensor, *data: Tensor) -> Tensor:
        a_SD, c_SD, *z_SD = data
        loss_S = 0.5 * ((x_SD - c_SD).square_() * a_SD).sum(1)
        return loss_S.add_((z_SD[0] * x_SD).sum(1)) if z_SD else loss_S

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        a_SD, c_SD, *z_SD = data
        torch.sub(x_SD, c_SD, out=out).mul_(a_SD)
        if z_SD:
            out.add_(z_SD[0])

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        torch.mul(v_SD, data[0], out=out)

    def objectives(self, x_KD: Tensor) -> Tensor:
        return self._f_best + 0.5 * (x_KD - self._best).square() @ self._mean_a

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        return self._mean_a * (x_D - self._best)

    def optimum(self) -> tuple[Tensor, Tensor] | None:
        return (self._best, self._f_best) if bool((self._mean_a > 0).all()) else None
