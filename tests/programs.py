"""Programs that the tests of the kernel run: one for each way of using the verbs, all on smooth problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.dataset import Dataset
from simnet.node import Node
from simnet.record import Record


@dataclass(frozen=True)
class Gossips(Algorithm):
    """Adapt, then combine. `missing` may be `value`: then the stand-in is the node's iterate of a round ago."""

    mixing: ClassVar[str | None] = None  # the scenario's, whatever it is
    connected: ClassVar[bool] = False

    eta: float = 0.2
    missing: str = "self"
    deadline_s: float | None = None

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            stand_in: Any = x if self.missing == "value" else self.missing
            x = yield node.gossip(x - self.eta * g, missing=stand_in, deadline_s=self.deadline_s)
            node.report(x=x)


@dataclass(frozen=True)
class Mixes(Gossips):
    """Nothing but gossip, from all ones."""

    def program(self, node: Node) -> Program:
        x = node.zeros() + 1.0
        for _ in node.rounds():
            x = yield node.gossip(x, missing=self.missing)
            node.report(x=x)


@dataclass(frozen=True)
class Overlaps(Gossips):
    """Combine while adapting: the message travels during the gradient."""

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            stand_in: Any = 0.5 * x if self.missing == "value" else self.missing
            sent = node.start(node.gossip(x, missing=stand_in, deadline_s=self.deadline_s))
            g = yield node.gradient(x)
            mixed = yield sent
            x = mixed - self.eta * g
            node.report(x=x)


@dataclass(frozen=True)
class Tracks(Gossips):
    """Gradient tracking with two messages a round, and a first gradient before the first round."""

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        g = p = yield node.gradient(x)
        for _ in node.rounds():
            stand_in: Any = p if self.missing == "value" else self.missing
            x = yield node.gossip(x - self.eta * p, missing=stand_in, deadline_s=self.deadline_s)
            new = yield node.gradient(x)
            p = yield node.gossip(p + new - g, missing=stand_in, deadline_s=self.deadline_s)
            g = new
            node.report(x=x, tracker=p, estimate=g)


@dataclass(frozen=True)
class Joint(Gossips):
    """Several Values of unlike shapes in one message, and a momentum that decides a step by its norm."""

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        scale = node.constant({"fo": 1.0, "zo": 0.5})
        for t in node.rounds():
            g = yield node.gradient(x)
            m = 0.5 * m + g * scale
            norm = torch.linalg.vector_norm(m)
            stand_in: Any = "zero" if self.missing == "value" else self.missing
            x, m, norm = yield node.gossip(
                x - self.eta * m / (1.0 + norm), m, norm, missing=stand_in, deadline_s=self.deadline_s
            )
            x = torch.where(norm > 0.1 * t, x, x * 0.9)
            node.report(x=x)


@dataclass(frozen=True)
class RunningSums(Gossips):
    """One row per neighbour each way: difference sums on each edge, weighed by p_ij at the receiver."""

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        weight = node.weights("in")
        yield node.work(1e5)
        for _ in node.rounds():
            g = yield node.gradient(x)
            y = x - self.eta * g
            stand_in: Any = "self" if self.missing == "value" else self.missing
            rows = yield node.exchange(y, missing=stand_in, deadline_s=self.deadline_s)
            back = yield node.exchange(0.5 * rows, missing=stand_in, deadline_s=self.deadline_s)
            x = y + 0.5 * torch.sum(weight[:, None] * (back - 0.5 * y), 0)
            node.report(x=x)


@dataclass(frozen=True)
class Averages(Gossips):
    """Averages over everybody, over a sample, and to the next round's sample."""

    k: int = 2

    def program(self, node: Node) -> Program:
        x, c = node.initial("x"), node.zeros()
        chosen = node.sample(k=self.k)
        for t in node.rounds():
            g = yield node.gradient(x, among=chosen)
            step = x - self.eta * g
            chosen_next = node.sample(k=self.k)
            if t % 2:
                x, c = yield node.average(step, c + g, among=chosen, to=chosen_next)
            else:
                x = yield node.average(step, among=chosen)
            chosen = chosen_next
            node.report(x=x)


