"""How a measurement is taken: contenders in turns, in one process, medians, and what nobody evaluates."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from simnet.recording import Recording
from simnet.session import NoValues

Timed = Callable[[], float]  # does the work once and gives its seconds
Row = dict[str, Any]


class Stopwatch:
    """Seconds of a block: of the CPU, or where the tensors are on a GPU, from its first kernel to its last."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device, self.seconds = device, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the block, with the cyclic garbage collector off."""
        gc.disable()
        on_gpu = str(self.device).startswith("cuda")
        wait(self.device)
        if on_gpu:
            import torch

            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
        started = time.process_time()
        yield
        if on_gpu:
            last.record()
            wait(self.device)
            self.seconds = first.elapsed_time(last) / 1e3
        else:
            self.seconds = time.process_time() - started
        gc.enable()


def wait(device: Any) -> None:
    """Until the device has done all that it was given."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def interleaved(contenders: dict[str, Timed], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender, in turns, after one unmeasured turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, work in contenders.items():
            gc.collect()
            spent = work()
            if turn:
                seconds[name].append(spent)
    return seconds


def repeated(work: Callable[[], Any], calls: int, device: Any) -> Timed:
    """So many calls of `work` as one measurement."""

    def once() -> float:
        watch = Stopwatch(device)
        with watch.running():
            for _ in range(calls):
                work()
        return watch.seconds

    return once


def ratio(top: list[float], bottom: list[float]) -> float:
    """The median of the ratios turn by turn, which a drift of the machine's speed leaves alone."""
    return statistics.median(a / b for a, b in zip(top, bottom, strict=True))


class Keep:
    """Hooks that evaluate nothing: they keep the last report's x and the clock that ran until then."""

    def __init__(self, values: Any, rounds: int) -> None:
        self.values, self.rounds = values, rounds
        self.reporting: list[Recording] = []
        self.x: Any = None
        self.row = -1
        self.row_at = float("inf")

    def row_due(self, reports_n: Sequence[int]) -> bool:
        return False

    def left(self, recording: Recording) -> bool:
        return False

    def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
        report = recording.reports[index]
        if index + 1 == self.rounds and not isinstance(self.values, NoValues):
            self.values.catch_up(recording, report.mark)
            self.x = self.values.value(recording, report.values["x"].id)
        report.values = {}
        return False
