"""MDBO and VRDBO: hypergradients from the node's own Hessian, which is right only where all nodes hold alike data."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Batch, Node


@dataclass(frozen=True)
class MDBO(Algorithm):
    """Each node inverts its own Hessian by J terms of a Neumann series, v = fy_i and z = 0, J times

        z <- z + c v,   v <- v - c Gyy_i v,      then   h_i = fx_i - Gxy_i z

    and x follows h_i, y follows hy_i, by estimates u (a = 1 none, a < 1 those of STORM) that are tracked:

        u_t = h(s_t; xi_t) + (1 - a) (u_{t-1} - h(s_{t-1}; xi_t)),   p_t = sum_j W_ij p_{j,t-1} + u_t - u_{t-1}
        x <- sum_j W_ij x_j - ex px,   y <- sum_j W_ij y_j - ey py

    The mean of the nodes' h_i is no hypergradient where their Hessians differ: it converges smoothly to a wrong point.
    Shapes: x (dx,), y, z (dy,).

    Args:
        ex, ey: step sizes.
        c: step of the series, below 2 over the largest eigenvalue of any node's Hessian.
        J: its terms, each a Hessian-vector product.
        a: momentum in (0, 1].

    Reports y beside x, and both trackers with their estimates.
    Sends, per round: (2 dx + 2 dy) b to each neighbour in one message, for b-byte numbers; (dx + dy) b in the first.
    A missing message counts as the node's own rows (`missing="self"`); the trackers' means are then wrong for ever.
    Reference: Gao, Gu and Thai, "On the convergence of distributed stochastic bilevel optimization algorithms over a
    network", AISTATS 2023 (arXiv 2206.15025).
    Departs: the series has J terms always, and not a random number of them; one minibatch serves all of them.

    >>> MDBO(ex=0.05, ey=0.05, c=0.15, J=60).a
    1.0
    """

    step_sizes: ClassVar[tuple[str, ...]] = ("ex", "ey", "c")
    whole_numbers: ClassVar[tuple[str, ...]] = ("J",)
    asks: ClassVar[tuple[str, ...]] = ("upper", "hy", "gyy", "gxy")
    first_order: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "a tracker keeps what it missed for ever"

    ex: float = 0.05  # step of x
    ey: float = 0.05  # step of y
    c: float = 0.15  # step of the series
    J: int = 20  # its terms
    a: float = 1.0  # share of a fresh estimate

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1:
            raise ScenarioError("a share above 0 and at most 1", field="algorithm.a", value=self.a)

    def program(self, node: Node) -> Program:
        s = [node.initial("x"), node.initial("y")]
        u: list[Any] = [None, None]
        p: list[Any] = [None, None]
        before: tuple[Any, ...] = ()
        for t in node.rounds():
            trackers = p if t else []
            sent = node.start(node.gossip(*s, *trackers, names=("x", "y", "trackers", "trackers")[: 2 + len(trackers)]))
            sample = node.batch()
            h = yield from self.directions(node, s, sample)
            if t and self.a < 1:
                back = yield from self.directions(node, before, sample)
                h = [new + (1 - self.a) * (u[k] - back[k]) for k, new in enumerate(h)]
            mixed, before = (yield sent), tuple(s)
            p = [mixed[2 + k] + h[k] - u[k] if t else h[k] for k in range(2)]
            u = list(h)
            s = [mixed[0] - self.ex * p[0], mixed[1] - self.ey * p[1]]
            node.report(x=s[0], y=s[1], tracker_x=p[0], estimate_x=u[0], tracker_y=p[1], estimate_y=u[1])

    def directions(self, node: Node, at: Sequence[Any], sample: Batch | None) -> Generator[Any, Any, list[Any]]:
        """h and hy at (x, y) on one sample."""
        x, y = at
        hy = yield node.oracle("hy", x, y, batch=sample)
        fx, v = yield node.oracle("upper", x, y, batch=sample)
        z = self.c * v
        for _ in range(self.J - 1):
            product = yield node.oracle("gyy", x, y, v, batch=sample)
            v = v - self.c * product
            z = z + self.c * v
        cross = yield node.oracle("gxy", x, y, z, batch=sample)
        return [fx - cross, hy]
