"""Compressors on all nodes' vectors in one call, against a loop over nodes and against a copy of the same numbers.

Random draws are made beforehand, as the value plane hands them in. Vectors are normal, of 7,850 float32 numbers
(softmax on 784 features). The loop is measured at 64 nodes at most.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from simnet import registry
from simnet.benches.timing import Row, interleaved, ratio, repeated
from simnet.compressor import Compressor

NUMBERS, LOOP_UP_TO = 7850, 64
SETTINGS: dict[str, dict[str, Any]] = {
    "identity": {}, "top_k": {"fraction": 0.1}, "rand_k": {"fraction": 0.1}, "qsgd": {"levels": 7}, "sign": {},
    "random_gossip": {"p": 0.1}, "drop_coord": {"p": 0.1},
}  # fmt: skip


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each compressor and number of nodes."""
    for name in SETTINGS:
        for n in chosen.nodes:
            yield measure(name, n, chosen.repeats, chosen.device)


def measure(name: str, n: int, repeats: int, device: str, d: int = NUMBERS) -> Row:
    """Milliseconds of a call on all nodes, and its ratios to a copy and of a loop over nodes to it."""
    import torch

    compressor: Compressor = registry.call(registry.find("compressors", name), {}, SETTINGS[name], "")
    generator = torch.Generator().manual_seed(6)
    x_ND = torch.randn(n, d, generator=generator).to(device)
    given = [
        torch.full((n, 1), float(int(draw.p * d)), device=device)
        if draw.single
        else torch.rand(n, d, generator=generator).to(device)
        for draw in compressor.draws(d)
    ]
    calls, space_ND = max(1, 256 // n), torch.empty_like(x_ND)

    def one_by_one() -> None:
        for i in range(n):
            compressor.compress(x_ND[i], *(draw[i] for draw in given))

    contenders: dict[str, Callable[[], Any]] = {
        "all": lambda: compressor.compress(x_ND, *given), "copy": lambda: space_ND.copy_(x_ND),
    }  # fmt: skip
    if n <= LOOP_UP_TO:
        contenders["loop"] = one_by_one
    torch.set_num_threads(1)
    seconds = interleaved({name: repeated(work, calls, device) for name, work in contenders.items()}, repeats)
    ms, to_copy = statistics.median(seconds["all"]) * 1e3 / calls, ratio(seconds["all"], seconds["copy"])
    row: Row = {"job": f"compressors, {name}", "nodes": n, "parameters": d, "device": device, "ms": ms,
                "to_copy": to_copy}  # fmt: skip
    if "loop" in seconds:
        row["loop_to_simnet"] = ratio(seconds["loop"], seconds["all"])
    return row
