"""What is measured at an evaluation, outside simulated time.

    xbar                    mean of the nodes' x_i
    objective               f(xbar)
    objective_gap           f(xbar) - f(x*), where the optimum x* is known
    node_objective_mean     mean over nodes of f_i(x_i)
    node_objective_spread   their standard deviation, divided by N
    consensus_distance      mean over nodes of |x_i - xbar|^2
    stationarity_gap        |grad f(xbar)|^2
    distance_to_optimum     mean over nodes of |x_i - x*|^2
    validation_loss         on the test rows, mean over nodes of each node's own model; `accuracy` likewise
    validation_loss_mean_model, accuracy_mean_model       the same two at xbar
    tracker_residual        |mean p_i - mean u_i|, p the trackers and u the estimates they follow; over
                            several pairs the root of the sum of squares
    tracker_residual_y      the same of the pair that was reported as `tracker_y=`, `estimate_y=`
    consensus_distance_y    consensus distance of the problem's variable y, where it has such and y is reported

A problem may add metrics of its own (`Problem.state_metrics`).

Sums are taken in float64 (float32 where the device has no float64). Everything stays on the device until one
read at the end.

Shapes: N nodes that report, S nodes of one chunk, D parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from simnet.errors import InputError

if TYPE_CHECKING:
    from simnet.problem import Problem

CHUNK_BYTES = 2**21  # of one chunk of rows, so that an evaluation needs a few MB beside the states
VALIDATION_ROWS = 32  # models validated in one call: logits are larger than models
GPU_FACTOR = 256  # as much more on a GPU, which wants few large kernels


@torch.no_grad()
def evaluate(
    problem: Problem,
    x_ND: Tensor,
    *,
    trackers: Sequence[tuple[Tensor, Tensor]] | None = None,
    nodes: Sequence[int] | Tensor | None = None,
    weights: Sequence[float] | Tensor | None = None,
) -> dict[str, float]:
    """The metrics above that apply, as floats. `problem` is prepared; `x_ND` holds each reporting node's x.

    `nodes` says whose f_i belongs to each row of `x_ND` (default: row i is node i where there are as many
    rows as nodes; none where it is empty, e.g. for a server alone: the nodes' own objectives are left out).
    `weights`, one per node of the problem and summing to 1, make the objective sum_i w_i f_i, e.g. by samples; by
    default all nodes count alike. `trackers` holds pairs (p, u), each of shape (N, D'). Raises InputError where
    shapes do not fit.
    """
    if x_ND.ndim != 2 or x_ND.shape[1] != problem.dim:
        raise InputError(f"an evaluation needs x of shape (nodes, {problem.dim}), not {tuple(x_ND.shape)}")
    owners = _owners(problem, x_ND, nodes)
    mean_D = _mean_row(x_ND)
    xbar_D = mean_D.to(x_ND.dtype)
    found: dict[str, Tensor] = {}

    if problem.has_objective:
        found["objective"], gradient_D = _objective(problem, xbar_D, weights)
    if owners is not None and problem.own_objectives:
        own_N = torch.cat([problem.losses(x_ND[s], owners[s], None) for s in _chunks(x_ND)])
        own_N = own_N.to(mean_D.dtype)
        found["node_objective_mean"] = own_N.mean()
        found["node_objective_spread"] = own_N.std(correction=0)
    found["consensus_distance"] = _mean_squared_distance(x_ND, mean_D)
    if problem.has_objective:
        found["stationarity_gap"] = gradient_D.to(mean_D.dtype).square().sum()
    if problem.has_test:
        found |= _validation(problem, x_ND, xbar_D)
    optimum = problem.optimum()
    if optimum is not None:
        best_D, best = optimum
        found["distance_to_optimum"] = _mean_squared_distance(x_ND, best_D.to(mean_D))
        if weights is None and problem.has_objective:  # the optimum is that of the equally weighted objective
            found["objective_gap"] = found["objective"].to(mean_D.dtype) - torch.as_tensor(best).to(mean_D)
    if trackers:
        found["tracker_residual"] = _residual(trackers)

    values = torch.stack([value.reshape(()).to(mean_D.dtype) for value in found.values()]).tolist()
    return dict(zip(found, values, strict=True))


@torch.no_grad()
def evaluate_states(problem: Problem, states: Mapping[str, Any], nodes: Sequence[int]) -> dict[str, float]:
    """The metrics of all that a program has reported: name -> tensor (N, *shape), or a tuple of such."""
    pairs = {
        name.removeprefix("tracker"): (p, states["estimate" + name.removeprefix("tracker")])
        for name, p in states.items()
        if name.startswith("tracker") and "estimate" + name.removeprefix("tracker") in states
    }
    flat = {
        ending: list(zip(p, u, strict=True)) if isinstance(p, tuple) else [(p, u)] for ending, (p, u) in pairs.items()
    }
    found = evaluate(
        problem, states["x"], trackers=[each for several in flat.values() for each in several], nodes=nodes
    )
    named = {f"tracker_residual{ending}": _residual(several) for ending, several in flat.items() if ending}
    means = {}
    for name in problem.variables():
        if name in states and not isinstance(states[name], tuple):
            rows = states[name].reshape(len(states[name]), -1)
            mean = _mean_row(rows)
            means[name] = mean.to(rows.dtype).reshape(states[name].shape[1:])
            if name != "x":
                named[f"consensus_distance_{name}"] = _mean_squared_distance(rows, mean)
    named |= problem.state_metrics(means)
    if named:
        values = torch.stack([value.reshape(()).to(_sum_dtype(value)) for value in named.values()]).tolist()
        found |= dict(zip(named, values, strict=True))
    return found


def _residual(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([_mean_difference(p, u).square().sum() for p, u in pairs]).sum().sqrt()


def _owners(problem: Problem, x_ND: Tensor, nodes: Sequence[int] | Tensor | None) -> Tensor | None:
    if nodes is not None and len(nodes) == 0:
        return None
    if nodes is not None:
        owners = torch.as_tensor(nodes, dtype=torch.int64, device=x_ND.device)
        if owners.shape != (len(x_ND),):
            raise InputError(f"{len(x_ND)} rows of x need as many node numbers, not {tuple(owners.shape)}")
        return owners
    return torch.arange(len(x_ND), device=x_ND.device) if len(x_ND) == problem.nodes else None


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _scaled(size: int, x: Tensor) -> int:
    return size * GPU_FACTOR if x.device.type == "cuda" else size


def _chunks(x_ND: Tensor) -> Iterator[slice]:
    rows = max(1, _scaled(CHUNK_BYTES, x_ND) // max(1, 8 * x_ND.shape[1]))
    return (slice(start, min(start + rows, len(x_ND))) for start in range(0, len(x_ND), rows))


def _mean_row(x_ND: Tensor) -> Tensor:
    """The mean over nodes, shape (D,), as an offset from the first row: equal rows give it exactly."""
    first_D = x_ND[0].to(_sum_dtype(x_ND))
    total_D = torch.zeros_like(first_D)
    for s in _chunks(x_ND):
        total_D += (x_ND[s].to(first_D.dtype) - first_D).sum(0)
    return first_D + total_D / len(x_ND)


def _mean_difference(p_ND: Tensor, u_ND: Tensor) -> Tensor:
    """mean p - mean u, shape (D,)."""
    if p_ND.shape != u_ND.shape:
        raise InputError(f"a tracker of shape {tuple(p_ND.shape)} cannot follow one of {tuple(u_ND.shape)}")
    p_ND, u_ND = p_ND.reshape(len(p_ND), -1), u_ND.reshape(len(u_ND), -1)
    total_D = torch.zeros(p_ND.shape[1], dtype=_sum_dtype(p_ND), device=p_ND.device)
    for s in _chunks(p_ND):
        total_D += (p_ND[s].to(total_D.dtype) - u_ND[s]).sum(0)
    return total_D / len(p_ND)


def _mean_squared_distance(x_ND: Tensor, point_D: Tensor) -> Tensor:
    parts = [(x_ND[s].to(point_D.dtype) - point_D).square_().sum() for s in _chunks(x_ND)]
    return torch.stack(parts).sum() / len(x_ND)


def _objective(problem: Problem, xbar_D: Tensor, weights: Sequence[float] | Tensor | None) -> tuple[Tensor, Tensor]:
    """f(xbar) and its gradient."""
    if weights is None:
        return problem.objective(xbar_D), problem.objective_gradient(xbar_D)
    dtype = _sum_dtype(xbar_D)
    w_N = torch.as_tensor(weights, dtype=dtype, device=xbar_D.device)
    if w_N.shape != (problem.nodes,):
        raise InputError(f"the objective needs {problem.nodes} weights, one per node, not {tuple(w_N.shape)}")
    value = torch.zeros((), dtype=dtype, device=xbar_D.device)
    gradient_D = torch.zeros_like(xbar_D, dtype=dtype)
    nodes_N = torch.arange(problem.nodes, device=xbar_D.device)
    same_ND = xbar_D.expand(problem.nodes, -1)
    for s in _chunks(same_ND):
        x_SD = same_ND[s].contiguous()
        value += w_N[s] @ problem.losses(x_SD, nodes_N[s], None).to(dtype)
        gradient_D += w_N[s] @ problem.gradients(x_SD, nodes_N[s], None).to(dtype)
    return value, gradient_D


def _validation(problem: Problem, x_ND: Tensor, xbar_D: Tensor) -> dict[str, Tensor]:
    """Means over the nodes' own models, and the same at the mean model."""
    totals: dict[str, Tensor] = {}
    size = _scaled(VALIDATION_ROWS, x_ND)
    for start in range(0, len(x_ND), size):
        for name, values_K in problem.validate(x_ND[start : start + size]).items():
            part = values_K.to(_sum_dtype(x_ND)).sum()
            totals[name] = totals[name] + part if name in totals else part
    found = {name: total / len(x_ND) for name, total in totals.items()}
    return found | {f"{name}_mean_model": v for name, v in problem.validate(xbar_D[None]).items()}
