"""Gradients of all nodes at once: closed forms, vmap of automatic ones, and a loop over nodes, on the same rows.

One call gives every node its minibatch gradient (batch 16). The loop is measured at 64 nodes at most. A model without
closed forms (CNN) has vmap and the loop alone.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from simnet.benches.timing import Row, Stopwatch, Timed, interleaved, ratio
from simnet.prepare import Plan, prepare
from simnet.scenario import Scenario

MODELS: dict[str, dict[str, Any]] = {"Softmax": {}, "MLP": {"hidden": 32}, "CNN": {}}
BATCH, LOOP_UP_TO = 16, 64


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each model and number of nodes."""
    for model, fields in MODELS.items():
        for n in chosen.nodes:
            yield measure(model, fields, n, chosen.repeats, chosen.device)


def measure(model: str, fields: dict[str, Any], n: int, repeats: int, device: str) -> Row:
    """Milliseconds of a call with each kind of kernel, and how much longer the others take than closed forms."""
    kinds = ["closed", "vmap", "loop"] if n <= LOOP_UP_TO else ["closed", "vmap"]
    problem = {
        "name": model,
        "data": "digits",
        "batch": BATCH,
        "split": {"name": "dirichlet", "alpha": 10, "rows": 32},
        **fields,
    }
    plans = {kind: prepare(_scenario(n, problem, device)) for kind in kinds}
    if not plans["closed"].problem.closed_forms:
        kinds.remove("closed")
    contenders: dict[str, Timed] = {kind: _calls(plans[kind], kind) for kind in kinds}
    seconds = interleaved(contenders, repeats)
    ms = {f"{kind}_ms": statistics.median(spent) * 1e3 for kind, spent in seconds.items()}
    first = kinds[0]
    ratios = {f"{kind}_to_{first}": ratio(seconds[kind], seconds[first]) for kind in kinds[1:]}
    parameters = plans[first].problem.dim
    return {"job": f"kernels, {model}", "nodes": n, "parameters": parameters, "device": device, **ms, **ratios}


def _scenario(n: int, problem: dict[str, Any], device: str) -> Scenario:
    return Scenario.of(
        {
            "network": {"nodes": n, "graph": "ring"},
            "problem": problem,
            "algorithm": "DPSGD",
            "rounds": 1,
            "execution": {"device": device, "threads": 1},
        }
    )


def _calls(plan: Plan, kind: Any) -> Timed:
    """Something that takes the seconds of one call of the plan's own problem."""
    import torch

    from simnet.valueplane import settle_device

    device, dtype = settle_device(plan.scenario)
    problem, n = plan.problem, plan.network.n
    problem.prepare(device, dtype, kind)
    generator = torch.Generator().manual_seed(6)
    x_SD = problem.initial("x") + 0.01 * torch.randn(n, problem.dim, generator=generator).to(device)
    samples_SB = torch.randint(int(problem.samples_N.min()), (n, BATCH), generator=generator).to(device)
    nodes_S, out_SD = torch.arange(n, device=device), torch.empty_like(x_SD)
    calls = max(1, 1000 // n) if kind != "loop" else 1

    def timed() -> float:
        watch = Stopwatch(device)
        with watch.running():
            for _ in range(calls):
                problem.gradients(x_SD, nodes_S, samples_SB, out=out_SD)
        return watch.seconds / calls

    return timed
