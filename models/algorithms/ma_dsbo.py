"""Double loops: y solved by inner steps, then the linear system, and one step of x; MA-DSBO and DSBO with JHIP."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node, Verb

Steps = Generator[Any, Any, Any]


@dataclass(frozen=True)
class _DoubleLoop(Algorithm):
    """What the two methods below share; each says how it comes to hx."""

    step_sizes: ClassVar[tuple[str, ...]] = ("ex", "ey", "ez")
    whole_numbers: ClassVar[tuple[str, ...]] = ("Ty", "N")
    first_order: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = (
        "a tracker keeps what it missed until the next outer iteration, and that of x for ever"
    )

    ex: float = 0.4  # step of x
    ey: float = 0.05  # inner step of y
    ez: float = 0.05  # inner step of the linear system
    Ty: int = 5  # inner steps of y
    N: int = 10  # inner steps of the linear system
    a: float = 1.0  # share of a fresh hypergradient
    tracking: bool = True  # of y and of x

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1:
            raise ScenarioError("a share above 0 and at most 1", field="algorithm.a", value=self.a)

    def program(self, node: Node) -> Program:
        x, y = node.initial("x"), node.initial("y")
        solution = self.first(node)
        r: Any = None
        p: Any = None
        carried: Any = None
        for t in node.rounds():
            y = yield from self.inner(node, "y", y, partial(node.oracle, "hy", x), self.ey, self.Ty, self.tracking)
            solution, hx = yield from self.hypergradient(node, x, y, solution)
            before, r = r, hx if t == 0 else (1 - self.a) * r + self.a * hx
            if self.tracking:
                p = r if t == 0 else carried + r - before
                mixed, carried = yield node.gossip(x, p, names=("x", "trackers"))
                x = mixed - self.ex * p
                node.report(x=x, y=y, **self.shown(solution), tracker_x=p, estimate_x=r)
            else:
                x = (yield node.gossip(x, names=("x",))) - self.ex * r
                node.report(x=x, y=y, **self.shown(solution))

    def inner(
        self, node: Node, name: str, v: Any, oracle: Callable[[Any], Verb], step: float, count: int, tracked: bool
    ) -> Steps:
        """`count` steps v <- sum_j W_ij v_j - step p; the tracker p begins anew, at the node's own answer."""
        h = p = yield oracle(v)
        for k in range(count):
            if tracked:
                mixed, carried = yield node.gossip(v, p, names=(name, "trackers"), channel=f"inner {name}")
            else:
                mixed = yield node.gossip(v, names=(name,), channel=f"inner {name}")
            v = mixed - step * p
            if k + 1 < count:
                new = yield oracle(v)
                h, p = new, carried + new - h if tracked else new
        return v

    @abstractmethod
    def first(self, node: Node) -> Any:
        """Where the linear system begins."""

    @abstractmethod
    def hypergradient(self, node: Node, x: Any, y: Any, solution: Any) -> Steps:
        """N tracked steps on the linear system, and hx by its solution."""

    def shown(self, solution: Any) -> dict[str, Any]:
        """What is reported of the solution."""
        return {}


@dataclass(frozen=True)
class MADSBO(_DoubleLoop):
    """MA-DSBO: an inner loop for y, an inner loop for z, a moving average of hypergradients, a step of x.

        Ty times  y_i <- sum_j W_ij y_j - ey p_i,   p <- sum_j W_ij p_j + hy(x, y_new) - hy(x, y_old)    (first p = hy)
        N times   z_i <- sum_j W_ij z_j - ez p_i,   p likewise with hz(x, y, z)
        r_i <- (1 - a) r_i + a hx_i,   p_x <- sum_j W_ij p_x,j + r_new - r_old,   x_i <- sum_j W_ij x_j - ex p_x,i

    y and z begin where the last outer iteration left them, their trackers anew. Only products with Hessians are needed;
    the price is Ty + N + 1 exchanges one after another. Shapes: x (dx,), y, z (dy,).

    Args:
        ex, ey, ez: steps of x, of y, and of z.
        Ty, N: inner steps of y and of z.
        a: share of a fresh hypergradient in (0, 1].
        tracking: of y and x; without it p = h there, as in the original method. z is tracked always.

    Reports y and z beside x, and the tracker of x with r.
    Sends, per round: (2 dx + 2 Ty dy + 2 N dy) b to each neighbour in Ty + N + 1 messages, for b-byte numbers; without
    tracking (dx + Ty dy + 2 N dy) b.
    A missing message counts as the node's own rows (`missing="self"`): all are states.
    Reference: Chen, Huang, Ma and Balasubramanian, "Decentralized stochastic bilevel optimization with improved
    per-iteration complexity", ICML 2023 (arXiv 2210.12839).
    Departs: with tracking it tracks y and x, which the original does not.

    >>> MADSBO(ex=0.4, ey=0.05, ez=0.05, Ty=5, N=10).tracking
    True
    """

    asks: ClassVar[tuple[str, ...]] = ("hx", "hy", "hz")

    def first(self, node: Node) -> Any:
        return node.initial("z")

    def hypergradient(self, node: Node, x: Any, y: Any, solution: Any) -> Steps:
        z = yield from self.inner(node, "z", solution, partial(node.oracle, "hz", x, y), self.ez, self.N, True)
        return z, (yield node.oracle("hx", x, y, z))

    def shown(self, solution: Any) -> dict[str, Any]:
        return {"z": solution}


@dataclass(frozen=True)
class DSBO(_DoubleLoop):
    """DSBO with JHIP: as MA-DSBO, but the inner loop solves for a whole matrix Z_i (dy, dx),

        N times   Z_i <- sum_j W_ij Z_j - ez P_i,   P tracks Gyy_i Z - Gxy_i',      then   hx_i = fx_i - Z_i' fy_i

    so that every exchange of it carries dx dy numbers. Shapes: x (dx,), y (dy,), Z flat (dx dy,).

    Args:
        ex, ey, ez: steps of x, of y, and of Z.
        Ty, N: inner steps of y and of Z.
        a: share of a fresh hypergradient in (0, 1].
        tracking: of y and x; Z is tracked always.

    Reports y beside x, and the tracker of x with r.
    Sends, per round: (2 dx + 2 Ty dy + 2 N dx dy) b to each neighbour in Ty + N + 1 messages, for b-byte numbers.
    A missing message counts as the node's own rows (`missing="self"`): all are states.
    Reference: Chen, Huang and Ma, "Decentralized bilevel optimization", arXiv 2206.05670 (JHIP: the
    Jacobian-Hessian-inverse product by decentralized optimisation).
    Departs: a moving average of hypergradients and a tracked x, as in MA-DSBO, so that both differ in Z alone.

    >>> DSBO(ex=0.4, ey=0.05, ez=0.05, Ty=5, N=10).a
    1.0
    """

    asks: ClassVar[tuple[str, ...]] = ("hy", "upper", "gyy_solve")

    def first(self, node: Node) -> Any:
        return node.zeros((node.initial("x").numel * node.initial("y").numel,))

    def hypergradient(self, node: Node, x: Any, y: Any, solution: Any) -> Steps:
        ask = partial(node.oracle, "gyy_solve", x, y)
        solution = yield from self.inner(node, "matrices", solution, ask, self.ez, self.N, True)
        fx, fy = yield node.oracle("upper", x, y)
        matrix = torch.reshape(solution, (fy.numel, fx.numel))
        return solution, fx - torch.sum(matrix * fy[:, None], 0)
