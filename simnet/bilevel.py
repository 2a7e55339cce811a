"""Two levels: x is chosen so that the y that answers it best, by another objective, does well.

    min_x F(x) = (1/N) sum_i f_i(x, y*(x)),    y*(x) = argmin_y (1/N) sum_i g_i(x, y)

Node i knows f_i and g_i alone, and g is strongly convex in y. A third vector stands for the inverse mean Hessian:

    grad F(x) = mean fx_i - (mean Gxy_i) z*,   z* = (mean Gyy_i)^-1 (mean fy_i),   all at (x, y*(x))

What a node can be asked, each on its own data or a minibatch of both levels:

    hy          (x, y) -> grad_y g_i                   hx, hz, hy from one pass: `directions`
    hz          (x, y, z) -> Gyy_i z - fy_i            upper        (x, y) -> fx_i, fy_i
    hx          (x, y, z) -> fx_i - Gxy_i z            gyy, gxy     (x, y, v) -> Gyy_i v, Gxy_i v
    directions  (x, y, z) -> hx, hy, hz                gyy_matrix, gxy_matrix    (x, y) -> the matrices, flat
                                                       gyy_solve    (x, y, Z) -> Gyy_i Z - Gxy_i', flat

Legend: N nodes, S of a call, X and Y numbers of x and y, B rows of a minibatch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import numpy as np

from simnet.errors import CapabilityError, InputError
from simnet.lazy import torch
from simnet.lower_level import Newton, Solved, kinks
from simnet.oracle import Oracle
from simnet.problem import FEWEST_NODES, Kernels, Problem

if TYPE_CHECKING:
    from torch import Tensor

EXACT_UP_TO = 512  # numbers of y: beyond this, the mean Hessian is not formed
Level = Literal["upper", "lower"]
_LEVELS: dict[str, tuple[Level, ...]] = {  # which level's data an oracle reads
    "hx": ("upper", "lower"), "hy": ("lower",), "hz": ("upper", "lower"), "directions": ("upper", "lower"),
    "upper": ("upper",), "gyy": ("lower",), "gxy": ("lower",), "gyy_matrix": ("lower",), "gxy_matrix": ("lower",),
    "gyy_solve": ("lower",),
}  # fmt: skip


class BilevelProblem(Problem):
    """The base of problems with two levels; a subclass gives data, losses and costs of both.

    Args:
        nodes: N.
        dx, dy: X and Y.
        upper_N, lower_N: rows of each level at each node; zeros where a level is deterministic.

    Raises InputError where dx or dy is below 1, and from `prepare` where the lower level is not strongly convex (found
    for dy up to 512) or not twice differentiable.
    """

    own_objectives: ClassVar[bool] = False
    own_metrics: ClassVar[tuple[str, ...]] = (
        "upper_loss", "lower_error", "multiplier_error", "consensus_distance_y", "consensus_distance_z",
        "tracker_residual_x", "tracker_residual_y", "tracker_residual_z",
    )  # fmt: skip
    row_numbers: int = 1  # numbers in one row of data

    def __init__(self, nodes: int, dx: int, dy: int, upper_N: np.ndarray, lower_N: np.ndarray) -> None:
        for name, size in (("dx", dx), ("dy", dy)):
            if size < 1:
                raise InputError(f"{type(self).__name__}: {name} = {size}; both levels have at least 1 number")
        self.nodes, self.dim, self.dx, self.dy = nodes, dx, dx, dy
        self.upper_N, self.lower_N = np.asarray(upper_N, np.int64), np.asarray(lower_N, np.int64)
        self.samples_N = np.maximum(self.upper_N, self.lower_N)
        self.has_objective = dy <= EXACT_UP_TO

    # ---- known without torch ---------------------------------------------------------------------------------------

    def variables(self) -> dict[str, tuple[int, ...]]:
        return {"x": (self.dx,), "y": (self.dy,), "z": (self.dy,)}

    def oracles(self) -> dict[str, Oracle]:
        x, y, xy, yy = (self.dx,), (self.dy,), (self.dx * self.dy,), (self.dy * self.dy,)
        return {
            "hx": Oracle((x, y, y), (x,), "hvp"), "hy": Oracle((x, y), (y,)), "hz": Oracle((x, y, y), (y,), "hvp"),
            "directions": Oracle((x, y, y), (x, y, y), "hvp"), "upper": Oracle((x, y), (x, y)),
            "gyy": Oracle((x, y, y), (y,), "hvp"), "gxy": Oracle((x, y, y), (x,), "hvp"),
            "gyy_matrix": Oracle((x, y), (yy,), "hvp"), "gxy_matrix": Oracle((x, y), (xy,), "hvp"),
            "gyy_solve": Oracle((x, y, xy), (xy,), "hvp"),
        }  # fmt: skip

    def row_groups(self) -> tuple[np.ndarray, ...]:
        """Rows of the upper and of the lower level: a minibatch draws from each apart."""
        return self.upper_N, self.lower_N

    def notes(self) -> tuple[str, ...]:
        if self.has_objective:
            return ()
        return (
            f"the lower level has {self.dy} numbers, more than {EXACT_UP_TO}: whether it is strongly convex is not "
            "checked, and F, its gradient and the errors of y and z are not measured; `upper_loss` is, at the means",
        )

    @abstractmethod
    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        """FLOP of one call on that many rows of each level; 2 for a multiply-add."""

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        rows = np.asarray(samples, np.float64)
        return self.oracle_flop(oracle, rows, rows)

    def flop_of_all(self, oracle: str) -> np.ndarray:
        found = self.oracle_flop(oracle, self.upper_N.astype(np.float64), self.lower_N.astype(np.float64))
        return np.broadcast_to(np.asarray(found, np.float64), (self.nodes,))

    # ---- what a subclass gives -------------------------------------------------------------------------------------

    @abstractmethod
    def level_data(self, level: Level, nodes_S: Tensor, rows_SB: Tensor | None) -> tuple[Tensor, ...]:
        """What the losses of a level depend on besides x and y: tensors whose first axis is S. `rows_SB` holds row
        numbers within each node's own rows of that level; None means all.
        """

    @abstractmethod
    def upper_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        """f_i(x, y) of one node, a differentiable scalar; `data` is one entry of `level_data("upper", ...)`."""

    @abstractmethod
    def lower_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        """g_i(x, y) of one node, twice differentiable and strongly convex in y."""

    def closed_answers(
        self, oracle: str, operands: list[Tensor], upper: tuple[Tensor, ...], lower: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        """As `answers`, by hand, where a subclass sets `closed_forms`; None for an oracle that has no such form."""
        return None

    def closed_solution(self, x_X: Tensor) -> Solved | None:
        """y*, z*, F and its gradient at x by hand; None where they take Newton's method."""
        return None

    # ---- many nodes, and one ---------------------------------------------------------------------------------------

    def prepare(self, device: Any, dtype: Any, kernels: Kernels = "closed") -> None:
        super().prepare(device, dtype, kernels)
        self._kept: dict[tuple[int, Level], tuple[Tensor, tuple[Tensor, ...]]] = {}
        self.newton = Newton(self)
        self._check()

    def answers(
        self, oracle: str, operands: list[Tensor], nodes_S: Tensor, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        size = self.piece_size(None if samples is None else samples[0].shape[1])
        if size >= len(nodes_S):
            return self._answers(oracle, operands, nodes_S, samples)
        parts = []
        for start in range(0, len(nodes_S), size):
            piece = slice(start, start + size)
            rows = None if samples is None else tuple(group[piece] for group in samples)
            parts.append(self._answers(oracle, [v[piece] for v in operands], nodes_S[piece], rows))
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))

    def answer(
        self, oracle: str, operands: list[Tensor], node: int, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        """By automatic differentiation of the node's own two losses."""
        data = self._level_data(oracle, self._indices([node]), None if samples is None else [r[None] for r in samples])
        upper, lower = _alone(self.upper_loss), _alone(self.lower_loss)
        found = _differentiated(oracle, [v[None] for v in operands], *data, upper, lower)
        return tuple(part[0] for part in found)

    def piece_size(self, batch: int | None) -> int:
        rows = max(int(self.samples_N.max(initial=1)), 1) if batch is None else batch
        return max(FEWEST_NODES, self.numbers_per_piece // max(self.dx, self.dy, rows * self.row_numbers))

    def _answers(
        self, oracle: str, operands: list[Tensor], nodes_S: Tensor, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        upper, lower = self._level_data(oracle, nodes_S, samples)
        if self._closed:
            with torch.no_grad():
                found = self.closed_answers(oracle, operands, upper, lower)
            if found is not None:
                return found
        return _differentiated(oracle, operands, upper, lower, self.losses_of("upper"), self.losses_of("lower"))

    def losses_of(self, level: Level) -> Callable[..., Tensor]:
        """The loss of a level as a function of many nodes' tensors at once."""
        one, many = (self.upper_loss, self.upper_losses) if level == "upper" else (self.lower_loss, self.lower_losses)
        return self.each(one) if self.kernels == "loop" else many

    def upper_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        """`upper_loss` of many nodes at once, (S,); by vmap unless a subclass writes it out, which is quicker."""
        return self.each(self.upper_loss)(x_SX, y_SY, *data)

    def lower_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        """`lower_loss` likewise."""
        return self.each(self.lower_loss)(x_SX, y_SY, *data)

    def _level_data(self, oracle: str, nodes_S: Tensor, samples: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Data of the upper and of the lower level, of those that the oracle reads."""
        upper, lower = (None, None) if samples is None else samples
        used = _LEVELS[oracle]
        return (
            self.data_of("upper", nodes_S, upper) if "upper" in used else (),
            self.data_of("lower", nodes_S, lower) if "lower" in used else (),
        )

    def data_of(self, level: Level, nodes_S: Tensor, rows_SB: Tensor | None) -> tuple[Tensor, ...]:
        """`level_data`; all rows of the same nodes, which are asked for again and again, are gathered once."""
        if rows_SB is not None:
            return self.level_data(level, nodes_S, rows_SB)
        kept = self._kept.get((id(nodes_S), level))
        if kept is None or kept[0] is not nodes_S:
            if len(self._kept) >= 8:
                self._kept.clear()
            kept = self._kept[id(nodes_S), level] = (nodes_S, self.level_data(level, nodes_S, None))
        return kept[1]

    def _check(self) -> None:
        """Refuse a lower level without the derivatives or the curvature that everything here rests on."""
        x, y = self.initial("x"), self.initial("y")
        data = self.level_data("lower", self._indices([0]), None)
        if kinked := kinks(lambda: self.lower_loss(x, y, *(part[0] for part in data))):
            raise InputError(
                f"{type(self).__name__}: the lower level goes through {kinked}, and second derivatives need a twice "
                "differentiable one: take tanh or softplus"
            )
        if self.has_objective:
            least, most = self.newton.curvature(x, y)
            if not least > 1e-12 * abs(most):
                raise InputError(
                    f"{type(self).__name__}: the lower level is not strongly convex: at the first point the mean "
                    f"Hessian in y has an eigenvalue of {least:.3g} (the largest is {most:.3g}); add a ridge term in y"
                )

    # ---- both levels as one function of x --------------------------------------------------------------------------

    def objectives(self, x_KD: Tensor) -> Tensor:
        """F at each of K points, (K,)."""
        return torch.stack([self.newton.at(x).value for x in x_KD])

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        """The exact hypergradient."""
        return self.newton.at(x_D).gradient

    def state_metrics(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """upper_loss (1/N) sum_i f_i(xbar, ybar), lower_error |ybar - y*(xbar)|, multiplier_error |zbar - z*(xbar)|."""
        found: dict[str, Tensor] = {}
        if "y" in means:
            found["upper_loss"] = self.newton.mean_loss("upper", means["x"], means["y"])
        if self.has_objective:
            best = self.newton.at(means["x"])
            if "y" in means:
                found["lower_error"] = torch.linalg.vector_norm(means["y"] - best.y)
            if "z" in means:
                found["multiplier_error"] = torch.linalg.vector_norm(means["z"] - best.z)
        return found

    # ---- what a function of x alone has ----------------------------------------------------------------------------

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        self._two_levels()

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        self._two_levels()

    def _two_levels(self) -> NoReturn:
        raise CapabilityError(
            f"{type(self).__name__} has two levels, and no node knows its objective: ask for hx, hy and hz"
        )


def _alone(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One node's loss as a function of tensors with a node axis of 1."""
    return lambda *batched: loss(*(part[0] for part in batched))


def _differentiated(
    oracle: str, operands: list[Tensor], upper_data: tuple[Tensor, ...], lower_data: tuple[Tensor, ...],
    upper: Callable[..., Tensor], lower: Callable[..., Tensor],
) -> tuple[Tensor, ...]:  # fmt: skip
    """An oracle's answers by differentiating the sum of the nodes' losses, whose rows do not interact: hx and hz come
    from one reverse pass over the stacked gradient.
    """
    with torch.enable_grad():
        x, y = (v.detach().requires_grad_() for v in operands[:2])
        above = upper(x, y, *upper_data).sum() if "upper" in _LEVELS[oracle] else x.new_zeros(())
        if oracle == "upper":
            return _gradients(above, (x, y))
        below = lower(x, y, *lower_data).sum()
        if oracle == "hy":
            return _gradients(below, (y,))
        (slope,) = torch.autograd.grad(below, y, create_graph=True)
        given = operands[2].detach() if len(operands) > 2 else None
        if given is None or oracle == "gyy_solve":
            return (_matrix(oracle, slope, x, y, given),)
        along = (slope * given).sum() - above  # its gradients are Gxy z - fx and Gyy z - fy
        if oracle in ("hz", "gyy"):
            return _gradients(along, (y,))
        (by_x, *by_y) = _gradients(along, (x, y) if oracle == "directions" else (x,))
        return (by_x,) if oracle == "gxy" else (-by_x, *(part for v in by_y for part in (slope.detach(), v)))


def _matrix(oracle: str, slope_SY: Tensor, x_SX: Tensor, y_SY: Tensor, given: Tensor | None) -> Tensor:
    """The oracles of whole matrices, flat: as many reverse passes, run as one, as they have columns."""
    nodes, dy = slope_SY.shape
    axes = torch.eye(dy, dtype=slope_SY.dtype, device=slope_SY.device)[:, None, :].expand(dy, nodes, dy)
    if oracle == "gyy_matrix":
        (rows_YSY,) = _gradients(slope_SY, (y_SY,), axes)
        return rows_YSY.transpose(0, 1).reshape(nodes, -1)
    (rows_YSX,) = _gradients(slope_SY, (x_SX,), axes, keep=oracle == "gyy_solve")
    if oracle == "gxy_matrix":
        return rows_YSX.permute(1, 2, 0).reshape(nodes, -1)
    assert given is not None
    columns_XSY = given.view(nodes, dy, -1).permute(2, 0, 1)
    (products_XSY,) = _gradients(slope_SY, (y_SY,), columns_XSY)
    return (products_XSY.permute(1, 2, 0) - rows_YSX.transpose(0, 1)).reshape(nodes, -1)


def _gradients(
    of: Tensor, by: tuple[Tensor, ...], times: Tensor | None = None, keep: bool = False
) -> tuple[Tensor, ...]:
    """Gradients, zeros where there is no dependence; with `times` (K, *shape) a batch of K vector-Jacobian products."""
    found: tuple[Tensor, ...] = torch.autograd.grad(
        of, by, times, retain_graph=keep, is_grads_batched=times is not None, allow_unused=True, materialize_grads=True
    )
    return found
