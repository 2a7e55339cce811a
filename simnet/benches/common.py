"""The common job against a hand-written floor and, up to 64 nodes, against a loop of modules.

D-PSGD on digits, Dirichlet(0.5) split with 64 rows a node, an MLP 64-32-10 (2,410 parameters), batch 16, 100 rounds, a
random 4-regular graph with weights 1/5. `--features 784 --hidden 128` makes it an MLP of 101,770 parameters on made-up
rows. The floor is the same arithmetic by hand in batched tensors, with no simulator around it; the loop is one
`nn.Module` and one optimizer for each node, on the CPU. Nobody evaluates until the end.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simnet.benches.timing import Keep, Row, Stopwatch, Timed, interleaved, ratio
from simnet.dataset import Dataset
from simnet.prepare import Plan, prepare
from simnet.recording import Recording
from simnet.scenario import Scenario
from simnet.timeplane.account import Account
from simnet.timeplane.arrays import ArraysPlane

BATCH, ETA, ROWS, DEGREE, CLASSES, DIGITS = 16, 0.2, 64, 4, 10, 64


@dataclass(frozen=True)
class Job:
    """One size of the common job."""

    nodes: int
    features: int = DIGITS  # of a row; those of digits, or made-up ones
    hidden: int = 32  # width of the hidden layer
    rounds: int = 100
    device: str = "cpu"

    @property
    def sizes(self) -> list[int]:
        """Numbers in W1, b1, W2, b2."""
        return [self.hidden * self.features, self.hidden, CLASSES * self.hidden, CLASSES]

    def scenario(self) -> Scenario:
        """The job as a scenario."""
        return Scenario.of(
            {
                "name": f"common job, {self.nodes} nodes",
                "seed": 2,
                "network": {"nodes": self.nodes, "graph": {"name": "random_regular", "degree": DEGREE}},
                "problem": {
                    "name": "MLP", "hidden": self.hidden, "batch": BATCH,
                    "data": "digits" if self.features == DIGITS else drawn_rows(self.features),
                    "split": {"name": "dirichlet", "alpha": 0.5, "rows": ROWS},
                },
                "algorithm": {"name": "DPSGD", "eta": ETA},
                "rounds": self.rounds,
                "evaluate_every": self.rounds,
                "execution": {"device": self.device, "threads": 1},
                "record": {"timeline": False},
            }
        )  # fmt: skip


def drawn_rows(features: int) -> Dataset:
    """Ten classes around ten points, 2,000 rows to train on and 400 to test, about as long as a row of digits."""
    rng = np.random.default_rng(5)
    y = np.arange(2400) % CLASSES
    x = rng.random((CLASSES, features))[y] + 0.3 * rng.normal(size=(len(y), features))
    x *= 5.0 / np.linalg.norm(x, axis=1, keepdims=True)
    return Dataset("made-up rows", x[:2000], y[:2000], x[2000:], y[2000:], CLASSES)


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row of results for each size asked for."""
    for n in chosen.nodes:
        yield measure(Job(n, chosen.features, chosen.hidden, chosen.rounds, chosen.device), chosen.repeats)


def measure(job: Job, repeats: int) -> Row:
    """Ratios of the common job to its floor and to the loop of modules, and everyone's accuracy."""
    plan, device, dtype = prepared(job.scenario())
    states: dict[str, Any] = {}
    contenders: dict[str, Timed] = {
        "simnet": lambda: simulated(plan, device, dtype, states),
        "floor dense": lambda: _floor(job, plan, device, True, states),
        "floor gather": lambda: _floor(job, plan, device, False, states),
    }
    if job.nodes <= 64:
        contenders["loop"] = lambda: _loop(job, plan, states)
    seconds = interleaved(contenders, repeats)
    floor = min(("floor dense", "floor gather"), key=lambda k: statistics.median(seconds[k]))
    ms = {name: statistics.median(spent) * 1e3 / job.rounds for name, spent in seconds.items()}
    row: Row = {"job": "common", "nodes": job.nodes, "parameters": plan.problem.dim, "device": str(device),
                "ms_per_round": ms["simnet"], "us_per_node_step": 1e3 * ms["simnet"] / job.nodes,
                "floor_ms_per_round": ms[floor], "to_floor": ratio(seconds["simnet"], seconds[floor]),
                "floor": floor}  # fmt: skip
    if "loop" in seconds:
        row |= {"loop_ms_per_round": ms["loop"], "loop_to_simnet": ratio(seconds["loop"], seconds["simnet"])}
    row["accuracy"] = {
        k: round(float(plan.problem.validate(v.mean(0)[None].to(device))["accuracy"][0]), 3) for k, v in states.items()
    }
    return row


def prepared(scenario: Scenario) -> tuple[Plan, Any, Any]:
    """The scenario's plan with its data on the device, the device and the dtype."""
    from simnet.valueplane import settle_device

    plan = prepare(scenario)
    device, dtype = settle_device(scenario)
    plan.problem.prepare(device, dtype)
    return plan, device, dtype


