"""What OptEx's coordinator does in a round, against one gradient: fit with kept distances, fit afresh, proxy steps.

An MLP 784-128-10 (101,770 parameters) on made-up rows, one gradient of 512 of them. The history holds T0 pairs of which
N are new; `fit_ms` is their rows of the kept distances and the solve, `fresh_fit_ms` all distances anew, `proxy_ms` the
N - 1 guesses and Adam steps of the path, listed apart. Points lie a step apart, as in a training run.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np

from simnet import registry, streams
from simnet.benches.common import drawn_rows, prepared
from simnet.benches.timing import Row, interleaved, ratio, repeated
from simnet.gaussian_process import GaussianProcess, History
from simnet.node import Batch
from simnet.scenario import Scenario

SIZES = ((20, 4), (50, 10))  # T0, N
FEATURES, HIDDEN, BATCH, CALLS = 784, 128, 512, 8


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each length of the history."""
    for kept, new in SIZES:
        yield measure(kept, new, chosen.repeats, chosen.device)


def measure(kept: int, new: int, repeats: int, device: str, features: int = FEATURES, hidden: int = HIDDEN) -> Row:
    """Milliseconds of each part, and what they are beside one gradient."""
    import torch

    plan, place, dtype = prepared(
        Scenario(
            network={"nodes": 2}, algorithm="DPSGD", execution={"device": device},
            problem={"name": "MLP", "hidden": hidden, "data": drawn_rows(features), "split": "whole", "batch": BATCH},
        )
    )  # fmt: skip
    from simnet.valueplane.oracles import Oracles

    oracles, host, d = Oracles(plan.book(), place, dtype), np.arange(1), plan.problem.dim
    generator = torch.Generator().manual_seed(3)

    def walk(count: int) -> Any:
        """Points a step apart."""
        steps = 1e-3 * torch.randn(count, d, generator=generator)
        return (plan.problem.initial("x").cpu() + steps.cumsum(0)).to(place, dtype)

    process, step = GaussianProcess(most=kept), registry.find("steps", "adam")()
    history = History()
    for _ in range(-(-kept // new)):
        history = process.observed(history, walk(new), walk(new))
    Z, G = walk(new), walk(new)
    fitted, x = process.fit(history), walk(1)[0]
    whole = torch.cat(history.points), torch.cat(history.gradients)

    def path() -> None:
        z, state = x, step.first(x)
        for _ in range(new - 1):
            z, state = step.taken(z, state, fitted.mean(z))

    ask = ("gradient", Batch(streams.key(1, "rows"), BATCH), None, streams.key(1, "u"))
    contenders = {
        "fit": lambda: process.fit(process.observed(history, Z, G)),
        "fresh_fit": lambda: process.fit(process.observed(History(), *whole)),
        "proxy": path,
        "gradient": lambda: oracles.batched(ask, [x[None]], host, host),
    }
    seconds = interleaved({name: repeated(work, CALLS, place) for name, work in contenders.items()}, repeats)
    ms = {f"{name}_ms": statistics.median(spent) * 1e3 / CALLS for name, spent in seconds.items()}
    beside = {
        f"{name}_to_gradient": ratio(seconds[name], seconds["gradient"]) for name in ("fit", "fresh_fit", "proxy")
    }
    return {"job": "optex", "parameters": d, "T0": kept, "N": new, "device": device, **ms, **beside}
