"""Zeroth-order estimates of all nodes in one call, against a loop over nodes and against a copy of their states.

Softmax regression on digits (d = 650), batch 16, eight directions; draws, minibatches and losses are part of the call.
The loop, the one-by-one executor's call for each node, is measured at 64 nodes at most.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from simnet import streams
from simnet.benches.common import prepared
from simnet.benches.timing import Row, interleaved, ratio, repeated
from simnet.scenario import Scenario

BATCH, DIRECTIONS, LOOP_UP_TO = 16, 8, 64
NAMES = ("fwd_grad", "fwd_grad_fast", "two_point_fwd", "two_point_central", "sphere_central", "rademacher")


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each estimator and number of nodes."""
    for name in NAMES:
        for n in chosen.nodes:
            yield measure(name, n, chosen.repeats, chosen.device)


def measure(name: str, n: int, repeats: int, device: str) -> Row:
    """Milliseconds of one estimate of every node, and its ratios to a copy and of a loop over nodes to it."""
    import numpy as np
    import torch

    from simnet.node import Batch
    from simnet.valueplane.oracles import Oracles

    plan, place, dtype = prepared(
        Scenario(
            network={"nodes": n}, nodes={"oracle": "zo", "estimator": {"name": name, "rv": DIRECTIONS}},
            problem={"name": "Softmax", "data": "digits", "batch": BATCH}, algorithm="DPSGD",
            execution={"device": device},
        )
    )  # fmt: skip
    oracles, hosts = Oracles(plan.book(), place, dtype), np.arange(n)
    x_ND = 0.1 * torch.randn(n, plan.problem.dim, device=place, dtype=dtype)
    space_ND, ask = (
        torch.empty_like(x_ND),
        ("gradient", Batch(streams.key(1, "rows"), BATCH), None, streams.key(1, "u")),
    )
    calls = max(1, 64 // n)

    def one_by_one() -> None:
        for i in range(n):
            oracles.single(ask, [x_ND[i]], i, i)

    contenders: dict[str, Callable[[], Any]] = {
        "all": lambda: oracles.batched(ask, [x_ND], hosts, hosts), "copy": lambda: space_ND.copy_(x_ND),
    }  # fmt: skip
    if n <= LOOP_UP_TO:
        contenders["loop"] = one_by_one
    seconds = interleaved({name: repeated(work, calls, place) for name, work in contenders.items()}, repeats)
    row: Row = {
        "job": f"estimators, {name}", "nodes": n, "parameters": plan.problem.dim, "device": device,
        "ms": statistics.median(seconds["all"]) * 1e3 / calls, "to_copy": ratio(seconds["all"], seconds["copy"]),
    }  # fmt: skip
    if "loop" in seconds:
        row["loop_to_simnet"] = ratio(seconds["loop"], seconds["all"])
    return row
