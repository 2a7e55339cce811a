"""Bilevel oracles: hx, hy, hz of all nodes from one stacked pass, beside closed forms and a loop over nodes.

Ridge coefficients (200 training and 100 validation rows a node, d = 20) and the quadratic instance (dx = 5, dy = 10),
in float64 on all rows. The loop asks one node after another, by automatic differentiation, as the reference does; it is
measured at 64 nodes at most.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from simnet.benches.timing import Row, interleaved, ratio, repeated

FEW, LOOP_UP_TO = 8, 64
PROBLEMS = {"ridge coefficients": "SyntheticL2Coefficients", "quadratic": "BilevelQuadratic"}


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each problem and number of nodes, eight among them."""
    for name in PROBLEMS:
        for n in sorted({FEW, *chosen.nodes}):
            yield measure(name, n, chosen.repeats, chosen.device)


def measure(name: str, n: int, repeats: int, device: str) -> Row:
    """Milliseconds of the stacked pass, and its ratios to the closed form and of the loop to it."""
    import torch

    from simnet import registry

    place = torch.device(device)
    made: Callable[..., Any] = registry.find("problems", PROBLEMS[name])
    closed, stacked = made(n), made(n)
    closed.prepare(place, torch.float64)
    stacked.prepare(place, torch.float64, "vmap")
    nodes = torch.arange(n, device=place)
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(place)
             for shape in closed.oracles()["directions"].takes]  # fmt: skip
    calls = max(1, 256 // n)

    def one_by_one() -> None:
        for i in range(n):
            stacked.answer("directions", [v[i] for v in given], i, None)

    contenders: dict[str, Callable[[], Any]] = {
        "stacked": lambda: stacked.answers("directions", given, nodes, None),
        "closed": lambda: closed.answers("directions", given, nodes, None),
    }
    if n <= LOOP_UP_TO:
        contenders["loop"] = one_by_one
    seconds = interleaved({name: repeated(work, calls, place) for name, work in contenders.items()}, repeats)
    row: Row = {
        "job": f"bilevel, {name}", "nodes": n, "numbers": closed.dx + 2 * closed.dy, "device": device,
        "stacked_ms": statistics.median(seconds["stacked"]) * 1e3 / calls,
        "to_closed": ratio(seconds["stacked"], seconds["closed"]),
    }  # fmt: skip
    if "loop" in seconds:
        row["loop_to_stacked"] = ratio(seconds["loop"], seconds["stacked"])
    return row
