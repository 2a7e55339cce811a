"""Two quadratic levels whose solution, hypergradient and heterogeneity are known."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet import streams
from simnet.bilevel import BilevelProblem, Level
from simnet.errors import InputError
from simnet.lazy import torch
from simnet.lower_level import Solved

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 4096  # of noise


class BilevelQuadratic(BilevelProblem):
    """g_i = 1/2 y'A_i y - y'(B_i x + b_i);  f_i = 1/2 |y - c_i|^2 + rho/2 |x - e_i|^2.

    A_i = I + M_i M_i'/dy with M_i, B_i sqrt(dx), b_i, c_i and e_i standard normal; B_i is then moved to sqrt(n) times
    the mean plus its own deviation, so that x matters. `het` h scales every deviation from the mean over the nodes, so
    the averages, and with them x*, do not depend on it. With bars for means over nodes:

        y*(x) = Abar^-1 (Bbar x + bbar),    z* = Abar^-1 (y* - cbar),    grad F = rho (x - ebar) + Bbar' z*

    FLOP of a call: hy 2 dy^2 + 2 dx dy, hz 2 dy^2, hx 2 dx dy, all three 4 dy (dx + dy).

    Args:
        dx, dy: numbers of x and of y.
        rho: curvature of the upper level in x, at least 0.
        het: h, at least 0; 1 leaves the nodes as they were drawn, 0 makes them equal.
        noise: s. A minibatch's mean row adds s times standard normals to A_i (symmetric, off its diagonal of variance
            one), B_i, b_i, c_i and e_i. The 4,096 rows have mean zero and variance one, so a full batch is exact.
        instance: the number of the generator that draws the instance.
        tiles: every node stands there so often; `nodes` counts them all.
    """

    closed_forms: ClassVar[bool] = True

    def __init__(
        self,
        nodes: int,
        seed: int = 0,
        *,
        dx: int = 5,
        dy: int = 10,
        rho: float = 0.1,
        het: float = 1.0,
        noise: float = 0.0,
        instance: int = 0,
        tiles: int = 1,
    ) -> None:
        rows = np.full(nodes, _ROWS if noise else 0)
        super().__init__(nodes, dx, dy, rows, rows)
        for name, number in (("rho", rho), ("het", het), ("noise", noise)):
            if not 0 <= number < float("inf"):
                raise InputError(f"BilevelQuadratic: {name} = {number}; give 0 or more")
        if tiles < 1 or nodes % tiles:
            raise InputError(f"BilevelQuadratic: tiles = {tiles}; {nodes} nodes must be a multiple of it")
        self.seed, self.rho, self.het, self.noise = seed, rho, het, noise
        self.instance, self.tiles = instance, tiles
        self.row_numbers = dy * (dy + dx + 2) + dx if noise else 1

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """A (N, Y, Y), B (N, Y, X), b (N, Y), c (N, Y), e (N, X), float64."""
        n, dx, dy = self.nodes // self.tiles, self.dx, self.dy
        generator = np.random.default_rng(self.instance)
        m, B = generator.standard_normal((n, dy, dy)), generator.standard_normal((n, dy, dx)) / np.sqrt(dx)
        b, c, e = (generator.standard_normal((n, size)) for size in (dy, dy, dx))
        A = np.eye(dy) + m @ m.transpose(0, 2, 1) / dy
        B = np.sqrt(n) * B.mean(0) + (B - B.mean(0))
        return tuple(np.tile(v.mean(0) + self.het * (v - v.mean(0)), (self.tiles, *(1,) * (v.ndim - 1)))
                     for v in (A, B, b, c, e))  # fmt: skip

    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        dx, dy = self.dx, self.dy
        cost = {
            "hx": 2.0 * dx * dy, "hy": 2.0 * dy * (dx + dy), "hz": 2.0 * dy * dy, "directions": 4.0 * dy * (dx + dy),
            "upper": 3.0 * (dx + dy), "gyy": 2.0 * dy * dy, "gxy": 2.0 * dx * dy, "gyy_matrix": 1.0 * dy * dy,
            "gxy_matrix": 1.0 * dx * dy, "gyy_solve": 2.0 * dx * dy * dy,
        }[oracle]  # fmt: skip
        return np.zeros(np.shape(lower)) + cost

    def load(self, device: Any, dtype: Any) -> None:
        self._A, self._B, self._b, self._c, self._e = (
            torch.as_tensor(v, dtype=dtype, device=device) for v in self.arrays
        )
        self._noise = torch.as_tensor(self._noise_rows(), dtype=dtype, device=device) if self.noise else None
        self._means = tuple(v.mean(0) for v in (self._A, self._B, self._b, self._c, self._e))
        self._inverse = torch.linalg.inv(self._means[0])
        self._optimum = self._best()

    def _noise_rows(self) -> np.ndarray:
        """Rows of noise for A, B, b, c, e, flat, of mean zero and equal variances."""
        count = self.row_numbers
        z = streams.normal(streams.keys(streams.key(self.instance, "bilevel noise"), np.arange(_ROWS)), count)
        z = (z - z.mean(0)) / z.std(0)
        square = z[:, : self.dy**2].reshape(_ROWS, self.dy, self.dy)
        z[:, : self.dy**2] = ((square + square.transpose(0, 2, 1)) / np.sqrt(2)).reshape(_ROWS, -1)
        return self.noise * z

    def level_data(self, level: Level, nodes_S: Tensor, rows_SB: Tensor | None) -> tuple[Tensor, ...]:
        """(A, B, b) of the lower level, (c, e) of the upper one."""
        parts = (self._A, self._B, self._b) if level == "lower" else (self._c, self._e)
        own = tuple(part[nodes_S] for part in parts)
        if self._noise is None or rows_SB is None:
            return own
        dx, dy = self.dx, self.dy
        edge = dy * (dy + dx + 1)
        added_S = self._noise[:, :edge] if level == "lower" else self._noise[:, edge:]
        added_S = added_S[rows_SB].mean(1)
        sizes = (dy * dy, dy * dx, dy) if level == "lower" else (dy, dx)
        return tuple(v + extra.view(v.shape) for v, extra in zip(own, added_S.split(sizes, 1), strict=True))

    def upper_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        c_Y, e_X = data
        return 0.5 * (y_Y - c_Y).square().sum() + 0.5 * self.rho * (x_X - e_X).square().sum()

    def lower_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        A_YY, B_YX, b_Y = data
        return y_Y @ (0.5 * (A_YY @ y_Y) - B_YX @ x_X - b_Y)

    def upper_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        c_SY, e_SX = data
        return 0.5 * (y_SY - c_SY).square().sum(1) + 0.5 * self.rho * (x_SX - e_SX).square().sum(1)

    def lower_losses(self, x_SX: Tensor, y_SY: Tensor, *data: Tensor) -> Tensor:
        A_SYY, B_SYX, b_SY = data
        return (y_SY * (0.5 * _times(y_SY, A_SYY.mT) - _times(x_SX, B_SYX.mT) - b_SY)).sum(1)

    def closed_answers(
        self, oracle: str, operands: list[Tensor], upper: tuple[Tensor, ...], lower: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        x_SX, y_SY = operands[:2]
        if oracle == "upper":
            return self.rho * (x_SX - upper[1]), y_SY - upper[0]
        A_SYY, B_SYX, b_SY = lower
        if oracle == "hy":
            return (_times(y_SY, A_SYY.mT) - _times(x_SX, B_SYX.mT) - b_SY,)
        if oracle == "gyy_matrix":
            return (A_SYY.reshape(len(A_SYY), -1),)
        if oracle == "gxy_matrix":
            return (-B_SYX.mT.reshape(len(B_SYX), -1),)
        given = operands[2]
        if oracle == "gyy_solve":
            return (torch.baddbmm(B_SYX, A_SYY, given.view_as(B_SYX)).view_as(given),)
        if oracle in ("gyy", "hz"):
            product_SY = _times(given, A_SYY.mT)
            return (product_SY if oracle == "gyy" else product_SY - y_SY + upper[0],)
        cross_SX = -_times(given, B_SYX)
        if oracle == "gxy":
            return (cross_SX,)
        hx_SX = self.rho * (x_SX - upper[1]) - cross_SX
        if oracle == "hx":
            return (hx_SX,)
        both_S2Y = torch.bmm(torch.stack((y_SY, given), 1), A_SYY.mT)  # y and z through A at once
        return hx_SX, both_S2Y[:, 0] - _times(x_SX, B_SYX.mT) - b_SY, both_S2Y[:, 1] - y_SY + upper[0]

    def closed_solution(self, x_X: Tensor) -> Solved | None:
        if not self._closed:
            return None
        A, B, b, c, e = self._means
        y = self._inverse @ (B @ x_X + b)
        z = self._inverse @ (y - c)
        upper = (y - self._c).square().sum(1) + self.rho * (x_X - self._e).square().sum(1)
        return Solved(y, z, 0.5 * upper.mean(), self.rho * (x_X - e) + B.mT @ z)

    def optimum(self) -> tuple[Tensor, Tensor]:
        """x* and F(x*): of a linear system in the averages."""
        return self._optimum

    def _best(self) -> tuple[Tensor, Tensor]:
        A, B, b, c, e = (v.mean(0) for v in self.arrays)
        P, q = np.linalg.solve(A, B), np.linalg.solve(A, b) - c
        best = np.linalg.lstsq(self.rho * np.eye(self.dx) + P.T @ P, self.rho * e - P.T @ q, rcond=None)[0]
        y = np.linalg.solve(A, B @ best + b)
        c_NY, e_NX = self.arrays[3:]
        value = 0.5 * np.mean(((y - c_NY) ** 2).sum(1) + self.rho * ((best - e_NX) ** 2).sum(1))
        on = {"dtype": self.dtype, "device": self.device}
        return torch.as_tensor(best, **on), torch.as_tensor(value, **on)


def _times(v_SI: Tensor, m_SIJ: Tensor) -> Tensor:
    """Each row times its matrix, in row form."""
    return torch.bmm(v_SI[:, None, :], m_SIJ)[:, 0]
