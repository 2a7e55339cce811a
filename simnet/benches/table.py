"""The table to quote: problems x nodes x (group run, node run), each against its bare floor and the naive loop.

D-PSGD, batch 16, 64 rows a node, a random 4-regular graph with weights 1/5, from made-up rows. The floor is the same
arithmetic in batched tensors with nothing simulated around it: written by hand for softmax regression and multilayer
perceptrons, `vmap(grad)` in chunks for the others; gossip by index. The naive loop takes one node after another, with
an optimizer each: a module for softmax and perceptrons, the problem's own loss for the others. The node run is
simnet's reference, one generator and one gradient for each node. Nobody evaluates; every side does the same rounds.

`mixing` is one gossip step of all states, in place, against a bare copy of them.
"""

from __future__ import annotations

import platform
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simnet.benches.common import DEGREE, ETA, ROWS, drawn_rows, node_rows, prepared, simulated
from simnet.benches.timing import Row, Stopwatch, Timed, interleaved, ratio
from simnet.dataset import Dataset
from simnet.prepare import Plan
from simnet.scenario import Scenario

BATCH, NODE_RUN_UP_TO, LOOP_UP_TO, LARGEST_BYTES = 16, 64, 1024, 6e9


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    label: str
    problem: dict[str, Any]
    data: Callable[[], Dataset]
    rounds: int  # at 64 nodes; fewer with more
    by_hand: str = ""  # which floor and loop: softmax, mlp; else automatic


def two_classes() -> Dataset:
    """2,000 rows of 123 features in two classes."""
    rng = np.random.default_rng(7)
    y = np.arange(2400) % 2
    x = rng.normal(size=(len(y), 123)) + np.where(y, 0.3, -0.3)[:, None]
    return Dataset("two made-up classes", x[:2000], y[:2000], x[2000:], y[2000:], 2)


def characters() -> Dataset:
    """Blocks of 16 made-up characters, and the one that follows."""
    rng = np.random.default_rng(8)
    text = rng.integers(0, 27, 4000)
    blocks = np.stack([text[k : k + 16] for k in range(2400)])
    return Dataset("made-up characters", blocks[:2000], text[16:2016], blocks[2000:], text[2016:2416], 27)


