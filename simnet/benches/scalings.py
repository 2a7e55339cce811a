"""Local steps divided by a scaling against the same steps without, for all nodes in batches.

SAVIC on digits, H = 10 local steps a round, batch 16: softmax regression (650 parameters) and an MLP 64-32-10 (2,410).
`global` divides by a D that changes once a round, `local_step` makes D anew at every step of every node. Both sides in
one process, in turns; one statistic of warm-up; nobody evaluates.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from simnet.benches.common import prepared, simulated
from simnet.benches.timing import Row, interleaved, ratio
from simnet.scenario import Scenario

STEPS, ROUNDS = 10, 10
PROBLEMS: dict[str, dict[str, Any]] = {
    "softmax": {"name": "Softmax"}, "mlp": {"name": "MLP", "hidden": 32, "activation": "tanh"}
}  # fmt: skip
SCALINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"scaling": {"name": "adam", "warm_up": 1}},
    "rmsprop": {"scaling": {"name": "rmsprop", "warm_up": 1}},
    "adam_local_step": {"scaling": {"name": "adam", "warm_up": 1}, "scope": "local_step"},
    "rmsprop_local_step": {"scaling": {"name": "rmsprop", "warm_up": 1}, "scope": "local_step"},
}


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each problem and number of nodes."""
    for problem in PROBLEMS:
        for n in chosen.nodes:
            yield measure(problem, n, chosen.repeats, chosen.device)


def measure(problem: str, n: int, repeats: int, device: str, rounds: int = ROUNDS) -> Row:
    """Microseconds of a local step of one node without scaling, and the ratio of each scaling to that."""
    plans = {name: prepared(_scenario(problem, n, options, device, rounds)) for name, options in SCALINGS.items()}

    def timed(name: str) -> Any:
        plan, place, dtype = plans[name]
        return lambda: simulated(plan, place, dtype, {})

    seconds = interleaved({name: timed(name) for name in SCALINGS}, repeats)
    plain = statistics.median(seconds["plain"])
    return {
        "job": f"scalings, {problem}", "nodes": n, "parameters": plans["plain"][0].problem.dim, "device": device,
        "plain_us_per_step": plain * 1e6 / (n * STEPS * rounds),
        **{f"{name}_to_plain": ratio(seconds[name], seconds["plain"]) for name in SCALINGS if name != "plain"},
    }  # fmt: skip


def _scenario(problem: str, n: int, options: dict[str, Any], device: str, rounds: int) -> Scenario:
    split = {"name": "dirichlet", "alpha": 0.5, "rows": 64}
    return Scenario.of(
        {
            "network": {"nodes": n, "graph": "star"}, "seed": 2,
            "problem": PROBLEMS[problem] | {"data": "digits", "split": split, "batch": 16},
            "algorithm": {"name": "SAVIC", "eta": 0.01, "H": STEPS} | options,
            "rounds": rounds, "evaluate_every": rounds, "record": {"timeline": False},
            "execution": {"device": device, "threads": 1},
        }
    )  # fmt: skip
