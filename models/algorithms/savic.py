"""SAVIC: Local SGD whose steps are divided by a common diagonal, which changes when the nodes average."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from simnet.algorithm import Algorithm, Program
from simnet.book import Book
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node, Sample, Verb
from simnet.preconditioner import Scaling, Unscaled, mean


@dataclass(frozen=True)
class BySpeed:
    """Local steps in proportion to speed: `{mean: 10, by: speed}`.

    A node's speed is one over the seconds of its gradient, before jitter, stragglers and slow times; its steps are
    mean x speed / (mean speed of all nodes), rounded, and at least 1.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    mean: float  # steps of a node of mean speed
    by: Literal["speed"] = "speed"  # what they are in proportion to

    def steps(self, seconds_N: np.ndarray) -> np.ndarray:
        """Steps of each node, int64 (N,), from the seconds of a gradient. Raises ScenarioError where one takes none."""
        if not (seconds_N > 0).all():
            raise ScenarioError("a gradient takes 0 s at some node, and its speed has no end: give every node a "
                                "duration, or H as a list", field="algorithm.H.by", value=self.by)  # fmt: skip
        speed_N = 1.0 / seconds_N
        return np.maximum(1, np.rint(self.mean * speed_N / speed_N.mean())).astype(np.int64)


@dataclass(frozen=True)
class SAVIC(Algorithm):
    """Local methods with adaptivity via scaling.

    For p = 0, 1, ..., with D the scaling and S the nodes that take part (all, or K drawn anew each round):

        H times, i in S:  u_i <- beta1 u_i + g_i(x_i);  x_i <- x_i - eta u_i / positive(D)
        x, s <- means over S of x_i and of the statistics s_i of the last local step
        D <- update(D, s, warm_up + p)

    Shapes: x_i, u_i, g_i, s_i and D (d,). `global` scaling is this, and what the paper analyses. `local_sync`: each
    node keeps a D of its own, from its own statistic, at averages; `local_step`: at every local step ("Adam locally,
    average the models"). Local scalings stop at another point than the optimum where the f_i differ.

    Args:
        eta: step size (gamma in the paper); eta/alpha is the largest step of a coordinate per unit of its gradient.
        H: local steps between two averages: one number, one for each node, or `{mean: 10, by: speed}`, more at nodes
            whose gradients take less time, so that all are ready at about the same time.
        scaling: how D is made; `identity` is Local SGD.
        scope: `global`, `local_sync` or `local_step`.
        stat: the statistic of the `last` local step, or a `fresh` one at the averaged point, which costs a gradient
            (or a Hessian-vector product) and a second average.
        beta1: momentum; 0 for none.
        momentum: what becomes of u_i at an average: `sync` averages it, `keep` and `reset` send nothing.
        refresh: D changes at every refresh-th average.
        clients: K; None for all nodes. Who is not drawn keeps u_i, and a D of its own, as they are.
        averaging: `exact`, by the scenario's collective, or `gossip` with the topology's mixing weights (ours, not the
            paper's): D then differs a little from node to node.

    Sends, per round, of b-byte numbers, up and down for each node: d b, and d b more each for a global statistic and
    for synchronised momentum. Before the first round a global scaling averages the warm-up's statistics: one vector
    where D is linear in them (oasis), else all, since it is their means that are to be squared.
    A collective is always reliable; under `gossip` a missing message counts as the node's own.
    Reference: Chezhegov, Skorik, Khachaturov, Shalagin, Avetisyan, Takac, Kholodov and Beznosikov, Russian Math.
    Surveys 79(6), 2024 (arXiv 2406.00846).
    Departs: probes are drawn apart at each node; D starts from `warm_up` statistics at the first point; momentum,
    partial participation (through a server) and gossip are ours. All nodes hear of each average, also those that did
    not take part. Where nodes make different numbers of steps, they end together: who makes fewer begins later in the
    round's count.

    >>> SAVIC(eta=0.1, H=5).scope
    'global'
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False
    step_sizes: ClassVar[tuple[str, ...]] = ("eta",)

    eta: float = 0.1  # step size (gamma in the paper)
    H: int | list[int] | BySpeed = 1  # local steps a round: for all nodes, for each, or by speed
    scaling: Scaling = Unscaled()  # how D is made; by default steps are not scaled
    scope: Literal["global", "local_sync", "local_step"] = "global"  # whose D
    stat: Literal["last", "fresh"] = "last"  # where the statistic is taken
    beta1: float = 0.0  # momentum
    momentum: Literal["sync", "keep", "reset"] = "sync"  # what becomes of it at an average
    refresh: int = 1  # averages between two changes of D
    clients: int | None = None  # K, sampled each round; None: all
    averaging: Literal["exact", "gossip"] = "exact"  # by a collective, or with neighbours

    def __post_init__(self) -> None:
        H = self.H
        least = ("H.mean", H.mean) if isinstance(H, BySpeed) else ("H", min(H, default=0) if isinstance(H, list) else H)
        for name, value in (least, ("refresh", self.refresh)):
            if not 1 <= value < float("inf"):
                raise ScenarioError("must be at least 1", field=f"algorithm.{name}", value=value)
        if not 0 <= self.beta1 < 1:
            raise ScenarioError("momentum is at least 0 and below 1", field="algorithm.beta1", value=self.beta1)
        if self.clients is not None and self.averaging == "gossip":
            raise ScenarioError("a sample is averaged exactly: leave 'averaging: gossip' out, or take all nodes",
                                field="algorithm.clients", value=self.clients)  # fmt: skip

    def check(self, book: Book) -> None:
        if isinstance(self.H, list) and len(self.H) != book.n:
            raise ScenarioError(f"{len(self.H)} numbers of local steps for {book.n} nodes: give one for each",
                                field="algorithm.H", value=self.H)  # fmt: skip
        if isinstance(self.H, BySpeed) and book.costs.name != "calibrated":  # those are found when the run begins
            self.H.steps(book.base_seconds(np.arange(book.n), "gradient", book.batch))
        if self.clients is not None and not 1 <= self.clients <= book.n:
            raise ScenarioError(f"takes 1 to {book.n}, the number of nodes", field="algorithm.clients",
                                value=self.clients)  # fmt: skip

    @property
    def second_derivatives(self) -> str:
        return f"the scaling {type(self.scaling).__name__}" if self.scaling.statistic == "hessian" else ""

    def program(self, node: Node) -> Program:
        x, u, steps = node.initial("x"), node.zeros(), self._steps(node)
        most, scaled, stepwise = int(np.max(steps)), self.scaling.statistic != "none", self.scope == "local_step"
        D = yield from self._warm_up(node, x)
        rate = self.scaling.rate(self.eta, D)
        for p in node.rounds():
            chosen = node.sample(k=self.clients)
            for h in range(most):
                at, sample, active = x, node.batch(), chosen.where(steps >= most - h)
                g = yield node.gradient(x, batch=sample, among=active)
                if scaled and stepwise:
                    s = yield from self._statistic(node, at, g, sample, active)
                    D = _at(active, self.scaling.update(D, s, most * p + h + self.scaling.warm_up), D)
                    rate = self.scaling.rate(self.eta, D)
                u = _at(active, self.beta1 * u + g, u) if self.beta1 else g
                x = _at(active, x - rate * u, x)
            due = scaled and not stepwise and (p + 1) % self.refresh == 0
            last = due and self.stat == "last"
            s = (yield from self._statistic(node, at, g, sample, chosen)) if last else None
            x, s, u = yield from self._averaged(node, chosen, x, s, u)
            if due and self.stat == "fresh":
                s = yield from self._fresh(node, x, chosen)
                s = (yield self._mean(node, chosen, s)) if self.scope == "global" else s
            if due:
                changed = self.scaling.update(D, s, (p + 1) // self.refresh - 1 + self.scaling.warm_up)
                D = changed if self.scope == "global" else _at(chosen, changed, D)
                rate = self.scaling.rate(self.eta, D)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        travels = self.scope == "global" and self.scaling.statistic != "none"  # the warm-up's too, in the first round
        if self.clients is not None or self.averaging == "gossip" or travels:
            return None
        return (2 if self.beta1 > 0 and self.momentum == "sync" else 1) * 2 * (nodes - 1) * dim

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _steps(self, node: Node) -> np.ndarray:
        """H of each host, or of all."""
        return self.H.steps(node.durations()) if isinstance(self.H, BySpeed) else np.asarray(self.H)

    def _mean(self, node: Node, chosen: Sample | None, *values: Any) -> Verb:
        return node.gossip(*values) if self.averaging == "gossip" else node.average(*values, among=chosen)

    def _averaged(self, node: Node, chosen: Sample, x: Any, s: Any, u: Any) -> Generator[Any, Any, Any]:
        """x, and what else travels with it: a global statistic, synchronised momentum."""
        with_s = s is not None and self.scope == "global"
        with_u = self.beta1 > 0 and self.momentum == "sync"
        sent = [x, *([s] if with_s else []), *([u] if with_u else [])]
        (got,) = yield (self._mean(node, chosen, *sent),)
        x, *rest = got if len(sent) > 1 else (got,)
        s = rest[0] if with_s else s
        u = rest[-1] if with_u else node.zeros() if self.momentum == "reset" else u
        return x, s, u

    def _statistic(self, node: Node, at: Any, g: Any, sample: Any, who: Sample | None) -> Generator[Any, Any, Any]:
        """The gradient, or Hutchinson's estimate of the Hessian's diagonal on the same minibatch."""
        if self.scaling.statistic != "hessian":
            return g
        v = node.random("probe", law="sign")
        return v * (yield node.hvp(at, v, batch=sample, among=who))

    def _fresh(self, node: Node, x: Any, who: Sample | None) -> Generator[Any, Any, Any]:
        """A statistic on a minibatch of its own; a Hessian's takes no gradient."""
        sample = node.batch()
        gradient = self.scaling.statistic == "gradient"
        g = (yield node.gradient(x, batch=sample, among=who)) if gradient else None
        return (yield from self._statistic(node, x, g, sample, who))

    def _warm_up(self, node: Node, x: Any) -> Generator[Any, Any, Any]:
        """D from some statistics at the first point."""
        if self.scaling.statistic == "none":
            return node.zeros()
        found = []
        for _ in range(self.scaling.warm_up):
            found.append((yield from self._fresh(node, x, None)))
        if self.scope == "global":
            sent = [mean(found)] if self.scaling.linear else found
            (got,) = yield (self._mean(node, None, *sent),)
            found = got if len(sent) > 1 else [got]
        return self.scaling.first(*found)


def _at(who: Sample, new: Any, old: Any) -> Any:
    """`new` at the nodes of the sample, `old` at the others."""
    taking: Any = who.mask  # torch's own types know tensors only
    return new if who.mask_n.all() else torch.where(taking > 0, new, old)
