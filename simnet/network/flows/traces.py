"""Links that change with time: values that are constant from each change to the next.

Files, told apart by their columns:

    one     Mahimahi: a line for each packet of 1500 bytes that may pass, in ms; begins anew at the last line's time
    two     seconds and Mbit/s, parted by blanks or a comma: a rate holds until the next line's time
    named   a first line such as `time_s, bandwidth_mbit_per_s, latency_ms, loss`, which says what each column is and in
            which unit (see COLUMNS): the time, and one or more of bandwidth, latency and loss

Lines that begin with `#`, and a first line of other names over one or two columns, are passed over. The clock begins at
the first line, for Mahimahi at 0.

Legend: K changes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np

from simnet.errors import DataError, nearest

PACKET_BYTES = 1500.0  # what one line of a Mahimahi trace lets through
AtEnd = Literal["wrap", "hold"]


# names of columns: the quantity, and its SI value per unit; a bandwidth may also be `mbit_per_s` and the like
_RATES = {"bytes_per_s": 1.0, "bit_per_s": 0.125, "kbit_per_s": 125.0, "mbit_per_s": 125e3, "gbit_per_s": 125e6}
COLUMNS = {
    "time_s": ("time", 1.0), "time_ms": ("time", 1e-3),
    **{f"bandwidth_{unit}": ("bandwidth", factor) for unit, factor in _RATES.items()},
    **{unit: ("bandwidth", factor) for unit, factor in _RATES.items()},
    "latency_s": ("latency", 1.0), "latency_ms": ("latency", 1e-3), "latency_us": ("latency", 1e-6),
    "loss": ("loss", 1.0), "loss_percent": ("loss", 0.01),
}  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """A value over time, at least 0. Raises DataError for times out of order and values below 0."""

    times_s: np.ndarray  # float64 (K,): from when on each value holds; ascending, from 0 or later
    values: np.ndarray  # float64 (K,)
    before: float  # the value until the first of the times
    period_s: float = math.inf  # the changes come again this much later, and again; infinity: the last value stays

    what: ClassVar[tuple[str, str]] = ("values", "")  # what the values are, and their unit

    def __post_init__(self) -> None:
        times, values, (what, unit) = self.times_s, self.values, self.what
        if not len(times) or len(times) != len(values):
            raise DataError(f"a trace needs at least one time, and a {what[:-1]} for each")
        for i in range(len(times)):
            if not 0 <= times[i] < math.inf or (i and times[i] <= times[i - 1]):
                raise DataError(f"a trace's times must rise from 0 or later; entry {i + 1} is {times[i]:g} s")
            if not 0 <= values[i] < math.inf:
                raise DataError(f"a trace's {what} must be at least 0; entry {i + 1} is {values[i]:g}{unit}")
        if not 0 <= self.before < math.inf:
            raise DataError(f"a trace's first {what[:-1]} must be at least 0, not {self.before:g}{unit}")
        if not self.period_s > times[-1] - times[0]:
            raise DataError(
                f"a trace of {times[-1] - times[0]:g} s from its first change to its last cannot repeat after "
                f"{self.period_s:g} s"
            )

    @cached_property
    def _lists(self) -> tuple[list[float], list[float]]:
        return self.times_s.tolist(), self.values.tolist()

    def at(self, t: float) -> float:
        """The value from time t on."""
        return self.piece(t)[0]

    def piece(self, t: float) -> tuple[float, float]:
        """The value at time t, and until when it surely stays: later than t."""
        times, values = self._lists
        if t < times[0]:
            return self.before, times[0]
        turn = 0
        if self.period_s < math.inf:
            turn = math.floor((t - times[0]) / self.period_s)
            turn -= self._change(0, turn) > t
            turn += self._change(0, turn + 1) <= t
        i = max(bisect_right(times, t - turn * self.period_s if turn else t) - 1, 0)
        while i and self._change(i, turn) > t:  # the last bit of a time that comes again
            i -= 1
        while i + 1 < len(times) and self._change(i + 1, turn) <= t:
            i += 1
        if i + 1 < len(times):
            return values[i], self._change(i + 1, turn)
        return values[i], self._change(0, turn + 1) if self.period_s < math.inf else math.inf

    def _change(self, i: int, turn: int) -> float:
        return self._lists[0][i] + (turn * self.period_s if turn else 0.0)


@dataclass(frozen=True)
class Trace(Steps):
    """A rate over time in bytes/s. Raises DataError as `Steps` does, and for a rate that is always 0."""

    what: ClassVar[tuple[str, str]] = ("rates", " bytes/s")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rates.any() and (self.period_s < math.inf or not self.before or not self.times_s[0]):
            raise DataError("a trace whose rate is always 0 lets nothing through")

    @property
    def rates(self) -> np.ndarray:
        """Bytes/s, float64 (K,)."""
        return self.values

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


Made = TypeVar("Made", bound=Steps)


@dataclass(frozen=True)
class Changes:
    """What of a link changes with time; None for what stays."""

    bandwidth: Trace | None = None  # bytes/s
    latency: Steps | None = None  # s
    loss: Steps | None = None  # a probability


def read_changes(file: Path, at_end: AtEnd = "wrap", bin_s: float = 0.1) -> Changes:
    """The trace in a file; `wrap`: it begins anew at its end, `hold`: its last values stay.

    A Mahimahi file's packets are counted in bins of `bin_s` seconds. Columns that wrap hold their last values as long
    as those before. Raises DataError with the line for what is no trace.
    """
    lines = _lines(file)
    try:
        if lines and "time" in {COLUMNS[name][0] for name in _words(lines[0][1]) if name in COLUMNS}:
            return _named(lines, at_end)
        rows = _rows(lines)
        if len(rows[0]) == 1:
            return Changes(_packets(rows, at_end, bin_s))
        table = np.array(rows)
        return Changes(_steps(Trace, table[:, 0], table[:, 1] * 125e3, at_end))
    except DataError as error:
        said = str(error)
        raise DataError(f"{file.name}{said if said.startswith(', line') else ': ' + said}") from None


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines that say something, each with its number."""
    if not file.is_file():
        beside = [other.name for other in file.parent.glob("*")] if file.parent.is_dir() else []
        raise DataError(f"{file}: there is no such file{nearest(file.name, beside)}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a trace: {error}") from None
    said = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in said if line.strip(" ,")]