CASES = [
    Case("softmax", {"name": "Softmax"}, two_classes, 200, "softmax"),
    Case("softmax", {"name": "Softmax"}, lambda: drawn_rows(64), 200, "softmax"),
    Case("softmax", {"name": "Softmax"}, lambda: drawn_rows(784), 50, "softmax"),
    Case("mlp", {"name": "MLP", "hidden": 32}, lambda: drawn_rows(64), 100, "mlp"),
    Case("mlp", {"name": "MLP", "hidden": 128}, lambda: drawn_rows(784), 20, "mlp"),
    Case("cnn", {"name": "CNN"}, lambda: drawn_rows(64), 20),
    Case("transformer", {"name": "Transformer", "width": 16, "layers": 1}, characters, 10),
]


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each problem and number of nodes that fits."""
    for case in CASES:
        for n in chosen.nodes:
            plan, device, dtype = prepared(scenario(case, n, chosen.device))
            if 3.0 * 4 * n * plan.problem.dim > LARGEST_BYTES and str(device) == "cpu":
                continue
            yield measure(case, plan, device, dtype, chosen.repeats)


def scenario(case: Case, n: int, device: str) -> Scenario:
    """The job of one line at n nodes."""
    rounds = case.rounds if n <= 64 else max(3, case.rounds // 4)
    return Scenario.of(
        {
            "seed": 2,
            "network": {"nodes": n, "graph": {"name": "random_regular", "degree": DEGREE}},
            "problem": {**case.problem, "data": case.data(), "batch": BATCH,
                        "split": {"name": "dirichlet", "alpha": 0.5, "rows": ROWS}},
            "algorithm": {"name": "DPSGD", "eta": ETA},
            "rounds": rounds,
            "evaluate_every": rounds,
            "execution": {"device": device, "threads": 1},
            "record": {"timeline": False},
        }
    )  # fmt: skip


def measure(case: Case, plan: Plan, device: Any, dtype: Any, repeats: int) -> Row:
    """One line: milliseconds a round and the ratios."""
    import torch

    n, rounds = plan.network.n, plan.scenario.rounds
    states: dict[str, Any] = {}
    contenders: dict[str, Timed] = {
        "simnet": lambda: simulated(plan, device, dtype, states),
        "floor": lambda: floor(case, plan, device),
    }
    if n <= NODE_RUN_UP_TO and str(device) == "cpu":
        contenders["node run"] = lambda: _node_run(plan, device, dtype)
    if n <= LOOP_UP_TO:
        contenders["loop"] = lambda: _loop(case, plan, device)
    mixing = {"mixing": lambda: _mixing(plan, device, dtype), "copy": lambda: _copy(plan, device, dtype)}
    seconds = interleaved(contenders, repeats if n <= 64 else min(repeats, 3))
    mixed = interleaved(mixing, repeats)
    ms = {name: statistics.median(spent) * 1e3 / rounds for name, spent in seconds.items()}
    row: Row = {
        "problem": case.label, "parameters": plan.problem.dim, "nodes": n, "ms_per_round": ms["simnet"],
        "us_per_node_step": 1e3 * ms["simnet"] / n, "floor_ms": ms["floor"],
        "to_floor": ratio(seconds["simnet"], seconds["floor"]),
    }  # fmt: skip
    if "loop" in seconds:
        row |= {"loop_ms": ms["loop"], "loop_to_simnet": ratio(seconds["loop"], seconds["simnet"])}
    if "node run" in seconds:
        row |= {"node_run_ms": ms["node run"], "node_run_to_loop": ratio(seconds["node run"], seconds["loop"])}
    return row | {"mixing_to_copy": ratio(mixed["mixing"], mixed["copy"]), "rounds": rounds, "device": _name(device),
                  "threads": torch.get_num_threads(), "torch": torch.__version__,
                  "python": platform.python_version()}  # fmt: skip


def _name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else "cpu"


# ---- the floor -----------------------------------------------------------------------------------------------------


def floor(case: Case, plan: Plan, device: Any) -> float:
    """The job by hand: gradients of all nodes at once, and gossip by index."""
    import torch

    n, problem = plan.network.n, plan.problem
    features, labels = node_rows(plan, device)
    source, _ = plan.topology.edges(0)
    neighbours = torch.from_numpy(source.reshape(n, DEGREE).copy()).to(device)
    index = torch.cat([torch.arange(n, device=device)[:, None], neighbours], 1)
    weight = torch.full(index.shape, 1.0 / (DEGREE + 1), device=device)
    generator = torch.Generator(device=device).manual_seed(4)
    gradient_of = _by_hand(case, plan, features, labels, device) if case.by_hand else _automatic(plan, features, labels)
    size = problem.piece_size(BATCH)
    watch = Stopwatch(device)
    with watch.running(), torch.no_grad():
        state = problem.initial("x").repeat(n, 1)
        moved = torch.empty_like(state)
        for _ in range(plan.scenario.rounds):
            picked = torch.rand(n, ROWS, generator=generator, device=device).topk(BATCH, 1).indices
            for a in range(0, n, size):
                piece = slice(a, min(a + size, n))
                torch.sub(state[piece], gradient_of(state[piece], piece, picked[piece]), alpha=ETA, out=moved[piece])
            state = torch.nn.functional.embedding_bag(index, moved, mode="sum", per_sample_weights=weight)
    return watch.seconds


def _by_hand(case: Case, plan: Plan, features: Any, labels: Any, device: Any) -> Callable[..., Any]:
    """The written-out gradient of a piece of nodes."""
    import torch

    classes = int(plan.problem.parts().dataset.classes)  # type: ignore[attr-defined]
    one_hot = torch.nn.functional.one_hot(labels, classes).float()
    hidden = 0 if case.by_hand == "softmax" else int(case.problem["hidden"])
    width = features.shape[2]

    def softmax(state: Any, piece: slice, picked: Any) -> Any:
        m, at = len(state), torch.arange(len(state), device=device)[:, None]
        a, y = features[piece][at, picked], one_hot[piece][at, picked]
        w, b = state.split([classes * width, classes], 1)
        z = torch.baddbmm(b[:, None], a, w.view(m, classes, width).transpose(1, 2))
        dz = (torch.softmax(z, -1) - y) / BATCH
        out = torch.empty_like(state)
        gw, gb = out.split([classes * width, classes], 1)
        gw.view(m, classes, width).copy_(torch.bmm(dz.transpose(1, 2), a))
        gb.copy_(dz.sum(1))
        return out

    def mlp(state: Any, piece: slice, picked: Any) -> Any:
        m, at = len(state), torch.arange(len(state), device=device)[:, None]
        a, y = features[piece][at, picked], one_hot[piece][at, picked]
        sizes = [hidden * width, hidden, classes * hidden, classes]
        w1, b1, w2, b2 = state.split(sizes, 1)
        w1, w2 = w1.view(m, hidden, width), w2.view(m, classes, hidden)
        h = torch.baddbmm(b1[:, None], a, w1.transpose(1, 2)).relu_()
        dz = (torch.softmax(torch.baddbmm(b2[:, None], h, w2.transpose(1, 2)), -1) - y) / BATCH
        dh = torch.bmm(dz, w2) * (h > 0)
        out = torch.empty_like(state)
        g1, c1, g2, c2 = out.split(sizes, 1)
        g1.view(m, hidden, width).copy_(torch.bmm(dh.transpose(1, 2), a))
        g2.view(m, classes, hidden).copy_(torch.bmm(dz.transpose(1, 2), h))
        c1.copy_(dh.sum(1))
        c2.copy_(dz.sum(1))
        return out

    return mlp if hidden else softmax


def _automatic(plan: Plan, features: Any, labels: Any) -> Callable[..., Any]:
    """The gradient of a piece of nodes by vmap of the problem's loss."""
    import torch

    each = torch.func.vmap(torch.func.grad(plan.problem.data_loss))

    def gradients(state: Any, piece: slice, picked: Any) -> Any:
        at = torch.arange(len(state), device=state.device)[:, None]
        return each(state, features[piece][at, picked], labels[piece][at, picked])

    return gradients