def simulated(plan: Plan, device: Any, dtype: Any, states: dict[str, Any]) -> float:
    """Seconds of the simulation, time plane and value plane, without evaluation."""
    from simnet.valueplane import make_values

    watch = Stopwatch(device)
    with watch.running():
        book = plan.book()
        values = make_values(plan.scenario, book, device, dtype, "lockstep")
        keep = Keep(values, plan.scenario.rounds)
        recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
        ArraysPlane(book, recording, Account(book, timeline=False), values, keep).run()
    states["simnet"] = keep.x.clone()
    return watch.seconds


def _floor(job: Job, plan: Plan, device: Any, dense: bool, states: dict[str, Any]) -> float:
    """The job by hand: all nodes in batched tensors, written-out backward pass, gossip as one product or by index."""
    import torch

    n, (features, labels) = plan.network.n, node_rows(plan, device)
    source, target = plan.topology.edges(0)
    neighbours = torch.from_numpy(source.reshape(n, DEGREE).copy()).to(device)
    w = torch.zeros(n, n, device=device)
    w[torch.from_numpy(target.copy()).to(device), torch.from_numpy(source.copy()).to(device)] = 1.0
    w.fill_diagonal_(1.0).div_(DEGREE + 1)
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    generator = torch.Generator(device=device).manual_seed(4)
    rows = torch.arange(n, device=device)[:, None]
    x0 = plan.problem.initial("x")

    def views(v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        w1, b1, w2, b2 = v.split(job.sizes, 1)
        return w1.view(n, job.hidden, -1), b1, w2.view(n, CLASSES, job.hidden), b2

    def descend(state: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        picked = torch.rand(n, ROWS, generator=generator, device=device).topk(BATCH, 1).indices
        a, y = features[rows, picked], one_hot[rows, picked]
        w1, b1, w2, b2 = views(state)
        h = torch.baddbmm(b1[:, None], a, w1.transpose(1, 2)).relu_()
        z = torch.baddbmm(b2[:, None], h, w2.transpose(1, 2))
        dz = (torch.softmax(z, -1) - y) / BATCH
        dh = torch.bmm(dz, w2) * (h > 0)
        g1, c1, g2, c2 = views(gradient)
        g1.copy_(torch.bmm(dh.transpose(1, 2), a))
        g2.copy_(torch.bmm(dz.transpose(1, 2), h))
        c1.copy_(dh.sum(1))
        c2.copy_(dz.sum(1))
        return state.add(gradient, alpha=-ETA)

    def mix(moved: torch.Tensor) -> torch.Tensor:
        if dense:
            return w @ moved
        total = moved.clone()
        for k in range(DEGREE):
            total += moved[neighbours[:, k]]
        return total.div_(DEGREE + 1)

    watch = Stopwatch(device)
    with watch.running():
        state = x0.repeat(n, 1)
        gradient = torch.empty_like(state)
        for _ in range(job.rounds):
            state = mix(descend(state, gradient))
    states["floor"] = state
    return watch.seconds


def node_rows(plan: Plan, device: Any) -> tuple[Any, Any]:
    """Every node's own rows as tensors (n, ROWS, features) and (n, ROWS)."""
    import torch

    parts = plan.problem.parts()  # type: ignore[attr-defined]
    rows = np.stack(parts.rows)
    x = parts.dataset.train_x[rows]
    x = x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float32)
    return torch.from_numpy(x).to(device), torch.from_numpy(parts.dataset.train_y[rows]).to(device)


def _loop(job: Job, plan: Plan, states: dict[str, Any]) -> float:
    """The job as a plain loop: one module and one optimizer per node, gossip included."""
    import torch

    n, (features, labels) = plan.network.n, node_rows(plan, "cpu")
    neighbours = [[] for _ in range(n)]  # type: list[list[int]]
    for s, t in zip(*plan.topology.edges(0), strict=True):
        neighbours[int(t)].append(int(s))
    x0, generator = plan.problem.initial("x").cpu(), torch.Generator().manual_seed(4)
    watch = Stopwatch()
    with watch.running():
        nets = [_net(job) for _ in range(n)]
        for net in nets:
            torch.nn.utils.vector_to_parameters(x0.clone(), net.parameters())  # parameters become views of the vector
        optimizers = [torch.optim.SGD(net.parameters(), lr=ETA) for net in nets]
        loss = torch.nn.CrossEntropyLoss()
        for _ in range(job.rounds):
            for i in range(n):
                picked = torch.randperm(ROWS, generator=generator)[:BATCH]
                optimizers[i].zero_grad()
                loss(nets[i](features[i, picked]), labels[i, picked]).backward()
                optimizers[i].step()
            with torch.no_grad():
                sent = [[p.detach().clone() for p in net.parameters()] for net in nets]
                for i in range(n):
                    for k, p in enumerate(nets[i].parameters()):
                        total = sent[i][k].clone()
                        for j in neighbours[i]:
                            total += sent[j][k]
                        p.copy_(total / (DEGREE + 1))
    states["loop"] = torch.stack([torch.nn.utils.parameters_to_vector(net.parameters()).detach() for net in nets])
    return watch.seconds


def _net(job: Job) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(job.features, job.hidden), nn.ReLU(), nn.Linear(job.hidden, CLASSES))
