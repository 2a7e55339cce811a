"""A whole training run over links that messages share, against the same run where each link is alone.

The job: D-PSGD over a random 4-regular graph on 1,000 hosts, an MLP 784-128-10 (101,770 parameters), batch 16, steps of
50 ms give or take a third, links of 100 Mbit/s and 1 ms. Values are computed on both sides, by one thread; what is
compared are CPU seconds of runs of five rounds, in turns after one that is not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from simnet.benches.common import BATCH, ETA, ROWS, drawn_rows, prepared
from simnet.benches.timing import Row, Stopwatch, interleaved, ratio
from simnet.prepare import Plan
from simnet.record import RecordWriter
from simnet.scenario import Scenario
from simnet.session import attempts

GRAPHS, MODELS = ("switch", "dumbbell", "fat_tree"), ("maxmin", "lv08", "tcp")
NODES, ROUNDS, REPEATS = 1000, 5, 3


def rows(nodes: int = NODES, rounds: int = ROUNDS, repeats: int = REPEATS) -> Iterator[Row]:
    """One row for each underlay and model."""
    for graph in GRAPHS:
        plans = {model: prepared(scenario(nodes, rounds, graph, model)) for model in ("independent", *MODELS)}
        tiers: dict[str, str] = {}

        def run(model: str, plans: dict[str, Any] = plans, tiers: dict[str, str] = tiers) -> float:
            spent, tiers[model] = timed(*plans[model])
            return spent

        seconds = interleaved({model: lambda model=model: run(model) for model in plans}, repeats)  # type: ignore[misc]
        for model in MODELS:
            yield {
                "job": f"training over a {graph}, {model}", "nodes": nodes, "tier": tiers[model],
                "ms_per_round": 1e3 * statistics.median(seconds[model]) / rounds,
                "independent_ms_per_round": 1e3 * statistics.median(seconds["independent"]) / rounds,
                "to_independent": ratio(seconds[model], seconds["independent"]),
            }  # fmt: skip


def scenario(nodes: int, rounds: int, graph: str, model: str) -> Scenario:
    """The job."""
    return Scenario.of(
        {
            "name": f"training over a {graph}, {model}",
            "network": {"nodes": nodes, "graph": graph, "model": model,
                        "link": {"bandwidth": "100 Mbit/s", "latency": "1 ms"}},
            "topology": {"name": "random_regular", "degree": 4},
            "nodes": {"step": "50 ms", "jitter": 0.33},
            "problem": {"name": "MLP", "hidden": 128, "batch": BATCH, "data": drawn_rows(784),
                        "split": {"name": "dirichlet", "alpha": 0.5, "rows": ROWS}},
            "algorithm": {"name": "DPSGD", "eta": ETA},
            "rounds": rounds,
            "evaluate_every": rounds,
            "execution": {"threads": 1},
            "record": {"timeline": False},
        }
    )  # fmt: skip


def timed(plan: Plan, device: Any, dtype: Any) -> tuple[float, str]:
    """CPU seconds of a run of a prepared plan, and the tier that ran it."""
    from simnet.valueplane import make_values

    watch = Stopwatch(device)
    with watch.running(), RecordWriter(None, plan.facts(), plan.scenario.dump()) as writer:
        record = attempts(plan, writer, None, lambda book, kind: make_values(plan.scenario, book, device, dtype, kind))
    return watch.seconds, str(record.summary["tier"])
