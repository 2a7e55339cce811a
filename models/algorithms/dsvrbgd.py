"""DSVRBGD: bilevel optimisation in a single loop, with variance-reduced estimates that are tracked, and one message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node

TOGETHER = [("directions", (0, 1, 2))]  # oracles in turn, and what each gives: x 0, y 1, z 2
APART = [("hy", (1,)), ("hz", (2,)), ("hx", (0,))]


@dataclass(frozen=True)
class DSVRBGD(Algorithm):
    """Three coupled problems side by side: x descends the hypergradient, y solves the lower level, z the linear system
    in its mean Hessian. For each, with h its oracle, u its estimate and p its tracker,

        u_t = h(s_t; xi_t) + (1 - a) (u_{t-1} - h(s_{t-1}; xi_t))         (u_0 = h(s_0; xi_0), a batch of b0)
        p_t = sum_j W_ij p_{j,t-1} + u_t - u_{t-1}                        (p_0 = u_0)
        s_{t+1} = sum_j W_ij s_{j,t} - e p_t                              s is x, y or z, with steps ex, ey, ez

    `simultaneous`: hx, hy and hz in one pass at (x_t, y_t, z_t). `alternating`: y from hy(x_t, y_t); then z from
    hz(x_t, y_{t+1}, z_t); then x from hx(x_t, y_{t+1}, z_{t+1}); the point before is where the same oracle was asked an
    iteration ago. All that an iteration mixes is there when it begins, so one message carries it, and it travels while
    the node computes. Shapes: x (dx,), y and z (dy,). While W is doubly stochastic and nothing is lost, the means of p
    and u are equal.

    Args:
        ex, ey, ez: step sizes.
        a: momentum in (0, 1]; 1 leaves variance reduction out, and with it the second call of each oracle.
        b0: rows of the first minibatch; by default as many as of all others.
        order: simultaneous or alternating.
        tracking: without it, p = u, and only states are sent.
        proj_z: radius of a ball to which z is cut; by default none.
        own_samples: hx, hy and hz each draw rows of their own; by default one minibatch serves an iteration, and
            `simultaneous` takes all three in one pass.
        damping: eta in (0, 1] of the damped form s <- s + eta (sum_j W_ij s_j - e p - s); 1 is the form above.

    Reports y and z beside x, and each tracker with its estimate.
    Sends, per round: (2 dx + 4 dy) b to each neighbour in one message, for b-byte numbers; (dx + 2 dy) b in the first
    round, and always without tracking.
    A missing message counts as the node's own rows (`missing="self"`): all are states. The trackers' mean is then wrong
    for ever, and nothing but `tracker_residual` shows it.
    Reference: Zhang, Thai, Wu and Gao, "On the communication complexity of decentralized (stochastic) bilevel
    optimization", arXiv 2311.11342.
    Departs: where the paper's steps are functions of its eta, they are given here; the damped form is an option.

    >>> DSVRBGD(ex=0.02, ey=0.05, ez=0.05).a
    1.0
    """

    step_sizes: ClassVar[tuple[str, ...]] = ("ex", "ey", "ez")
    whole_numbers: ClassVar[tuple[str, ...]] = ("b0",)
    asks: ClassVar[tuple[str, ...]] = ("directions", "hx", "hy", "hz")
    first_order: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "a tracker keeps what it missed for ever, and the limit moves away from the solution"

    ex: float = 0.02  # step of x
    ey: float = 0.05  # step of y
    ez: float = 0.05  # step of z
    a: float = 1.0  # share of a fresh estimate
    b0: int | None = None  # rows of the first minibatch; None: as the others
    order: Literal["simultaneous", "alternating"] = "simultaneous"
    tracking: bool = True
    proj_z: float | None = None  # radius that z keeps
    damping: float = 1.0  # eta of the damped form
    own_samples: bool = False  # each oracle draws rows of its own

    def __post_init__(self) -> None:
        for name, share in (("a", self.a), ("damping", self.damping)):
            if not 0 < share <= 1:
                raise ScenarioError("a share above 0 and at most 1", field=f"algorithm.{name}", value=share)
        if self.proj_z is not None and not self.proj_z > 0:
            raise ScenarioError("a radius above 0", field="algorithm.proj_z", value=self.proj_z)

    def program(self, node: Node) -> Program:
        s = [node.initial(name) for name in "xyz"]
        u: list[Any] = [None] * 3
        p: list[Any] = [None] * 3
        asked: dict[str, tuple[Any, ...]] = {}  # where each oracle was asked an iteration ago
        for t in node.rounds():
            trackers = p if t and self.tracking else []
            sent = node.start(node.gossip(*s, *trackers, names=("x", "y", "z", *["trackers"] * len(trackers))))
            old, mixed = list(s), None
            alternating = self.order == "alternating"
            common = None if self.own_samples else self.sample(node, t, "batch")
            for oracle, which in APART if alternating or self.own_samples else TOGETHER:
                sample = self.sample(node, t, oracle) if self.own_samples else common
                point = s if alternating else old
                at = tuple(point[:2] if oracle == "hy" else point)
                h = as_tuple((yield node.oracle(oracle, *at, batch=sample)))
                if t and self.a < 1:
                    back = as_tuple((yield node.oracle(oracle, *asked[oracle], batch=sample)))
                    h = tuple(new + (1 - self.a) * (u[k] - was) for k, new, was in zip(which, h, back, strict=True))
                asked[oracle] = at
                if mixed is None:
                    mixed = yield sent
                for k, estimate in zip(which, h, strict=True):
                    p[k] = mixed[3 + k] + estimate - u[k] if trackers else estimate
                    u[k] = estimate
                    s[k] = self.moved(k, s[k], mixed[k], p[k])
            followed = {f"tracker_{v}": p[k] for k, v in enumerate("xyz")}
            followed |= {f"estimate_{v}": u[k] for k, v in enumerate("xyz")}
            node.report(x=s[0], y=s[1], z=s[2], **(followed if self.tracking else {}))

    def sample(self, node: Node, t: int, stream: str) -> Any:
        """The ticket of iteration t: of b0 rows at first, where not all rows count anyway."""
        ticket = node.batch(stream=stream)
        return node.batch(self.b0, stream=f"first {stream}") if t == 0 and ticket is not None and self.b0 else ticket

    def moved(self, k: int, s: Any, mixed: Any, p: Any) -> Any:
        """The next x, y or z."""
        new = mixed - (self.ex, self.ey, self.ez)[k] * p
        if self.damping < 1:
            new = s + self.damping * (new - s)
        if k == 2 and self.proj_z is not None:
            size = torch.linalg.vector_norm(new)
            new = torch.where(size > self.proj_z, new * (self.proj_z / size), new)
        return new


def as_tuple(found: Any) -> tuple[Any, ...]:
    """One answer, or several, as a tuple."""
    return found if isinstance(found, tuple) else (found,)
