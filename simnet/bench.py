"""Speed, measured beside what it is compared with: one process, one thread, interleaved, medians, ratios.

    simnet bench                     everything (a few minutes)
    simnet bench common --nodes 64   the common job against a hand-written floor and a loop of modules
    simnet bench table --nodes 64 1024    problems x nodes, each against its floor and the naive loop
    simnet bench time                the time plane alone: messages per second of its tiers
    simnet bench values              values that do not go in step, against a hand-written floor
    simnet bench kernels             closed-form gradients against automatic ones
    simnet bench estimators          zeroth-order estimates of all nodes against a loop over them and a copy
    simnet bench compressors         compressors on all nodes against a loop over them and a copy of the states
    simnet bench scalings            local steps divided by a scaling against the same steps without
    simnet bench optex               what OptEx's coordinator does in a round, against one gradient
    simnet bench bilevel             bilevel oracles in one stacked pass, against closed forms and a loop over nodes
    simnet bench network             models of the network against real TCP; the flow engine's speed, beside SimGrid's

Seconds are the CPU's, or with `--device cuda` the device's own clock from the first kernel to the last.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

PARTS = {  # each has `rows(chosen)`, which gives its results one by one
    "common": "simnet.benches.common",
    "table": "simnet.benches.table",
    "time": "simnet.benches.time",
    "values": "simnet.benches.values",
    "pairwise": "simnet.benches.pairwise",
    "kernels": "simnet.benches.kernels",
    "compressors": "simnet.benches.compressors",
    "estimators": "simnet.benches.estimators",
    "scalings": "simnet.benches.scalings",
    "optex": "simnet.benches.optex",
    "bilevel": "simnet.benches.bilevel",
    "network": "simnet.benches.network",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; `arguments` as on the command line."""
    parser = argparse.ArgumentParser(
        prog="simnet bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("--nodes", type=int, nargs="*", default=[64, 256, 1024], help="sizes, except of 'time'")
    parser.add_argument("--features", type=int, default=64, help="of a row in the common job; 64: digits")
    parser.add_argument("--hidden", type=int, default=32, help="width of the hidden layer in the common job")
    parser.add_argument("--rounds", type=int, default=100, help="of the common job")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats; medians are printed")
    parser.add_argument("--device", default="cpu", help="where the tensors are, except of 'time'")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of tables")
    chosen = parser.parse_args(arguments)
    for name, module in PARTS.items():
        if chosen.part in ("all", name):
            for row in importlib.import_module(module).rows(chosen):
                sys.stdout.write((json.dumps(row) if chosen.json else _line(row)) + "\n")
                sys.stdout.flush()


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
