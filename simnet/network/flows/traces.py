"""Bandwidth that changes with time: a rate that is constant from each change to the next.

Files, told apart by their columns:

    one     Mahimahi: a line for each packet of 1500 bytes that may pass, in ms; begins anew at the last line's time
    two     seconds and Mbit/s, parted by blanks or a comma: a rate holds until the next line's time

Lines that begin with `#`, and a first line of column names, are passed over. The clock begins at the first line of two
columns, at 0 for Mahimahi.

Legend: K changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simnet.errors import DataError

PACKET_BYTES = 1500.0  # what one line of a Mahimahi trace lets through
AtEnd = Literal["wrap", "hold"]


@dataclass(frozen=True)
class Trace:
    """A rate over time. Raises DataError for times out of order, rates below 0, or a rate that is 0 for ever."""

    times_s: np.ndarray  # float64 (K,): from when on each rate holds; ascending, from 0 or later
    rates: np.ndarray  # float64 (K,): bytes/s, at least 0
    before: float  # bytes/s until the first of the times
    period_s: float = math.inf  # the changes come again this much later, and again; infinity: the last rate stays

    def __post_init__(self) -> None:
        times, rates = self.times_s, self.rates
        if not len(times) or len(times) != len(rates):
            raise DataError("a trace needs at least one time, and a rate for each")
        for i in range(len(times)):
            if not 0 <= times[i] < math.inf or (i and times[i] <= times[i - 1]):
                raise DataError(f"a trace's times must rise from 0 or later; entry {i + 1} is {times[i]:g} s")
            if not 0 <= rates[i] < math.inf:
                raise DataError(f"a trace's rates must be at least 0; entry {i + 1} is {rates[i]:g} bytes/s")
        if not 0 <= self.before < math.inf:
            raise DataError(f"a trace's first rate must be at least 0, not {self.before:g} bytes/s")
        if not self.period_s > times[-1] - times[0]:
            raise DataError(
                f"a trace of {times[-1] - times[0]:g} s from its first change to its last cannot repeat after "
                f"{self.period_s:g} s"
            )
        if not rates.any() and (self.period_s < math.inf or not self.before or not times[0]):
            raise DataError("a trace whose rate is always 0 lets nothing through")

    def at(self, t: float) -> float:
        """The rate from time t on, in bytes/s."""
        if t < self.times_s[0]:
            return self.before
        if self.period_s < math.inf:
            turn = math.floor((t - self.times_s[0]) / self.period_s)
            turn -= self._change(0, turn) > t
            turn += self._change(0, turn + 1) <= t
            i = int(np.searchsorted(self.times_s + turn * self.period_s, t, side="right")) - 1
        else:
            i = int(np.searchsorted(self.times_s, t, side="right")) - 1
        return float(self.rates[i])

    def changes(self) -> Iterator[tuple[float, float]]:
        """When the rate changes after time 0, and to what: without end if the trace repeats and is not constant."""
        last, steady = self.at(0.0), bool((self.rates == self.rates[0]).all())
        turn = 0
        while True:
            for i in range(len(self.times_s)):
                t, rate = self._change(i, turn), float(self.rates[i])
                if t > 0 and rate != last:
                    yield t, rate
                    last = rate
            turn += 1
            if self.period_s == math.inf or steady:
                return

    def bytes_until(self, t: float) -> float:
        """What a link of this rate can carry from time 0 to time t."""
        first = min(t, float(self.times_s[0]))
        total, rest = self.before * first, t - first
        if rest <= 0:
            return total
        ends = np.append(self.times_s[1:], self.times_s[0] + self.period_s) - self.times_s[0]
        starts = self.times_s - self.times_s[0]
        if self.period_s < math.inf:
            turns = math.floor(rest / self.period_s)
            total += turns * float(self.rates @ (ends - starts))
            rest -= turns * self.period_s
        return total + float(self.rates @ (np.minimum(ends, rest) - np.minimum(starts, rest)))

    @property
    def mean(self) -> float:
        """Bytes/s over one period, or from the first change to the last where it does not repeat."""
        if self.period_s < math.inf:
            return self.bytes_until(self.times_s[0] + self.period_s) / (self.times_s[0] + self.period_s)
        span = float(self.times_s[-1])
        return self.bytes_until(span) / span if span and self.bytes_until(span) else float(self.rates[-1])

    def _change(self, i: int, turn: int) -> float:
        return float(self.times_s[i]) + (turn * self.period_s if turn else 0.0)


def read_trace(file: Path, at_end: AtEnd = "wrap", bin_s: float = 0.1) -> Trace:
    """The trace in a file; `wrap`: it begins anew at its end, `hold`: its last rate stays.

    A Mahimahi file's packets are counted in bins of `bin_s` seconds. Two columns that wrap hold their last rate as long
    as the one before. Raises DataError with the line for what is no trace.
    """
    rows = _rows(file)
    try:
        return _packets(rows, at_end, bin_s) if len(rows[0]) == 1 else _table(rows, at_end)
    except DataError as error:
        raise DataError(f"{file.name}: {error}") from None


def _rows(file: Path) -> list[tuple[float, ...]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a trace: {error}") from None
    rows: list[tuple[float, ...]] = []
    named = False
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            row = tuple(float(word) for word in words)
        except ValueError:
            if rows or named:
                raise DataError(f"{file.name}, line {number}: {line.strip()!r} is no line of numbers") from None
            named = True
            continue
        if len(row) > 2 or (rows and len(row) != len(rows[0])) or not all(map(math.isfinite, row)):
            raise DataError(
                f"{file.name}, line {number}: {line.strip()!r}: a trace has one column (ms, Mahimahi) or two "
                f"(seconds, Mbit/s), the same in every line"
            )
        if rows and (row[0] < rows[-1][0] or (len(row) == 2 and row[0] == rows[-1][0])):
            raise DataError(f"{file.name}, line {number}: time {row[0]:g} is out of order, after {rows[-1][0]:g}")
        if min(row) < 0:
            raise DataError(f"{file.name}, line {number}: {min(row):g} is below 0")
        rows.append(row)
    if not rows:
        raise DataError(f"{file.name}: holds no line of numbers: an empty trace")
    return rows


def _packets(rows: list[tuple[float, ...]], at_end: AtEnd, bin_s: float) -> Trace:
    """Packets that may pass, at times in ms: those of (a, b] count for the bin from a to b."""
    if not bin_s > 0:
        raise DataError(f"bins of {bin_s:g} s: must be above 0 s")
    when_s = np.array([row[0] for row in rows]) / 1000
    end = float(when_s[-1])
    if end == 0:
        raise DataError("all packets pass at time 0: a Mahimahi trace ends later than it begins")
    bins = math.ceil(end / bin_s - 1e-9)
    edges = np.append(np.arange(bins) * bin_s, end)
    counted = np.bincount(np.clip(np.searchsorted(edges, when_s - 1e-9) - 1, 0, bins - 1), minlength=bins)
    rates = counted * PACKET_BYTES / np.diff(edges)
    return Trace(edges[:-1], rates, float(rates[0]), end if at_end == "wrap" else math.inf)


def _table(rows: list[tuple[float, ...]], at_end: AtEnd) -> Trace:
    table = np.array(rows)
    times, rates = table[:, 0] - table[0, 0], table[:, 1] * 125_000.0
    period = math.inf
    if at_end == "wrap":
        if len(times) < 2:
            raise DataError("a trace of one line cannot wrap: say at_end: hold")
        period = 2 * float(times[-1]) - float(times[-2])
    return Trace(times, rates, float(rates[0]), period)
