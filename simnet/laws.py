"""Laws by which hosts come and go: `Renewal` (Poisson and Weibull) and `Cycle` (days and nights, files that wrap).

A law gives one block of absences after another, each a function of (seed, host, block) alone. Only exactly rounded
operations turn draws into times.

    times there, and away    mean x w(E, k) / Gamma(1 + 1/k),  w(E, k) = E^(1/k),  E ~ Exp(1)

k is the shape: 1 gives exponential times (a Poisson process), below 1 many short ones and a few long, above 1 even
ones.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from simnet import streams

INF = float("inf")
_BLOCK = 32  # intervals of one host drawn at a time

Interval = tuple[float, float]


class Law(Protocol):
    """When a host is away."""

    @property
    def until_s(self) -> float:
        """Nobody departs after this moment."""

    def block(self, seed: int, host: int, block: int, now: float) -> tuple[list[Interval], float]:
        """A block of absences in order, those after `now`, and the moment up to which they are known now; infinite
        where there are no more. One may begin where the one before ends.
        """


class Renewal(NamedTuple):
    """Times there, of mean `every_s`, and away, of mean `for_s`, by turns, each with its Weibull shape."""

    every_s: float
    for_s: float
    until_s: float = INF
    shape: float = 1.0
    shape_away: float = 1.0

    def block(self, seed: int, host: int, block: int, now: float) -> tuple[list[Interval], float]:
        keys = streams.keys(streams.key(seed, "absence"), np.array([host]))
        spans = -streams.exact_log(1.0 - streams.uniform(keys, 2 * _BLOCK, start=block * 2 * _BLOCK)[0])
        there_B, gone_B = (weibull(spans[k::2], shape) for k, shape in enumerate((self.shape, self.shape_away)))
        out: list[Interval] = []
        for there, gone in zip(there_B.tolist(), gone_B.tolist(), strict=True):
            start = now + self.every_s * there
            if start > self.until_s:
                return out, INF
            now = start + self.for_s * gone
            out.append((start, now))
        return out, now


class Cycle(NamedTuple):
    """The same intervals again and again; each begins within the first period, and the last may reach into the next."""

    intervals: tuple[Interval, ...]
    period_s: float
    until_s: float = INF

    def block(self, seed: int, host: int, block: int, now: float) -> tuple[list[Interval], float]:
        shift, until = block * self.period_s, self.until_s
        before = [(0.0, end - self.period_s) for _, end in self.intervals if end > self.period_s and not block]
        out = before + [(start + shift, end + shift) for start, end in self.intervals if start + shift <= until]
        return out, shift + self.period_s


def day_and_night(period_s: float, share: float, phase_s: float | None, until_s: float, seed: int, host: int) -> Cycle:
    """Away for a share of each period, from `phase_s` on; None draws it for this host, uniformly over a period."""
    if phase_s is None:
        keys = streams.keys(streams.key(seed, "phase"), np.array([host]))
        phase_s = float(streams.uniform(keys, 1)[0, 0]) * period_s
    return Cycle(((phase_s, phase_s + share * period_s),), period_s, until_s)


def weibull(exponential_B: np.ndarray, shape: float) -> np.ndarray:
    """Weibull numbers of mean 1 from exponential ones of mean 1, float64 (B,); shape 0.1 to 20."""
    if shape == 1.0:
        return exponential_B
    powers = streams.exact_exp(streams.exact_log(np.maximum(exponential_B, 2.0**-60)) / shape)
    return powers / exact_gamma(1.0 + 1.0 / shape)


def exact_gamma(x: float) -> float:
    """Gamma(x) for x in [1, 20] from + - * / alone: Stirling's series from 15 on, and below by recurrence (2e-14)."""
    below = 1.0
    while x < 15.0:
        below, x = below * x, x + 1.0
    log_x = float(streams.exact_log(np.array([x]))[0])
    inverse = 1.0 / (x * x)
    tail = inverse * (1.0 / 1260 - inverse * (1.0 / 1680 - inverse / 1188))
    series = (1.0 / 12 - inverse * (1.0 / 360 - tail)) / x
    logarithm = (x - 0.5) * log_x - x + 0.9189385332046727 + series
    return float(streams.exact_exp(np.array([logarithm]))[0]) / below
