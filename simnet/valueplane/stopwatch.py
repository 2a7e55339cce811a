"""Host seconds of tensor work: the second clock of a record, beside simulated time.

On a CPU with one thread the seconds are those of this thread on the processor, so other programs do not count; with
more threads they are those of the clock. On a GPU they are the device's own, between two CUDA events, and asking for
them waits for the device: do so once per row of the record.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_MOST_PENDING = 4096  # pairs of events that the device has not been asked about


class Stopwatch:
    """Seconds by kind of work: `gradient`, `loss`, `hvp`, and `all` for tensor work as a whole."""

    def __init__(self, device: torch.device) -> None:
        self._seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._device, self._on_gpu = device, device.type == "cuda"
        self._pending: list[tuple[str, Any, Any]] = []
        self._clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        self._running = False

    def start(self) -> Any:
        """A mark to give to `stop`."""
        if not self._on_gpu:
            return self._clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def stop(self, kind: str, mark: Any, calls: int = 1) -> None:
        """Enter the time since `mark` under a kind of work."""
        self.calls[kind] = self.calls.get(kind, 0) + calls
        if not self._on_gpu:
            self._seconds[kind] = self._seconds.get(kind, 0.0) + self._clock() - mark
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._pending.append((kind, mark, event))
        if len(self._pending) > _MOST_PENDING:
            self._settle()

    def forget(self, kind: str) -> None:
        """Start again from nothing for one kind: what was entered so far was a warm-up."""
        self._settle()
        self._seconds.pop(kind, None)
        self.calls.pop(kind, None)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Enter what is done inside as tensor work; once where it is nested."""
        if self._running:
            yield
            return
        self._running, mark = True, self.start()
        try:
            yield
        finally:
            self._running = False
            self.stop("all", mark)

    def seconds(self, kind: str = "all") -> float:
        """Seconds of one kind so far."""
        self._settle()
        return self._seconds.get(kind, 0.0)

    def by_oracle(self) -> dict[str, float]:
        """Seconds of each oracle so far."""
        self._settle()
        return {kind: s for kind, s in sorted(self._seconds.items()) if kind != "all"}

    def peak_bytes(self) -> int | None:
        """The most bytes that tensors took on a GPU so far; None on a CPU, where nobody counts them."""
        return torch.cuda.max_memory_allocated(self._device) if self._on_gpu else None

    def _settle(self) -> None:
        if self._pending:
            self._pending[-1][2].synchronize()
            for kind, begin, end in self._pending:
                self._seconds[kind] = self._seconds.get(kind, 0.0) + begin.elapsed_time(end) / 1000
            self._pending.clear()
