"""What one call of an oracle takes on this device: alone, after a warm-up, the median of repeated calls.

The call is that of the one-by-one executor, one node's oracle by automatic differentiation, on the data of nodes in
turn and each on a state of its own, so that what a call finds in the cache is what it would find in a run.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import torch

from simnet import streams
from simnet.book import Book
from simnet.costs import WIDE, Timing
from simnet.device_profile import Operators
from simnet.node import Batch
from simnet.valueplane.operators import operators
from simnet.valueplane.oracles import Oracles
from simnet.valueplane.stopwatch import Stopwatch

WARM_UP, FEWEST, MOST = 5, 15, 61  # calls
_LONG_ENOUGH_S = 0.2  # quick calls are repeated for so long
_NODES, _STATES_BYTES = 8, 1 << 29  # nodes taken in turn, and what their states may hold together


class Meter:
    """Times calls of the oracles of one run."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        self.book, self.device = book, device
        self.oracles = Oracles(book, device, dtype)
        self.dtype = dtype

    def __call__(self, oracle: str, like: np.ndarray, rows: int | None) -> Timing:
        """The median of calls at the hosts `like`, which are all alike."""
        fits = max(1, _STATES_BYTES // max(1, 2 * self.book.problem.dim * self.dtype.itemsize))
        calls = [self._call(oracle, int(host), rows) for host in like[: min(_NODES, fits)]]
        return timed(calls, self.device)

    def operators(self, oracle: str, host: int, rows: int | None) -> Operators:
        """The operators of one call."""
        return operators(oracle, self._call(oracle, host, rows))

    def _call(self, oracle: str, host: int, rows: int | None) -> Callable[[], torch.Tensor]:
        book = self.book
        x = book.problem.initial(next(iter(book.problem.variables()))).clone()
        key = streams.key(book.seed, "meter", host)
        ticket = None if rows is None or not book.samples_n.any() else Batch(key, rows)
        operands = [x, torch.ones_like(x)] if oracle == "hvp" else [x]
        member = 0
        return lambda: self.oracles.single((oracle, ticket, None, key), operands, host, member)


def timed(calls: list[Callable[[], torch.Tensor]], device: torch.device) -> Timing:
    """The median over repeated calls, taken in turn; begun again, up to twice, where they spread too much."""
    best: Timing | None = None
    for _ in range(3):
        found = _timed(calls, device)
        best = found if best is None or found.spread < best.spread else best
        if best.spread <= WIDE:
            break
    assert best is not None
    return best


def _timed(calls: list[Callable[[], torch.Tensor]], device: torch.device) -> Timing:
    for k in range(WARM_UP):
        calls[k % len(calls)]()
    seconds: list[float] = []
    collecting = gc.isenabled()
    gc.disable()  # as in a run
    try:
        while len(seconds) < FEWEST or (sum(seconds) < _LONG_ENOUGH_S and len(seconds) < MOST):
            watch = Stopwatch(device)
            mark = watch.start()
            calls[len(seconds) % len(calls)]()
            watch.stop("call", mark)
            seconds.append(watch.seconds("call"))
    finally:
        if collecting:
            gc.enable()
            gc.collect(0)
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return Timing(median, (high - low) / 2 / median, len(seconds))


def product_flop_per_s(device: torch.device, dtype: torch.dtype, side: int = 256) -> float:
    """FLOP/s of a square matrix product: the rate of arithmetic that is no oracle's."""
    a = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / timed([lambda: a @ a], device).median_s
