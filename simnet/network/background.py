"""Background traffic: flows with their own schedule, given or drawn, that share links with a run's messages.

A stream's k-th flow begins at its k-th moment. Moments and pairs of hosts follow from (seed, stream, k) alone, and only
exactly rounded operations make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simnet import streams

_BLOCK = 32  # moments drawn at a time


@dataclass(frozen=True)
class Stream:
    """Flows of one size: at given moments, or every so often on the mean."""

    number: int  # of the stream in its scenario
    size_bytes: float
    ends: tuple[int, int] | None  # the network's numbers of source and target; None: each flow draws its pair of hosts
    at_s: tuple[float, ...] = ()
    every_s: float = 0.0  # mean time from one flow to the next
    regular: bool = False  # exactly every so often; else by exponential gaps
    start_s: float = 0.0
    until_s: float = float("inf")  # no flow begins later

    def moments(self, seed: int) -> Iterator[float]:
        """When the flows begin, ascending."""
        if self.at_s:
            yield from self.at_s
            return
        for moment in self._regular() if self.regular else self._drawn(seed):
            if moment > self.until_s:
                return
            yield moment

    def _regular(self) -> Iterator[float]:
        k = 0
        while True:
            yield self.start_s + k * self.every_s
            k += 1

    def _drawn(self, seed: int) -> Iterator[float]:
        key, now, block = streams.key(seed, "background", self.number), self.start_s, 0
        while True:
            gaps = -streams.exact_log(1.0 - streams.uniform1(key, _BLOCK, start=block * _BLOCK))
            for gap in gaps.tolist():
                now += self.every_s * gap
                yield now
            block += 1

    def pair(self, seed: int, k: int, sites: np.ndarray) -> tuple[int, int]:
        """Source and target of flow k: the stream's own, or two of `sites`, all pairs alike."""
        if self.ends is not None:
            return self.ends
        u, v = streams.uniform1(streams.key(seed, "background pair", self.number), 2, start=2 * k).tolist()
        source, other = int(u * len(sites)), int(v * (len(sites) - 1))
        return int(sites[source]), int(sites[other + (other >= source)])
