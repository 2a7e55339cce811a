"""SAVIC: Local SGD whose steps are divided by a common diagonal, which changes when the nodes average."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node, Sample, Verb
from simnet.preconditioner import Scaling, Unscaled


@dataclass(frozen=True)
class SAVIC(Algorithm):
    """Local methods with adaptivity via scaling.

    For p = 0, 1, ..., with D the scaling and S the nodes that take part (all, or K drawn anew each round):

        H times, i in S:  u_i <- beta1 u_i + g_i(x_i);  x_i <- x_i - eta u_i / positive(D)
        x, s <- means over S of x_i and of the statistics s_i of the last local step
        D <- update(D, s, p)

    Shapes: x_i, u_i, g_i, s_i and D (d,). `global` scaling is this, and what the paper analyses. `local_sync`: each
    node keeps a D of its own, from its own statistic, at averages; `local_step`: at every local step ("Adam locally,
    average the models"). Local scalings stop at another point than the optimum where the f_i differ.

    Args:
        eta: step size (gamma in the paper); eta/alpha is the largest step of a coordinate per unit of its gradient.
        H: local steps between two averages, one number or one for each node.
        scaling: how D is made; `identity` is Local SGD.
        scope: `global`, `local_sync` or `local_step`.
        stat: the statistic of the `last` local step, or a `fresh` one at the averaged point, which costs a gradient
            (and a Hessian-vector product) and a second average.
        beta1: momentum; 0 for none.
        momentum: what becomes of u_i at an average: `sync` averages it, `keep` and `reset` send nothing.
        refresh: D changes at every refresh-th average.
        clients: K; None for all nodes.
        averaging: `exact`, by the scenario's collective, or `gossip` with the topology's mixing weights (ours, not the
            paper's): D then differs a little from node to node.

    Sends, per round, of b-byte numbers, up and down for each node: d b, and d b more each for a global statistic and
    for synchronised momentum. The first round also averages the warm-up's statistic, where the scaling is global.
    A collective is always reliable; under `gossip` a missing message counts as the node's own.
    Reference: Chezhegov, Skorik, Khachaturov, Shalagin, Avetisyan, Takac, Kholodov and Beznosikov, Russian Math.
    Surveys 79(6), 2024 (arXiv 2406.00846).
    Departs: probes are drawn apart at each node; D starts from `warm_up` statistics at the first point; momentum,
    partial participation and gossip are ours. All nodes hear of each average, also those that did not take part.

    >>> SAVIC(eta=0.1, H=5).scope
    'global'
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False
    step_sizes: ClassVar[tuple[str, ...]] = ("eta",)

    eta: float = 0.1  # step size (gamma in the paper)
    H: int | list[int] = 1  # local steps a round, for all nodes or each
    scaling: Scaling = Unscaled()  # how D is made; by default steps are not scaled
    scope: Literal["global", "local_sync", "local_step"] = "global"  # whose D
    stat: Literal["last", "fresh"] = "last"  # where the statistic is taken
    beta1: float = 0.0  # momentum
    momentum: Literal["sync", "keep", "reset"] = "sync"  # what becomes of it at an average
    refresh: int = 1  # averages between two changes of D
    clients: int | None = None  # K, sampled each round; None: all
    averaging: Literal["exact", "gossip"] = "exact"  # by a collective, or with neighbours

    def __post_init__(self) -> None:
        for name, value in {"H": min(self.H) if isinstance(self.H, list) else self.H, "refresh": self.refresh}.items():
            if value < 1:
                raise ScenarioError("must be at least 1", field=f"algorithm.{name}", value=value)
        if not 0 <= self.beta1 < 1:
            raise ScenarioError("momentum is at least 0 and below 1", field="algorithm.beta1", value=self.beta1)

    def program(self, node: Node) -> Program:
        x, u = node.initial("x"), node.zeros()
        D = yield from self._warm_up(node, x)
        for p in node.rounds():
            chosen = node.sample(k=self.clients)
            for h in range(self._most_steps):
                at, sample = x, node.batch()
                g = yield node.gradient(x, batch=sample, among=self._taking(chosen, h))
                if self.scope == "local_step":
                    s = yield from self._statistic(node, at, g, sample)
                    D = self.scaling.update(D, s, self._most_steps * p + h)
                u = self.beta1 * u + g
                x = x - self.eta * self.scaling.divided(u, D)
            due = self.scope != "local_step" and (p + 1) % self.refresh == 0
            s = (yield from self._statistic(node, at, g, sample)) if due and self.stat == "last" else None
            x, s, u = yield from self._averaged(node, chosen, x, s, u)
            if due and self.stat == "fresh":
                sample = node.batch()
                g = yield node.gradient(x, batch=sample)
                s = yield from self._statistic(node, x, g, sample)
                s = (yield self._mean(node, chosen, s)) if self.scope == "global" else s
            if due:
                D = self.scaling.update(D, s, (p + 1) // self.refresh - 1)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        travels = self.scope == "global" and self.scaling.statistic != "none"  # the warm-up's too, in the first round
        if self.clients is not None or self.averaging == "gossip" or travels:
            return None
        return (2 if self.beta1 > 0 and self.momentum == "sync" else 1) * 2 * (nodes - 1) * dim

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def _most_steps(self) -> int:
        return max(self.H) if isinstance(self.H, list) else self.H

    def _taking(self, chosen: Sample, h: int) -> Any:
        """Who takes local step h: the round's sample, each node as often as its H says."""
        return chosen if isinstance(self.H, int) else chosen.mask_n & (np.asarray(self.H) > h)

    def _mean(self, node: Node, chosen: Sample, *values: Any) -> Verb:
        return node.gossip(*values) if self.averaging == "gossip" else node.average(*values, among=chosen)

    def _averaged(self, node: Node, chosen: Sample, x: Any, s: Any, u: Any) -> Generator[Any, Any, Any]:
        """x, and what else travels with it: a global statistic, synchronised momentum."""
        with_s = s is not None and self.scope == "global" and self.scaling.statistic != "none"
        with_u = self.beta1 > 0 and self.momentum == "sync"
        sent = [x, *([s] if with_s else []), *([u] if with_u else [])]
        (got,) = yield (self._mean(node, chosen, *sent),)
        x, *rest = got if len(sent) > 1 else (got,)
        s = rest[0] if with_s else s
        u = rest[-1] if with_u else node.zeros() if self.momentum == "reset" else u
        return x, s, u

    def _statistic(self, node: Node, at: Any, g: Any, sample: Any) -> Generator[Any, Any, Any]:
        """The gradient, or Hutchinson's estimate of the Hessian's diagonal on the same minibatch."""
        if self.scaling.statistic != "hessian":
            return g
        v = node.random("probe", law="sign")
        return v * (yield node.hvp(at, v, batch=sample))

    def _warm_up(self, node: Node, x: Any) -> Generator[Any, Any, Any]:
        """D from the mean of some statistics at the first point."""
        total, count = node.zeros(), self.scaling.warm_up
        if self.scaling.statistic == "none":
            return total
        for _ in range(count):
            sample = node.batch()
            g = (yield node.gradient(x, batch=sample)) if self.scaling.statistic == "gradient" else None
            total = total + (yield from self._statistic(node, x, g, sample))
        mean = total / count
        if self.scope == "global":
            mean = yield self._mean(node, node.sample(), mean)
        return self.scaling.first(mean)
