"""D-SOBA: single-loop decentralized bilevel optimisation without trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class DSOBA(Algorithm):
    """Adapt, then combine, in all three variables at once, every oracle at (x_i, y_i, z_i):

        r_i <- (1 - theta) r_i + theta hx_i                  (r_i = hx_i at first)
        x_i <- sum_j W_ij (x_j - ex r_j)
        y_i <- sum_j W_ij (y_j - ey hy_j)
        z_i <- sum_j W_ij (z_j - ez hz_j)

    Where nodes hold different data, it stops near the solution, by an amount that falls with the steps. Shapes: x and r
    (dx,), y and z (dy,).

    Args:
        ex, ey, ez: step sizes.
        theta: share of a fresh hypergradient in (0, 1]; 1 keeps no average.

    Reports y and z beside x.
    Sends, per round: (dx + 2 dy) b to each neighbour in one message, for b-byte numbers.
    A missing message counts as the node's own rows (`missing="self"`): all are states.
    Reference: Kong, Zhu, Lu, Huang and Yuan, "Decentralized bilevel optimization over graphs: loopless algorithmic
    update and transient iteration complexity", arXiv 2402.03167.
    Departs: one minibatch serves the three oracles of an iteration, and no Hessian is drawn apart.

    >>> DSOBA(ex=0.003, ey=0.005, ez=0.005).theta
    1.0
    """

    step_sizes: ClassVar[tuple[str, ...]] = ("ex", "ey", "ez")
    asks: ClassVar[tuple[str, ...]] = ("directions",)
    first_order: ClassVar[bool] = True

    ex: float = 0.003  # step of x
    ey: float = 0.005  # step of y
    ez: float = 0.005  # step of z
    theta: float = 1.0  # share of a fresh hypergradient

    def __post_init__(self) -> None:
        if not 0 < self.theta <= 1:
            raise ScenarioError("a share above 0 and at most 1", field="algorithm.theta", value=self.theta)

    def program(self, node: Node) -> Program:
        x, y, z = (node.initial(name) for name in "xyz")
        r = None
        for _ in node.rounds():
            hx, hy, hz = yield node.oracle("directions", x, y, z)
            r = hx if r is None or self.theta == 1 else (1 - self.theta) * r + self.theta * hx
            x, y, z = yield node.gossip(x - self.ex * r, y - self.ey * hy, z - self.ez * hz, names="xyz")
            node.report(x=x, y=y, z=z)
