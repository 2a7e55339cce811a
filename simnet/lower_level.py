"""The lower level solved: y*(x), z*(x), F(x) and its exact gradient, by Newton's method on the mean over nodes.

Legend: N nodes, X and Y numbers of x and y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from simnet.bilevel import BilevelProblem

_MOST_STEPS = 100
_KINKED = ("relu", "leaky_relu", "hardtanh", "threshold", "abs", "max_pool2d_with_indices")


@dataclass(frozen=True)
class Solved:
    """Both levels at one x: y* (Y,), z* (Y,), F, and its gradient (X,)."""

    y: Tensor
    z: Tensor
    value: Tensor
    gradient: Tensor


class Newton:
    """Answers for the mean over nodes of both levels; keeps the last point, and starts from its y."""

    def __init__(self, problem: BilevelProblem) -> None:
        self.problem = problem
        self._nodes = torch.arange(problem.nodes, device=problem.device)
        self._last: tuple[Tensor, Solved] | None = None

    def mean_loss(self, level: Literal["upper", "lower"], x_X: Tensor, y_Y: Tensor) -> Tensor:
        """(1/N) sum_i of a level's losses at one point."""
        problem = self.problem
        data = problem.data_of(level, self._nodes, None)
        same = x_X.expand(problem.nodes, -1), y_Y.expand(problem.nodes, -1)
        return problem.losses_of(level)(*same, *data).mean()

    def at(self, x_X: Tensor) -> Solved:
        """Everything at x; not-a-number where the lower level has no minimiser there."""
        if self._last is not None and torch.equal(self._last[0], x_X):
            return self._last[1]
        by_hand = self.problem.closed_solution(x_X)
        if by_hand is not None:
            self._last = (x_X.clone(), by_hand)
            return by_hand
        y = self._minimiser(x_X)
        hessian_YY, cross_XY = self._second(x_X, y)
        fx, fy = self._slopes("upper", x_X, y)
        z = _solve(hessian_YY, fy)
        solved = Solved(y, z, self.mean_loss("upper", x_X, y).detach(), fx - cross_XY @ z)
        self._last = (x_X.clone(), solved)
        return solved

    def curvature(self, x_X: Tensor, y_Y: Tensor) -> tuple[float, float]:
        """The least and the largest eigenvalue of the mean Hessian in y."""
        eigenvalues = torch.linalg.eigvalsh(self._second(x_X, y_Y)[0])
        return float(eigenvalues[0]), float(eigenvalues[-1])

    def _minimiser(self, x_X: Tensor) -> Tensor:
        """y*(x): full steps once they are small, halved ones before."""
        y = self.problem.initial("y") if self._last is None else self._last[1].y
        if not bool(torch.isfinite(y).all()):
            y = self.problem.initial("y")
        fine = 4 * torch.finfo(y.dtype).eps
        for _ in range(_MOST_STEPS):
            _, slope_Y = self._slopes("lower", x_X, y)
            step = _solve(self._second(x_X, y)[0], slope_Y)
            size = torch.linalg.vector_norm(step)
            if not bool(torch.isfinite(size)):
                return torch.full_like(y, torch.nan)
            scale = 1.0
            if size > 1e-3 * (1 + torch.linalg.vector_norm(y)):
                here, slope = self.mean_loss("lower", x_X, y), slope_Y @ step
                while scale > 1e-9 and self.mean_loss("lower", x_X, y - scale * step) > here - 1e-4 * scale * slope:
                    scale /= 2
            y = y - scale * step
            if size <= fine * (1 + torch.linalg.vector_norm(y)):
                break
        return y

    def _slopes(self, level: Literal["upper", "lower"], x_X: Tensor, y_Y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x, y = x_X.detach().requires_grad_(), y_Y.detach().requires_grad_()
            loss = self.mean_loss(level, x, y)
            by_x, by_y = torch.autograd.grad(loss, (x, y), allow_unused=True, materialize_grads=True)
        return by_x, by_y

    def _second(self, x_X: Tensor, y_Y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean Gyy (Y, Y) and Gxy (X, Y), column after column."""
        with torch.enable_grad():
            x, y = x_X.detach().requires_grad_(), y_Y.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.mean_loss("lower", x, y), y, create_graph=True)
            if not slope.requires_grad:  # linear in y
                return y.new_zeros(len(y), len(y)), y.new_zeros(len(x), len(y))
            axes = torch.eye(len(y), dtype=y.dtype, device=y.device)
            cross_YX, hessian_YY = torch.autograd.grad(
                slope, (x, y), axes, is_grads_batched=True, allow_unused=True, materialize_grads=True
            )
        return 0.5 * (hessian_YY + hessian_YY.mT), cross_YX.mT


def _solve(hessian_YY: Tensor, right_Y: Tensor) -> Tensor:
    """By Cholesky's method; not-a-number where the Hessian is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(hessian_YY)
    if int(failed):
        return torch.full_like(right_Y, torch.nan)
    return torch.cholesky_solve(right_Y[:, None], factor)[:, 0]


def kinks(call: Callable[[], Any]) -> str:
    """The first function without a second derivative that a call goes through; empty where there is none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[str] = []

    class Listens(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name in _KINKED:
                found.append(name)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Listens():
        call()
    return found[0] if found else ""
