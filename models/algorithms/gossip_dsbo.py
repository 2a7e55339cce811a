"""Gossip-DSBO: nodes mix moving averages of gradients, cross derivatives and whole Hessians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class GossipDSBO(Algorithm):
    """Moving averages of all that the hypergradient is made of, mixed in every round; each node then forms it alone:

        Q_i <- sum_j W_ij ((1 - a) Q_j + a q_j)       for q = fx, fy, Gxy and B Hessians Gyy, each on rows of its own
        z_i = c sum_{k=0}^{B-1} prod_{b<=k} (I - c H_b) Fy            (a Neumann series, H_b the averages of Hessians)
        x_i <- sum_j W_ij x_j - ex (Fx - Gxy z_i),   y_i <- sum_j W_ij y_j - ey hy_i

    The averages begin at the first answers. Shapes: x (dx,), y (dy,), Gxy flat (dx dy,), each H_b flat (dy dy,).

    Args:
        ex, ey: step sizes.
        c: step of the series, below 2 over the largest eigenvalue of the mean Hessian.
        B: Hessians, and terms of the series.
        a: share of a fresh answer in (0, 1].

    Reports y beside x.
    Sends, per round: (2 dx + 2 dy + dx dy + B dy dy) b to each neighbour in one message, for b-byte numbers.
    A missing message counts as the node's own rows (`missing="self"`): all are states.
    Reference: Yang, Zhang and Wang, "Decentralized gossip-based stochastic bilevel optimization over communication
    networks", NeurIPS 2022 (arXiv 2206.10870).
    Departs: the series has B terms always.

    >>> GossipDSBO(ex=0.05, ey=0.02, c=0.3, B=12).a
    0.1
    """

    step_sizes: ClassVar[tuple[str, ...]] = ("ex", "ey", "c")
    whole_numbers: ClassVar[tuple[str, ...]] = ("B",)
    asks: ClassVar[tuple[str, ...]] = ("hy", "upper", "gxy_matrix", "gyy_matrix")
    first_order: ClassVar[bool] = True

    ex: float = 0.05  # step of x
    ey: float = 0.02  # step of y
    c: float = 0.3  # step of the series
    B: int = 12  # Hessians
    a: float = 0.1  # share of a fresh answer

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1:
            raise ScenarioError("a share above 0 and at most 1", field="algorithm.a", value=self.a)

    def program(self, node: Node) -> Program:
        x, y = node.initial("x"), node.initial("y")
        kept: list[Any] = []
        names = ("x", "y", "x", "y", *["matrices"] * (1 + self.B))
        for _ in node.rounds():
            sample = node.batch()
            hy = yield node.oracle("hy", x, y, batch=sample)
            fx, fy = yield node.oracle("upper", x, y, batch=sample)
            fresh = [fx, fy, (yield node.oracle("gxy_matrix", x, y, batch=sample))]
            for _ in range(self.B):
                fresh.append((yield node.oracle("gyy_matrix", x, y, batch=node.batch(stream="Hessians"))))
            if kept:
                fresh = [(1 - self.a) * old + self.a * new for old, new in zip(kept, fresh, strict=True)]
            mixed_x, mixed_y, *kept = yield node.gossip(x, y, *fresh, names=names)
            x, y = mixed_x - self.ex * self.hypergradient(*kept), mixed_y - self.ey * hy
            node.report(x=x, y=y)

    def hypergradient(self, fx: Any, fy: Any, cross: Any, *hessians: Any) -> Any:
        """Fx - Gxy z, with z by the series."""
        v, z = fy, 0.0
        for hessian in hessians:
            z = z + self.c * v
            v = v - self.c * _times(hessian, v, fy.numel)
        return fx - _times(cross, z, fx.numel)


def _times(flat: Any, v: Any, rows: int) -> Any:
    """A matrix of that many rows times a vector."""
    return torch.sum(torch.reshape(flat, (rows, v.numel)) * v, 1)