# ---- the naive loop, the node run, mixing ----------------------------------------------------------------------------


def _loop(case: Case, plan: Plan, device: Any) -> float:
    """Seconds of one node after another, gossip included: a tenth of the rounds, scaled."""
    import torch

    n, problem, turns = plan.network.n, plan.problem, max(1, plan.scenario.rounds // 10)
    features, labels = node_rows(plan, device)
    neighbours = plan.topology.edges(0)[0].reshape(n, DEGREE).tolist()
    generator = torch.Generator().manual_seed(4)
    x0 = problem.initial("x")
    loss_of = torch.nn.CrossEntropyLoss()
    watch = Stopwatch(device)
    with watch.running():
        nets = [_module(case, plan, device) for _ in range(n)] if case.by_hand else []
        states = [[x0.clone().requires_grad_()] if not nets else list(nets[i].parameters()) for i in range(n)]
        optimizers = [torch.optim.SGD(state, lr=ETA) for state in states]
        for _ in range(turns):
            for i in range(n):
                picked = torch.randperm(ROWS, generator=generator)[:BATCH].to(device)
                optimizers[i].zero_grad()
                if nets:
                    loss = loss_of(nets[i](features[i, picked]), labels[i, picked])
                else:
                    loss = problem.data_loss(states[i][0], features[i, picked], labels[i, picked])
                loss.backward()
                optimizers[i].step()
            with torch.no_grad():
                sent = [[p.detach().clone() for p in state] for state in states]
                for i in range(n):
                    for k, p in enumerate(states[i]):
                        total = sent[i][k].clone()
                        for j in neighbours[i]:
                            total += sent[j][k]
                        p.copy_(total / (DEGREE + 1))
    return watch.seconds * plan.scenario.rounds / turns


def _module(case: Case, plan: Plan, device: Any) -> Any:
    from torch import nn

    data = plan.problem.parts().dataset  # type: ignore[attr-defined]
    if case.by_hand == "softmax":
        return nn.Linear(data.features, data.classes).to(device)
    hidden = int(case.problem["hidden"])
    return nn.Sequential(nn.Linear(data.features, hidden), nn.ReLU(), nn.Linear(hidden, data.classes)).to(device)


def _node_run(plan: Plan, device: Any, dtype: Any) -> float:
    """simnet's node run of the same job: the reference."""
    from simnet.record import RecordWriter
    from simnet.session import attempts
    from simnet.valueplane.following import Following

    scenario = plan.scenario.with_values({"execution.node_run": True})
    watch = Stopwatch(device)
    with watch.running(), RecordWriter(None, {}, "") as writer:
        attempts(replace(plan, scenario=scenario), writer, None, lambda book, kind: Following(book, device, dtype))
    return watch.seconds


def _mixing(plan: Plan, device: Any, dtype: Any) -> float:
    """One gossip step of all states, in place."""
    import torch

    from simnet.valueplane.mixing import Mixer

    book = plan.book()
    edges, mixing = book.edges(book.topology, 0, "node")
    x = Namespace(edges=edges, weight_E=mixing.weight, own_n=mixing.own, got_E=None, missing="self")
    mixer = Mixer(book.members["node"], book.n, device, dtype)
    state = torch.rand(book.n, plan.problem.dim, device=device, dtype=dtype)
    mixer.mix(x, state, state, None, None, None)  # type: ignore[arg-type]
    watch = Stopwatch(device)
    with watch.running():
        for _ in range(5):
            mixer.mix(x, state, state, None, None, None)  # type: ignore[arg-type]
    return watch.seconds


def _copy(plan: Plan, device: Any, dtype: Any) -> float:
    """A bare copy of all states, as often."""
    import torch

    state = torch.rand(plan.network.n, plan.problem.dim, device=device, dtype=dtype)
    out = torch.empty_like(state).copy_(state)
    watch = Stopwatch(device)
    with watch.running():
        for _ in range(5):
            out.copy_(state)
    return watch.seconds
