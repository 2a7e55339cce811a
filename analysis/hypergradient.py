"""The exact gradient of F(x) = mean_i f_i(x, y*(x)), for bilevel problems whose mean Hessian can be formed.

    found = exact(problem, x)               F, its gradient, y*, z*, and how curved the lower level is there
    slopes = central_differences(problem, x)
    largest_error(problem, x)               of one against the other

The gradient is mean fx - (mean Gxy) (mean Gyy)^-1 (mean fy) at y*(x), which Newton's method finds; the differences look
at nothing but F.

Legend: X and Y numbers of x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simnet.bilevel import EXACT_UP_TO, BilevelProblem
from simnet.errors import InputError
from simnet.lazy import torch


@dataclass(frozen=True)
class Exact:
    """Both levels solved at one x: float64 arrays."""

    value: float
    gradient: np.ndarray  # (X,)
    y: np.ndarray  # (Y,)
    z: np.ndarray  # (Y,)
    curvature: tuple[float, float]  # least and largest eigenvalue of the mean Hessian in y, at y*


def exact(problem: BilevelProblem, x: np.ndarray) -> Exact:
    """F, its gradient, y* and z* at x. The problem is prepared for float64 on the CPU where it is not prepared yet.

    Raises InputError where y has more than 512 numbers.
    """
    at = _point(problem, x)
    found = problem.newton.at(at)
    return Exact(
        float(found.value), found.gradient.cpu().numpy(), found.y.cpu().numpy(), found.z.cpu().numpy(),
        problem.newton.curvature(at, found.y),
    )  # fmt: skip


def central_differences(problem: BilevelProblem, x: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """The slopes of F along each axis from four values of it, whose error is of the fourth order in `step`: (X,)."""
    at = _point(problem, x)
    slopes = []
    for j in range(problem.dx):
        axis = torch.zeros_like(at)
        axis[j] = step
        values = problem.objectives(torch.stack([at + k * axis for k in (-2, -1, 1, 2)])).tolist()
        slopes.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step))
    return np.array(slopes)


def largest_error(problem: BilevelProblem, x: np.ndarray, step: float = 1e-3) -> float:
    """The largest difference between the exact gradient and central differences, over the coordinates."""
    return float(np.abs(exact(problem, x).gradient - central_differences(problem, x, step)).max())


def _point(problem: BilevelProblem, x: np.ndarray) -> torch.Tensor:
    if not problem.has_objective:
        raise InputError(
            f"{type(problem).__name__} has {problem.dy} numbers in its lower level, more than {EXACT_UP_TO}: the mean "
            "Hessian is not formed, so there is no exact hypergradient"
        )
    if problem.dtype is None:
        problem.prepare("cpu", torch.float64)
    point = torch.as_tensor(np.asarray(x), dtype=problem.dtype, device=problem.device)
    if point.shape != (problem.dx,):
        raise InputError(f"x of {type(problem).__name__} has shape {(problem.dx,)}, not {tuple(point.shape)}")
    return point
