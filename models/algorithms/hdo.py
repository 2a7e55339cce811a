"""HDO: hybrid decentralized optimization, where first-order and zeroth-order nodes train together.

One rule for all nodes, whatever their oracle; three models of who interacts when:

    HDO          `matching`: rounds; a step at every node, then a random matching averages pairs (the experiments)
    HDOInTurn    `pairwise`: one random pair at a time takes its steps and averages (the analysis)
    HDOReady     `ready`: in simulated time; who has done its step averages with somebody who has, too
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node

PerKind = float | dict[str, float]  # for all nodes, or {"fo": ..., "zo": ...}
AVERAGES = ("ema", "heavy_ball")


@dataclass(frozen=True)
class _Hybrid(Algorithm):
    """What the three share: local steps of each kind of node, and the phases of a run."""

    mixing: ClassVar[str | None] = None
    hybrid: ClassVar[bool] = True

    eta: PerKind = 0.1  # step size
    momentum: PerKind = 0.0  # m
    average: dict[str, str] = field(default_factory=lambda: {"fo": "heavy_ball", "zo": "ema"})  # what momentum means
    warmup: int = 0  # rounds without exchange
    ramp: int = 0  # rounds over which the step size rises to eta
    cosine: int = 0  # rounds over which it falls to 0 from there; 0: it stays
    period: int = 0  # exchange in every second block of so many rounds; 0: in all

    def __post_init__(self) -> None:
        for name in ("warmup", "ramp", "cosine", "period"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "a number of rounds is at least 0")
        for m in _values(self.momentum):
            _require(0 <= m < 1, "momentum", m, "momentum is at least 0 and below 1")
        _require(
            set(self.average) == {"fo", "zo"} and set(self.average.values()) <= set(AVERAGES), "average", self.average,
            "says for fo and for zo nodes what momentum means: ema, m <- beta m + (1 - beta) g, or heavy_ball, "
            "m <- beta m + g",
        )  # fmt: skip

    def step(self, node: Node, x: Any, m: Any, t: int, among: Any = None) -> Generator[Any, Any, tuple[Any, Any]]:
        """What to subtract from x in round t, and the momentum after it; both as they were at nodes not `among`."""
        eta = node.constant(self.eta)
        g = yield node.gradient(x, among=among)
        if not any(_values(self.momentum)):
            return self.rate(t) * eta * g, m
        beta = node.constant(self.momentum)
        share = {kind: 1.0 if rule == "heavy_ball" else 0.0 for kind, rule in self.average.items()}
        whole = node.constant(share)  # 1: g counts in full; 0: by 1 - beta
        new = beta * m + (1.0 - beta * (1.0 - whole)) * g
        if among is None:
            return self.rate(t) * eta * new, new
        return among.mask * (self.rate(t) * eta * new), torch.where(among.mask > 0, new, m)

    def rate(self, t: int) -> float:
        """The factor on the step size in round t."""
        if t < self.ramp:
            return (t + 1) / self.ramp
        if self.cosine:
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (t - self.ramp) / self.cosine)))
        return 1.0

    def exchanges(self, t: int) -> bool:
        """Whether round t ends with an exchange."""
        return t >= self.warmup and (self.period == 0 or t // self.period % 2 == 1)


@dataclass(frozen=True)
class HDO(_Hybrid):
    """Rounds: a local step at every node, then a random matching of the topology averages its pairs.

    At node i, with G^i its gradient or, at a ZO node, its estimate:

        x_i <- x_i - eta G^i(x_i)
        x_i, x_j <- (x_i + x_j)/2     for each pair {i, j} of a fresh random matching

    On a complete topology the matching cuts a random permutation into pairs (with n odd, one node stays alone); on
    others its pairs are edges. Shapes: x_i, m_i and G^i (d,).

    Args:
        eta: step size, one for all nodes or {fo: 0.01, zo: 0.1}.
        momentum: m of each node's own average of its gradients; it is never sent.
        average: by kind, `heavy_ball` (m_i <- beta m_i + G, effective rate eta/(1 - beta)) or `ema` (the paper's,
            m_i <- beta m_i + (1 - beta) G); by default as the authors' code has it, heavy_ball for FO and ema for ZO.
        warmup: rounds without exchange at the start.
        ramp: rounds over which the step size rises linearly to eta; usually as many.
        cosine: rounds over which it then falls to 0 as half a cosine; 0 for no schedule.
        period: exchange only in every second block of so many rounds; 0 exchanges in all.

    Sends, per round, of b-byte numbers: d b from each matched node to the other: 2 floor(n/2) d b on a complete graph.
    A missing message is replaced by the receiver's own x.
    Reference: Ansaripour, Talaei, Nadiradze and Alistarh, "Hybrid Decentralized Optimization", AAAI 2025 (arXiv
    2210.07703).
    Departs: nothing in the rule; see the estimators for where the authors' code departs from the paper.

    >>> HDO(eta={"fo": 0.01, "zo": 0.1}).warmup
    0
    """

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        for t in node.rounds():
            step, m = yield from self.step(node, x, m, t)
            x = x - step
            if self.exchanges(t):
                x = yield node.gossip(x, over=node.matchings())
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        steady = not (self.warmup or self.period)
        return 2 * (nodes // 2) * dim if steady and edges == nodes * (nodes - 1) else None


@dataclass(frozen=True)
class HDOInTurn(_Hybrid):
    """One interaction at a time, as it is analysed: an edge {i, j} of the topology is drawn, uniformly; then

        x_i <- x_i - eta G^i(x_i),  x_j <- x_j - eta G^j(x_j);   x_i, x_j <- (x_i + x_j)/2

    A round is one interaction: 2 gradient estimates and 2 messages; n of them are about a round of `HDO`. In simulated
    time an interaction begins when both of its nodes have ended their earlier ones. Shapes: x_i, m_i and G^i (d,).

    Args:
        eta, momentum, average, warmup, ramp, cosine, period: as in `HDO`, with rounds that are interactions.

    Sends, per round, of b-byte numbers: 2 d b. A missing message is replaced by the receiver's own x.
    Reference: Ansaripour, Talaei, Nadiradze and Alistarh, AAAI 2025, section 3 (arXiv 2210.07703).
    Departs: nothing.

    >>> HDOInTurn(eta=0.05).exchanges(0)
    True
    """

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        for t in node.rounds():
            pair = node.pair()
            step, m = yield from self.step(node, x, m, t, among=pair)
            x = x - step
            if self.exchanges(t):
                x = yield node.gossip(x, over=pair)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return None if self.warmup or self.period else 2 * dim


@dataclass(frozen=True)
class HDOReady(_Hybrid):
    """In simulated time, without rounds common to all. At node i, whenever it is free:

        x_i <- x_i - eta G^i(x_i), then wait for a neighbour j that has done its step too; x_i, x_j <- (x_i + x_j)/2

    The partner is uniform among the neighbours that wait, so fast nodes interact more often, and nothing is stale. With
    `partner: any` no one waits (AD-PSGD): i averages with a random neighbour whatever that is doing, and subtracts the
    step that it has computed at its old x from the average. Shapes: x_i, m_i and G^i (d,).

    Args:
        eta, momentum, average, warmup, ramp, cosine, period: as in `HDO`, by a node's own rounds.
        partner: `ready` or `any`.

    Sends, per round and node, of b-byte numbers: d b (`ready`: one message each way for two nodes' rounds) or 2 d b
    (`any`). Nothing stands in for a missing message: a meeting that loses one averages at neither node.
    Reference: the rule is that of Ansaripour, Talaei, Nadiradze and Alistarh, AAAI 2025 (arXiv 2210.07703); `any` that
    of Lian, Zhang, Zhang and Liu, ICML 2018.
    Departs: the paper counts interactions and has no clock; who meets whom follows from simulated time here.

    >>> HDOReady(eta=0.05).partner
    'ready'
    """

    keeps_mean: ClassVar[bool] = False  # what is published keeps it; reports may be of different times

    partner: str = "ready"  # or `any`

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.partner in ("ready", "any"), "partner", self.partner, "say 'ready' or 'any'")

    def program(self, node: Node) -> Program:
        m = node.zeros()
        node.publish(node.initial("x"))
        for t in node.rounds():
            step, m = yield from self.step(node, node.published, m, t)
            if not self.exchanges(t):
                node.publish(node.published - step)
            elif self.partner == "ready":
                node.publish(node.published - step)
                yield node.meet(pool="ready")
            else:
                x = yield node.meet()
                node.publish(x - step)
            node.report(x=node.published)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return None if self.partner == "ready" or self.warmup or self.period else 2 * nodes * dim


def _values(per_kind: PerKind) -> list[float]:
    return list(per_kind.values()) if isinstance(per_kind, dict) else [per_kind]


def _require(holds: bool, name: str, value: Any, what: str) -> None:
    if not holds:
        raise ScenarioError(what, field=f"algorithm.{name}", value=value)
