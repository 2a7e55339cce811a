"""Speed, measured beside what it is compared with: one process, one thread, interleaved, CPU seconds, medians.

    simnet bench                     everything (about two minutes)
    simnet bench common --nodes 64   the common job against a hand-written floor and a loop of modules
    simnet bench time                the time plane alone, messages per second

The common job: D-PSGD on digits, Dirichlet(0.5) split with 64 rows a node, an MLP 64-32-10 (2,410 parameters),
batch 16, 100 rounds, a random 4-regular graph with weights 1/5. The floor is the same arithmetic by hand in batched
tensors, with no simulator around it; the loop is one `nn.Module` and one optimizer for each node. Nobody evaluates
until the end.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import numpy as np

from simnet.prepare import Plan, prepare
from simnet.recording import Recording
from simnet.scenario import Scenario
from simnet.session import NoValues
from simnet.timeplane.account import Account
from simnet.timeplane.arrays import ArraysPlane
from simnet.timeplane.walker import Walker

ROUNDS, BATCH, ETA, ROWS, DEGREE, HIDDEN = 100, 16, 0.2, 64, 4, 32
Timed = Callable[[], float]  # does the work once and gives its CPU seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; `arguments` as on the command line."""
    parser = argparse.ArgumentParser(prog="simnet bench", description=__doc__.split("\n")[0])
    parser.add_argument("part", nargs="?", choices=("all", "common", "time"), default="all")
    parser.add_argument("--nodes", type=int, nargs="*", default=[64, 256, 1024], help="sizes of the common job")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats; medians are printed")
    parser.add_argument("--device", default="cpu", help="where the tensors are (common job)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of tables")
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []

    def show(row: dict[str, Any]) -> None:
        rows.append(row)
        sys.stdout.write((json.dumps(row) if chosen.json else _line(row)) + "\n")
        sys.stdout.flush()

    if chosen.part in ("all", "common"):
        for n in chosen.nodes:
            show(common_job(n, chosen.repeats, chosen.device))
    if chosen.part in ("all", "time"):
        for row in time_plane(chosen.repeats):
            show(row)


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def interleaved(contenders: dict[str, Timed], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each contender, in turns, after one unmeasured turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, work in contenders.items():
            gc.collect()
            spent = work()
            if turn:
                seconds[name].append(spent)
    return seconds


def ratio(top: list[float], bottom: list[float]) -> float:
    """The median of the ratios turn by turn, which a drift of the machine's speed leaves alone."""
    return statistics.median(a / b for a, b in zip(top, bottom, strict=True))


# ---- the common job ------------------------------------------------------------------------------------------------


def common_scenario(n: int, device: str = "cpu") -> Scenario:
    """The common job as a scenario."""
    return Scenario.of(
        {
            "name": f"common job, {n} nodes",
            "seed": 2,
            "network": {"nodes": n, "graph": {"name": "random_regular", "degree": DEGREE}},
            "problem": {
                "name": "MLP", "hidden": HIDDEN, "data": "digits", "batch": BATCH,
                "split": {"name": "dirichlet", "alpha": 0.5, "rows": ROWS},
            },
            "algorithm": {"name": "DPSGD", "eta": ETA},
            "rounds": ROUNDS,
            "evaluate_every": ROUNDS,
            "execution": {"device": device, "threads": 1},
            "record": {"timeline": False},
        }
    )  # fmt: skip


def common_job(n: int, repeats: int, device: str = "cpu") -> dict[str, Any]:
    """Ratios of the common job at n nodes to its floor and to the loop of modules, and everyone's accuracy."""
    plan, torch_device, dtype = _prepared(common_scenario(n, device))
    states: dict[str, Any] = {}
    contenders: dict[str, Timed] = {
        "simnet": lambda: _simulated(plan, torch_device, dtype, states),
        "floor dense": lambda: _floor(plan, torch_device, True, states),
        "floor gather": lambda: _floor(plan, torch_device, False, states),
    }
    if n <= 64:
        contenders["loop"] = lambda: _loop(plan, states)
    seconds = interleaved(contenders, repeats)
    floor = min(("floor dense", "floor gather"), key=lambda k: statistics.median(seconds[k]))
    row: dict[str, Any] = {"job": "common", "nodes": n, "ms_per_round": statistics.median(seconds["simnet"]) * 10,
                           "floor_ms_per_round": statistics.median(seconds[floor]) * 10,
                           "to_floor": ratio(seconds["simnet"], seconds[floor]), "floor": floor}  # fmt: skip
    if "loop" in seconds:
        row["loop_to_simnet"] = ratio(seconds["loop"], seconds["simnet"])
    row["accuracy"] = {k: round(float(plan.problem.validate(v.mean(0)[None])["accuracy"][0]), 3)
                       for k, v in states.items()}  # fmt: skip
    return row


def _prepared(scenario: Scenario) -> tuple[Plan, Any, Any]:
    from simnet.valueplane import settle_device

    plan = prepare(scenario)
    device, dtype = settle_device(scenario, plan)
    plan.problem.prepare(device, dtype)
    return plan, device, dtype


class _Keep:
    """Hooks that evaluate nothing: they keep the last report's x and the clock that ran until then."""

    def __init__(self, values: Any, rounds: int) -> None:
        self.values, self.rounds = values, rounds
        self.reporting: list[Recording] = []
        self.x: Any = None

    def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
        report = recording.reports[index]
        if index + 1 == self.rounds and not isinstance(self.values, NoValues):
            self.values.catch_up(recording, report.mark)
            self.x = self.values.value(recording, report.values["x"].id)
        report.values = {}
        return False


def _simulated(plan: Plan, device: Any, dtype: Any, states: dict[str, Any]) -> float:
    from simnet.valueplane import make_values

    started = time.process_time()
    book = plan.book()
    values = make_values(plan.scenario, book, device, dtype, "lockstep")
    keep = _Keep(values, plan.scenario.rounds)
    recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
    gc.disable()
    ArraysPlane(book, recording, Account(book, timeline=False), values, keep).run()
    _wait(device)
    gc.enable()
    spent = time.process_time() - started
    states["simnet"] = keep.x.clone()
    return spent


def _wait(device: Any) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _floor(plan: Plan, device: Any, dense: bool, states: dict[str, Any]) -> float:
    """The job by hand: all nodes in batched tensors, written-out backward pass, gossip as one product or by index."""
    import torch

    n, (features, labels) = plan.network.n, _node_rows(plan, device)
    classes, width = 10, 64
    source, target = plan.topology.edges(0)
    neighbours = torch.from_numpy(source.reshape(n, DEGREE).copy()).to(device)
    w = torch.zeros(n, n, device=device)
    w[torch.from_numpy(target.copy()).to(device), torch.from_numpy(source.copy()).to(device)] = 1.0
    w.fill_diagonal_(1.0).div_(DEGREE + 1)
    one_hot = torch.nn.functional.one_hot(labels, classes).float()
    ends = torch.tensor([0, HIDDEN * width, HIDDEN, classes * HIDDEN, classes]).cumsum(0).tolist()
    generator = torch.Generator(device=device).manual_seed(4)
    rows = torch.arange(n, device=device)[:, None]
    x0 = plan.problem.initial("x")
    _wait(device)
    started = time.process_time()

    def views(v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (v[:, : ends[1]].view(n, HIDDEN, width), v[:, ends[1] : ends[2]],
                v[:, ends[2] : ends[3]].view(n, classes, HIDDEN), v[:, ends[3] : ends[4]])  # fmt: skip

    state = x0.repeat(n, 1)
    gradient = torch.empty_like(state)
    for _ in range(ROUNDS):
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
        moved = state.add(gradient, alpha=-ETA)
        if dense:
            state = w @ moved
        else:
            state = moved.clone()
            for k in range(DEGREE):
                state += moved[neighbours[:, k]]
            state /= DEGREE + 1
    _wait(device)
    spent = time.process_time() - started
    states["floor"] = state
    return spent


def _node_rows(plan: Plan, device: Any) -> tuple[Any, Any]:
    """Every node's own rows as tensors (n, ROWS, features) and (n, ROWS)."""
    import torch

    parts = plan.problem.parts()  # type: ignore[attr-defined]
    rows = np.stack(parts.rows)
    return (torch.from_numpy(parts.dataset.train_x[rows].astype(np.float32)).to(device),
            torch.from_numpy(parts.dataset.train_y[rows]).to(device))  # fmt: skip


def _loop(plan: Plan, states: dict[str, Any]) -> float:
    """The job as a plain loop: one module and one optimizer per node, gossip included."""
    import torch

    n, (features, labels) = plan.network.n, _node_rows(plan, "cpu")
    neighbours = [[] for _ in range(n)]  # type: list[list[int]]
    for s, t in zip(*plan.topology.edges(0), strict=True):
        neighbours[int(t)].append(int(s))
    x0, generator = plan.problem.initial("x"), torch.Generator().manual_seed(4)
    started = time.process_time()
    nets = [torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
            for _ in range(n)]  # fmt: skip
    for net in nets:
        torch.nn.utils.vector_to_parameters(x0.clone(), net.parameters())  # parameters become views of the vector
    optimizers = [torch.optim.SGD(net.parameters(), lr=ETA) for net in nets]
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(ROUNDS):
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
    spent = time.process_time() - started
    states["loop"] = torch.stack([torch.nn.utils.parameters_to_vector(net.parameters()).detach() for net in nets])
    return spent


# ---- the time plane alone ------------------------------------------------------------------------------------------


def time_scenario(n: int, rounds: int, deadline_s: float | None = None, **network: Any) -> Scenario:
    """A lossless 4-regular network of unequal nodes, a problem without data."""
    graph = nx.random_regular_graph(DEGREE, n, seed=1)
    return Scenario.of(
        {
            "name": "time plane",
            "network": {"graph": graph, "link": {"bandwidth": "10 Mbit/s", "latency": "20 ms"}, **network},
            "nodes": {"step": "10 ms", "jitter": 0.3},
            "problem": {"name": "Quadratic", "dim": 650},
            "algorithm": {"name": "DPSGD", "eta": 0.1, "deadline_s": deadline_s},
            "rounds": rounds,
            "record": {"timeline": False},
        }
    )


def time_plane(repeats: int) -> list[dict[str, Any]]:
    """Messages per CPU second of the tiers, and the large case with its peak memory."""
    rows = []
    cases = {
        "lossless": prepare(time_scenario(1000, 100)),
        "5 % loss": prepare(time_scenario(1000, 100, policy="drop", link={"loss": 0.05})),
        "5 % loss, deadline": prepare(time_scenario(1000, 100, 0.05, policy="drop", link={"loss": 0.05})),
    }
    for case, plan in cases.items():
        contenders: dict[str, Timed] = {
            tier: (lambda tier=tier, plan=plan: _walked(plan, tier))  # type: ignore[misc]
            for tier in ("arrays", "compiled", "events")
        }
        messages = 1000 * DEGREE * 100
        for tier, spent in interleaved(contenders, repeats).items():
            rate = messages / statistics.median(spent)
            rows.append(
                {"job": f"time plane, {tier}, {case}", "nodes": 1000, "messages": messages, "messages_per_s": rate}
            )
    large = prepare(time_scenario(100_000, 20))
    large.book().edges(large.topology, 0, "node")
    spent = [_walked(large, "arrays") for _ in range(3)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    rows.append({"job": "time plane, arrays", "nodes": 100_000, "messages": 8_000_000,
                 "messages_per_s": 8e6 / statistics.median(spent), "cpu_s": statistics.median(spent),
                 "peak_memory_bytes": peak})  # fmt: skip
    return rows


def _walked(plan: Plan, tier: str) -> float:
    """CPU seconds of one walk with ledger and clocks per round, values left out."""
    started = time.process_time()
    book, values = plan.book(), NoValues()
    account, keep = Account(book, timeline=False), _Keep(values, plan.scenario.rounds)
    recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
    gc.disable()
    _plane(tier)(book, recording, account, values, keep).run()
    gc.enable()
    return time.process_time() - started


def _plane(tier: str) -> Any:
    if tier == "arrays":
        return ArraysPlane
    if tier == "compiled":
        from simnet.timeplane.events import CompiledWalker

        return CompiledWalker
    return lambda book, recording, *rest: Walker(book, [recording], *rest)