def _words(line: str) -> list[str]:
    """The entries of a line, parted by commas or blanks; between two commas there may be an empty one."""
    return [word.strip() for word in line.split(",")] if "," in line else line.split()


def _named(lines: list[tuple[int, str]], at_end: AtEnd) -> Changes:
    """Columns whose names say what they are."""
    names = _words(lines[0][1])
    for name in names:
        if name not in COLUMNS:
            close = nearest(name, COLUMNS) or f"; there are {', '.join(name for name in COLUMNS if name not in _RATES)}"
            raise DataError(f", line {lines[0][0]}: there is no column {name!r}{close}")
    kinds = [COLUMNS[name][0] for name in names]
    if len(set(kinds)) < len(kinds):
        twice = next(kind for kind in kinds if kinds.count(kind) > 1)
        raise DataError(f", line {lines[0][0]}: two columns of {twice}: keep one")
    rows: list[list[float]] = []
    for number, line in lines[1:]:
        try:
            row = [float(word) * COLUMNS[name][1] for name, word in zip(names, _words(line), strict=True)]
        except ValueError:
            raise DataError(f", line {number}: {line!r}: needs a number for each of {', '.join(names)}") from None
        for name, kind, value in zip(names, kinds, row, strict=True):
            if not 0 <= value < math.inf or (kind == "loss" and value > 1):
                most = " and at most 1" if kind == "loss" else ""
                raise DataError(f", line {number}: {name} = {value / COLUMNS[name][1]:g}: must be at least 0{most}")
        if rows and row[kinds.index("time")] <= rows[-1][kinds.index("time")]:
            raise DataError(f", line {number}: its time is out of order: it must be later than in the line before")
        rows.append(row)
    if not rows:
        raise DataError("holds no line of numbers: an empty trace")
    if len(kinds) == 1:
        raise DataError(f", line {lines[0][0]}: names no bandwidth, latency or loss beside the time")
    columns = dict(zip(kinds, np.array(rows).T, strict=True))
    times = columns.pop("time")
    made = {kind: _steps(Trace if kind == "bandwidth" else Steps, times, v, at_end) for kind, v in columns.items()}
    return Changes(**made)  # type: ignore[arg-type]


def _rows(lines: list[tuple[int, str]]) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    named = False
    for number, line in lines:
        words = line.replace(",", " ").split()
        try:
            row = tuple(float(word) for word in words)
        except ValueError:
            if rows or named:
                cure = "; more columns need a line before them with their names, such as time_s,bandwidth_mbit_per_s"
                raise DataError(
                    f", line {number}: {line!r} is no line of numbers{cure if len(words) > 2 else ''}"
                ) from None
            named = True
            continue
        if len(row) > 2 or (rows and len(row) != len(rows[0])) or not all(map(math.isfinite, row)):
            raise DataError(
                f", line {number}: {line!r}: a trace has one column (ms, Mahimahi) or two "
                f"(seconds, Mbit/s), the same in every line"
            )
        if rows and (row[0] < rows[-1][0] or (len(row) == 2 and row[0] == rows[-1][0])):
            raise DataError(f", line {number}: time {row[0]:g} is out of order, after {rows[-1][0]:g}")
        if min(row) < 0:
            raise DataError(f", line {number}: {min(row):g} is below 0")
        rows.append(row)
    if not rows:
        raise DataError("holds no line of numbers: an empty trace")
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


def _steps(made: type[Made], times: np.ndarray, values: np.ndarray, at_end: AtEnd) -> Made:
    """A column over its times; at its end it holds the last value as long as the one before, or for ever."""
    times, period = times - times[0], math.inf
    if at_end == "wrap":
        if len(times) < 2:
            raise DataError("a trace of one line cannot wrap: say at_end: hold")
        period = 2 * float(times[-1]) - float(times[-2])
    return made(times, values, float(values[0]), period)