@dataclass(frozen=True)
class Matches(Gossips):
    """Gossip over another topology, one that changes with every exchange, and on its edges at random."""

    over: str = "random_matching"

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for t in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * g
            if node.coin(0.8):
                x = yield node.gossip(x, over=self.over, deadline_s=self.deadline_s)
            if t % 3 == 2:
                yield node.wait(0.004)
            node.report(x=x)


@dataclass(frozen=True)
class Tuples(Gossips):
    """Several verbs in one yield, one minibatch at two points, a Hessian-vector product and noise."""

    def program(self, node: Node) -> Program:
        x, old = node.initial("x"), node.zeros()
        for _ in node.rounds():
            batch = node.batch()
            g, before = yield (node.gradient(x, batch=batch), node.gradient(old, batch=batch))
            v = node.random("probe", law="sign")
            h, f = yield (node.hvp(x, v), node.oracle("loss", x, batch=batch))
            noise = node.random("noise", law="normal")
            stand_in: Any = "stale" if self.missing == "value" else self.missing
            old = x
            step = self.eta * (g - 0.1 * before + 0.01 * v * h) + 1e-3 * noise * f
            x, tail = yield (
                node.gossip(x - step, missing=stand_in, deadline_s=self.deadline_s),
                node.gossip(h, missing="zero", deadline_s=self.deadline_s, channel="tail"),
            )
            x = x - 1e-3 * tail
            node.report(x=x)


@dataclass(frozen=True)
class Masked(Gossips):
    """Only a sample gossips; `by_value`: only nodes whose gradient is not small."""

    by_value: bool = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            who: Any = torch.linalg.vector_norm(g) > 0.3 if self.by_value else node.sample(k=2)
            stand_in: Any = "zero" if self.missing == "value" else self.missing
            x = yield node.gossip(x - self.eta * g, when=who, missing=stand_in, deadline_s=self.deadline_s)
            node.report(x=x)


@dataclass(frozen=True)
class Sums(Algorithm):
    """Everybody's iterate to everybody, and a number that all of them read."""

    eta: float = 0.2
    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            rows = yield node.all_gather(x - self.eta * g)
            x = torch.mean(rows, 0)
            size = yield node.read(torch.linalg.vector_norm(x))
            if size > 1.0:
                x = x * 0.5
            node.report(x=x)


PROGRAMS = (Gossips, Overlaps, Tracks, Joint, RunningSums, Averages, Matches, Tuples, Masked)


def tiny_data(rows: int = 48, features: int = 4, classes: int = 3, seed: int = 5) -> Dataset:
    """A small classification problem."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, features))
    y = np.arange(rows) % classes
    x = centres[y] + 0.5 * rng.normal(size=(rows, features))
    return Dataset("tiny", x, y.astype(np.int64), x[:9], y[:9].astype(np.int64), classes)


def base(algorithm: Algorithm, **more: Any) -> dict[str, Any]:
    """A small scenario in float64; sections given in `more` replace its own."""
    scenario: dict[str, Any] = {
        "name": "test",
        "network": {"nodes": 5, "graph": "ring", "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}},
        "nodes": {"step": "10 ms"},
        "problem": {"name": "Quadratic", "dim": 3},
        "algorithm": algorithm,
        "rounds": 6,
        "evaluate_every": 2,
        "execution": {"dtype": "float64"},
        "record": {"messages": True},
    }
    return scenario | more


def go(scenario: Mapping[str, Any], tier: str = "auto", executor: str = "batched", **set: Any) -> Record:
    """Run with a tier and an executor; double underscores in the names of further settings are dots."""
    dotted = {name.replace("__", "."): value for name, value in set.items()}
    return simnet.run(scenario, set={"execution.tier": tier, "execution.executor": executor, **dotted})
