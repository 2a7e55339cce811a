"""Functions that optimizers are tried on: Sphere, Rosenbrock and Ackley, the same at all nodes, divided by D."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet import streams
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.models.problems.noise import noise_rows, noise_samples
from simnet.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor


class Synthetic(Problem):
    """A function of one formula, the same at all nodes; a subclass gives values, slopes and curvature.

    First point: uniform on [-start, start] in each coordinate, one draw from `seed` for all nodes.

    Args:
        dim: D.
        start: half the width of the cube in which the first point lies; 0: the origin.
        noise: total variance E|z|^2 of a term z_r'x that minibatches of one row r add; 0 for none (as in `Quadratic`).
    """

    closed_forms: ClassVar[bool] = True
    fewest: ClassVar[int] = 1
    flop_per_number: ClassVar[dict[str, float]]  # of each oracle; sine, cosine and root count as one

    def __init__(self, nodes: int, seed: int = 0, *, dim: int = 1000, start: float = 1.0, noise: float = 0.0) -> None:
        name = type(self).__name__
        if dim < self.fewest:
            raise InputError(f"{name}: dim = {dim}; give at least {self.fewest}")
        if not 0 <= start < math.inf:
            raise InputError(f"{name}: start = {start}; a half width is at least 0")
        self.nodes, self.dim, self.seed, self.start, self.noise = nodes, dim, seed, start, noise
        self.samples_N = noise_samples(name, nodes, noise)

    @abstractmethod
    def values(self, x_SD: Tensor) -> Tensor:
        """f at S points, (S,); differentiable."""

    @abstractmethod
    def slopes(self, x_SD: Tensor) -> Tensor:
        """The gradient of f at S points, (S, D)."""

    @abstractmethod
    def curvature(self, x_SD: Tensor, v_SD: Tensor) -> Tensor:
        """The Hessian of f at S points, times v, (S, D)."""

    @abstractmethod
    def best(self) -> float:
        """Each coordinate of the minimiser, where f is 0."""

    # ---- what follows ----------------------------------------------------------------------------------------------

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return np.zeros(np.shape(samples)) + self.flop_per_number[oracle] * self.dim

    def initial_point(self, name: str) -> np.ndarray:
        key = np.array([streams.key(self.seed, "synthetic first point")], np.uint64)
        point: np.ndarray = self.start * (2.0 * streams.uniform(key, self.dim)[0] - 1.0)
        return point

    def load(self, device: Any, dtype: Any) -> None:
        self._rows = None
        if self.noise:
            rows = noise_rows(self.seed, "synthetic noise", self.dim, self.noise)
            self._rows = torch.as_tensor(rows, dtype=dtype, device=device)

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        """The mean of the minibatch's rows z, where there are such, else zeros."""
        if self._rows is None or samples_SB is None:
            return (torch.zeros((), dtype=self.dtype, device=self.device).expand(len(nodes_S), self.dim),)
        return (self._rows[samples_SB].mean(1),)

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        return self.values(x_D[None])[0] + data[0] @ x_D

    def closed_losses(self, x_SD: Tensor, *data: Tensor) -> Tensor:
        return self.values(x_SD) + (data[0] * x_SD).sum(1)

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        torch.add(self.slopes(x_SD), data[0], out=out)

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        out.copy_(self.curvature(x_SD, v_SD))

    def objectives(self, x_KD: Tensor) -> Tensor:
        return self.values(x_KD)

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        return self.slopes(x_D[None])[0]

    def optimum(self) -> tuple[Tensor, Tensor] | None:
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        return zero.expand(self.dim) + self.best(), zero


class Sphere(Synthetic):
    """sum_j x_j^2 / D; least at the origin."""

    flop_per_number: ClassVar[dict[str, float]] = {"loss": 2.0, "gradient": 1.0, "hvp": 1.0}

    def best(self) -> float:
        return 0.0

    def values(self, x_SD: Tensor) -> Tensor:
        return x_SD.square().mean(1)

    def slopes(self, x_SD: Tensor) -> Tensor:
        return x_SD * (2.0 / self.dim)

    def curvature(self, x_SD: Tensor, v_SD: Tensor) -> Tensor:
        return v_SD * (2.0 / self.dim)


