"""Values that do not go in step, against the same arithmetic by hand with nothing simulated around it.

Each job is a scenario whose values are followed node by node and batched afterwards: roles and messages (partners by
time are in `pairwise`). Its floor is given the same problem, whose kernels it calls on all
nodes at once; `one by one` is the reference executor, measured at 64 nodes at most.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from simnet.benches.timing import Row, Stopwatch, Timed, interleaved, ratio
from simnet.prepare import Plan, prepare
from simnet.record import RecordWriter
from simnet.scenario import Scenario
from simnet.session import attempts

SPLIT = {"name": "dirichlet", "alpha": 10, "rows": 64}
BATCH, ETA, STEPS, ROUNDS, ONE_BY_ONE_UP_TO = 32, 0.1, 2, 20, 64


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each job and number of nodes."""
    for job, (scenario_of, floor_of) in JOBS.items():
        for n in chosen.nodes:
            yield measure(job, scenario_of, floor_of, n, chosen.repeats, chosen.device)


def measure(
    job: str, scenario_of: Callable[[int, str], Scenario], floor_of: Callable[[Plan, Any], None], n: int, repeats: int,
    device: str,
) -> Row:  # fmt: skip
    """Milliseconds a round of the simulation and of its floor, and their ratio."""
    from simnet.valueplane import settle_device

    plan = prepare(scenario_of(n, device))
    place, dtype = settle_device(plan.scenario)
    plan.problem.prepare(place, dtype)
    contenders: dict[str, Timed] = {
        "simnet": lambda: _timed(place, lambda: _run(plan, place, dtype, "batched")),
        "floor": lambda: _timed(place, lambda: floor_of(plan, place)),
    }
    if n <= ONE_BY_ONE_UP_TO:
        contenders["one by one"] = lambda: _timed(place, lambda: _run(plan, place, dtype, "one_by_one"))
    seconds = interleaved(contenders, repeats)
    ms = {name: statistics.median(spent) * 1e3 / ROUNDS for name, spent in seconds.items()}
    row: Row = {"job": f"values, {job}", "nodes": n, "parameters": plan.problem.dim, "device": str(place),
                "ms_per_round": ms["simnet"], "floor_ms_per_round": ms["floor"],
                "to_floor": ratio(seconds["simnet"], seconds["floor"])}  # fmt: skip
    if "one by one" in ms:
        row["one_by_one_to_simnet"] = ratio(seconds["one by one"], seconds["simnet"])
    return row


def _timed(device: Any, work: Callable[[], None]) -> float:
    watch = Stopwatch(device)
    with watch.running():
        work()
    return watch.seconds


def _run(plan: Plan, device: Any, dtype: Any, executor: str) -> None:
    """The whole run of a prepared plan, its one evaluation included, in the tier that it gets by itself."""
    from simnet.valueplane import make_values

    scenario = plan.scenario.with_values({"execution.executor": executor})
    with RecordWriter(None, plan.facts(), scenario.dump()) as writer:
        attempts(plan, writer, None, lambda book, kind: make_values(scenario, book, device, dtype, kind))


# ---- federated averaging: a server and clients that send messages --------------------------------------------------


def fedavg(n: int, device: str) -> Scenario:
    """One server and n - 1 clients on a star, two local steps, softmax on digits."""
    return Scenario.of(
        {
            "network": {"nodes": n, "graph": "star"},
            "nodes": {"step": "10 ms", "jitter": 0.3},
            "problem": {"name": "Softmax", "data": "digits", "batch": BATCH, "split": SPLIT},
            "algorithm": {"name": "FedAvg", "eta": ETA, "steps": STEPS},
            "rounds": ROUNDS,
            "evaluate_every": ROUNDS,
            "execution": {"device": device, "threads": 1},
            "record": {"timeline": False},
        }
    )


def fedavg_by_hand(plan: Plan, device: Any) -> None:
    """The same rounds on one tensor of all clients."""
    import torch

    problem = plan.problem
    clients = problem.nodes
    nodes_S, rows = torch.arange(clients, device=device), int(problem.samples_N.min())
    generator = torch.Generator(device=device).manual_seed(7)
    x_D = problem.initial("x")
    for _ in range(ROUNDS):
        x_SD = x_D.repeat(clients, 1)
        gradient_SD = torch.empty_like(x_SD)
        for _ in range(STEPS):
            samples_SB = torch.randint(rows, (clients, BATCH), generator=generator, device=device)
            problem.gradients(x_SD, nodes_S, samples_SB, out=gradient_SD)
            x_SD.sub_(gradient_SD, alpha=ETA)
        x_D = x_SD.mean(0)


JOBS: dict[str, tuple[Callable[[int, str], Scenario], Callable[[Plan, Any], None]]] = {
    "FedAvg": (fedavg, fedavg_by_hand),
}
