"""What one call of an oracle takes on this device: alone, after a warm-up, the median of repeated turns.

The call is that of the one-by-one executor, one node's oracle by automatic differentiation, on the data of nodes in
turn and each on a state of its own; between two calls a step is taken and a few states are averaged, so that what a
call finds in the cache is what it would find in a run. A sample is the mean over a turn of the nodes, so that the slow
calls that a run has now and then count as they do there, and the median is over turns.
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

WARM_UP, FEWEST, MOST = 5, 15, 61  # calls; turns
_LONG_ENOUGH_S = 0.2  # quick calls are repeated for so long
_TURN_S = 0.1  # a turn takes no longer, or is one call
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
        hosts = [int(host) for host in like[: min(_NODES, fits)]]
        states = [self._state() for _ in range(max(len(hosts), min(_NODES, fits)))]
        calls = [self._call(oracle, host, rows, states, k) for k, host in enumerate(hosts)]
        turn = 0

        def between(answer: torch.Tensor) -> None:
            nonlocal turn
            k, turn = turn % len(states), turn + 1
            x = states[k] - 1e-3 * answer if answer.shape == states[k].shape else states[k]
            states[k] = x * 0.5 + states[k - 1] * 0.25 + states[k - 2] * 0.25

        return timed(calls, self.device, between)

    def _state(self) -> torch.Tensor:
        problem = self.book.problem
        return problem.initial(next(iter(problem.variables()))).clone()

    def operators(self, oracle: str, host: int, rows: int | None) -> Operators:
        """The operators of one call."""
        like = self.book.problem.oracles()[oracle].like
        return operators(like, self._call(oracle, host, rows, [self._state()], 0))

    def _call(
        self, oracle: str, host: int, rows: int | None, states: list[torch.Tensor], k: int
    ) -> Callable[[], torch.Tensor]:
        """One call at a host, at the state that stands in `states[k]` by then."""
        book, member = self.book, 0
        key = streams.key(book.seed, "meter", host)
        ticket = None if rows is None or not book.samples_n.any() else Batch(key, rows)
        rest = [torch.ones(shape, device=self.device, dtype=self.dtype)
                for shape in book.problem.oracles()[oracle].takes[1:]]  # fmt: skip

        def call() -> torch.Tensor:
            operands = [states[k], *rest]
            return self.oracles.single((oracle, ticket, None, key), operands, host, member)

        return call


def _nothing(answer: torch.Tensor) -> None:
    pass


def timed(
    calls: list[Callable[[], torch.Tensor]],
    device: torch.device,
    between: Callable[[torch.Tensor], None] = _nothing,
) -> Timing:
    """The median over turns of the mean of their calls, `between` two calls what is not timed; begun again, up to
    twice, where they spread too much.
    """
    best: Timing | None = None
    for _ in range(3):
        found = _timed(calls, device, between)
        best = found if best is None or found.spread < best.spread else best
        if best.spread <= WIDE:
            break
    assert best is not None
    return best


def _timed(
    calls: list[Callable[[], torch.Tensor]], device: torch.device, between: Callable[[torch.Tensor], None]
) -> Timing:
    def measured(k: int) -> float:
        watch = Stopwatch(device)
        mark = watch.start()
        answer = calls[k % len(calls)]()
        watch.stop("call", mark)
        between(answer)
        return watch.seconds("call")

    warm = [measured(k) for k in range(WARM_UP)]
    turn = max(1, min(len(calls), int(_TURN_S / max(min(warm), 1e-9))))
    seconds: list[float] = []
    collecting = gc.isenabled()
    gc.disable()  # as in a run
    try:
        while len(seconds) < FEWEST or (turn * sum(seconds) < _LONG_ENOUGH_S and len(seconds) < MOST):
            first = turn * len(seconds)
            seconds.append(sum(measured(first + k) for k in range(turn)) / turn)
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