class Rosenbrock(Synthetic):
    """sum_j (100 (x_{j+1} - x_j^2)^2 + (1 - x_j)^2) / D, j = 1 .. D - 1; least where all x_j = 1."""

    fewest: ClassVar[int] = 2
    flop_per_number: ClassVar[dict[str, float]] = {"loss": 8.0, "gradient": 10.0, "hvp": 12.0}

    def best(self) -> float:
        return 1.0

    def values(self, x_SD: Tensor) -> Tensor:
        here, rise = x_SD[:, :-1], x_SD[:, 1:] - x_SD[:, :-1].square()
        return (100.0 * rise.square() + (1.0 - here).square()).sum(1) / self.dim

    def slopes(self, x_SD: Tensor) -> Tensor:
        here, rise = x_SD[:, :-1], x_SD[:, 1:] - x_SD[:, :-1].square()
        slope = torch.zeros_like(x_SD)
        slope[:, :-1] = -400.0 * here * rise - 2.0 * (1.0 - here)
        slope[:, 1:] += 200.0 * rise
        return slope / self.dim

    def curvature(self, x_SD: Tensor, v_SD: Tensor) -> Tensor:
        here, following = x_SD[:, :-1], x_SD[:, 1:]
        product = torch.zeros_like(v_SD)
        product[:, :-1] = (1200.0 * here.square() - 400.0 * following + 2.0) * v_SD[:, :-1]
        product[:, :-1] -= 400.0 * here * v_SD[:, 1:]
        product[:, 1:] += 200.0 * v_SD[:, 1:] - 400.0 * here * v_SD[:, :-1]
        return product / self.dim


class Ackley(Synthetic):
    """20 - 20 exp(-r/5) + e - exp(sum_j cos(2 pi x_j) / D), r^2 = sum_j x_j^2 / D; least at the origin, a cone there.

    Full of local minima: from outside about [-0.5, 0.5] descent ends in one. The gradient at the origin is set to 0.
    """

    flop_per_number: ClassVar[dict[str, float]] = {"loss": 4.0, "gradient": 8.0, "hvp": 16.0}

    def best(self) -> float:
        return 0.0

    def values(self, x_SD: Tensor) -> Tensor:
        r_S, waves_S = x_SD.square().mean(1).sqrt(), torch.cos(2.0 * math.pi * x_SD).mean(1)
        return 20.0 - 20.0 * torch.exp(-0.2 * r_S) + math.e - torch.exp(waves_S)

    def slopes(self, x_SD: Tensor) -> Tensor:
        pull_S1, waves_S1, _ = self._parts(x_SD)
        return (pull_S1 * x_SD + 2.0 * math.pi * waves_S1 * torch.sin(2.0 * math.pi * x_SD)) / self.dim

    def curvature(self, x_SD: Tensor, v_SD: Tensor) -> Tensor:
        pull_S1, waves_S1, r_S1 = self._parts(x_SD)
        sine, cosine = torch.sin(2.0 * math.pi * x_SD), torch.cos(2.0 * math.pi * x_SD)
        along = (x_SD * v_SD).sum(1, keepdim=True) / self.dim
        bend = pull_S1 * (v_SD - x_SD * along * (1.0 + 0.2 * r_S1) / r_S1.clamp(min=1e-30) ** 2)
        wave = cosine * v_SD - sine * (sine * v_SD).sum(1, keepdim=True) / self.dim
        return (bend + 4.0 * math.pi**2 * waves_S1 * wave) / self.dim

    def _parts(self, x_SD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """4 exp(-r/5) / r (0 where r is 0), exp of the mean cosine, and r, (S, 1) each."""
        r_S1 = x_SD.square().mean(1, keepdim=True).sqrt()
        pull_S1 = torch.where(r_S1 > 0, 4.0 * torch.exp(-0.2 * r_S1) / r_S1, 0.0)
        return pull_S1, torch.exp(torch.cos(2.0 * math.pi * x_SD).mean(1, keepdim=True)), r_S1
