"""When hosts are away or slow: data, known before a run or drawn from counters, never a process.

While a host is away its computing pauses and it begins nothing; what comes waits for its return, or is lost, by the
network's policy; what it had handed to a port still goes out. While it is slow, work takes `factor` times as long.

Intervals are half open: at `start` a host is away already, at `end` it is back. An infinite end is a host that never
returns. Intervals of one host lie apart. All times come from + - * / and comparisons alone, one form for a single host
and one for many at once, and both give the same bits.

Legend: n hosts, Q pairs (host, time), K intervals of all hosts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simnet.laws import INF, Interval, Law


class Spells(NamedTuple):
    """Intervals of all hosts in compressed rows: those of host i are at ptr[i] up to ptr[i + 1], ascending. One more
    stands at the end and never comes, so that an index one too far may be read.
    """

    ptr: np.ndarray  # int64 (n + 1,)
    start: np.ndarray  # float64 (K + 1,)
    end: np.ndarray
    factor: np.ndarray  # of work done meanwhile


class Presence:
    """Who is away, and who is slow, when.

    Args:
        n: hosts.
        away: host -> [(start, end), ...] in seconds, ascending and apart.
        drawn: host -> the law of its absences; a host has either this or `away`.
        slow: host -> [(start, end, factor), ...], ascending and apart; they may overlap absences.
        seed: of the drawn ones; a host's intervals depend on (seed, host) alone.
    """

    def __init__(
        self,
        n: int,
        away: Mapping[int, Sequence[Interval]] | None = None,
        drawn: Mapping[int, Law] | None = None,
        slow: Mapping[int, Sequence[tuple[float, float, float]]] | None = None,
        seed: int = 0,
    ) -> None:
        self.n, self._law, self._seed = n, dict(drawn or {}), seed
        self._starts: dict[int, list[float]] = {}
        self._ends: dict[int, list[float]] = {}
        for host, intervals in (away or {}).items():
            joined = list(_joined(intervals))
            self._starts[host], self._ends[host] = [a for a, _ in joined], [b for _, b in joined]
        for host in self._law:
            self._starts[host], self._ends[host] = [], []
        self._blocks = dict.fromkeys(self._law, 0)
        self._over = dict.fromkeys(self._law, 0.0)  # the end of the last interval drawn
        self._slow = {host: tuple(list(column) for column in zip(*each, strict=True))
                      for host, each in (slow or {}).items() if each}  # fmt: skip
        self.has_n = np.zeros(n, bool)
        self.has_n[[*self._starts, *self._slow]] = True
        self._any = bool(self.has_n.any())
        self.left_s = np.full(n, INF)  # when a host leaves for good
        for host, ends in self._ends.items():
            if ends and ends[-1] == INF:
                self.left_s[host] = self._starts[host][-1]
        self.known_s = INF if not self._law else 0.0  # up to here all intervals are drawn
        self._away: Spells | None = None
        self.slow = _rows(n, {h: list(zip(*each, strict=True)) for h, each in self._slow.items()})

    def __bool__(self) -> bool:
        return self._any

    @property
    def anybody_leaves(self) -> bool:
        """Whether some host is away at some time; slow periods are none."""
        return bool(self._law) or any(self._starts.values())

    # ---- one host --------------------------------------------------------------------------------------------------

    def _until(self, host: int, t: float) -> tuple[list[float], list[float]]:
        """The host's absences, drawn until one begins after t."""
        starts, ends = self._starts[host], self._ends[host]
        if host in self._law:
            while (not starts or starts[-1] <= t) and self._draw(host):
                pass
        return starts, ends

    def _draw(self, host: int) -> bool:
        """Some more absences of a host; False where there are no more."""
        law, block = self._law[host], self._blocks[host]
        if self._over[host] > law.until_s or self._over[host] == INF:
            return False
        self._blocks[host] = block + 1
        starts, ends = self._starts[host], self._ends[host]
        spells, self._over[host] = law.block(self._seed, host, block, self._over[host])
        for start, end in spells:
            if starts and start <= ends[-1]:
                ends[-1] = end
            elif end > start:
                starts.append(start)
                ends.append(end)
        return True

    def back(self, host: int, t: float) -> float:
        """The first moment at or after t at which the host is there; infinite where it never returns."""
        if host not in self._starts or t == INF:
            return t
        starts, ends = self._until(host, t)
        k = bisect_right(starts, t) - 1
        return ends[k] if k >= 0 and t < ends[k] else t

    def away(self, host: int, t: float) -> bool:
        """Whether the host is away at t."""
        return self.back(host, t) > t

    def _leaves(self, host: int, t: float) -> float:
        """When the host, there at t, leaves next."""
        if host not in self._starts:
            return INF
        starts, _ = self._until(host, t)
        k = bisect_right(starts, t)
        return starts[k] if k < len(starts) else INF

    def _pace(self, host: int, t: float) -> tuple[float, float]:
        """How many times as long work takes at t, and until when that holds."""
        if host not in self._slow:
            return 1.0, INF
        starts, ends, factors = self._slow[host]
        k = bisect_right(starts, t)
        if k and t < ends[k - 1]:
            return factors[k - 1], ends[k - 1]
        return 1.0, starts[k] if k < len(starts) else INF

    def work(self, host: int, t: float, seconds: float) -> float:
        """When the host, there at t, has done `seconds` of work and is there; infinite where it never is."""
        while t < INF and self.has_n[host]:
            factor, turn = self._pace(host, t)
            stop, end = min(self._leaves(host, t), turn), t + seconds * factor
            if end <= stop:
                return self.back(host, end)
            seconds = max(0.0, seconds - (stop - t) / factor)
            t = self.back(host, stop)
        return t + seconds

    def pieces(self, host: int, a: float, b: float) -> Iterator[Interval]:
        """The parts of [a, b) in which the host is there."""
        t = self.back(host, a)
        while t < b:
            leaves = self._leaves(host, t)
            yield t, min(leaves, b)
            if leaves >= b:
                return
            t = self.back(host, leaves)

    def there(self, host: int, a: float, b: float) -> float:
        """Seconds of [a, b) in which the host is there."""
        if host not in self._starts:
            return b - a
        total = 0.0
        for start, end in self.pieces(host, a, b):
            total += end - start
        return total

    # ---- many hosts at once ----------------------------------------------------------------------------------------

    def reach(self, t: float) -> Spells:
        """The absences of all hosts, at the least those that begin up to t."""
        if self._away is None or (t > self.known_s and t < INF):
            target = max(t, 2 * self.known_s) if self._law else t
            self.known_s = INF
            for host in self._law:
                starts, _ = self._until(host, target)
                if starts and starts[-1] > target:
                    self.known_s = target
            each = {h: [(a, b, INF) for a, b in zip(s, self._ends[h], strict=True)] for h, s in self._starts.items()}
            self._away = _rows(self.n, each)
        return self._away

    def _reach_all(self, t_Q: np.ndarray) -> Spells:
        finite = t_Q[t_Q < INF]
        return self.reach(float(finite.max()) if len(finite) else 0.0)

    def back_each(self, hosts_Q: np.ndarray, t_Q: np.ndarray) -> np.ndarray:
        """`back` of each pair."""
        out: np.ndarray = t_Q.copy()
        on = np.flatnonzero(self.has_n[hosts_Q])
        if len(on):
            out[on] = self._back(hosts_Q[on], t_Q[on])
        return out

    def _back(self, hosts: np.ndarray, t: np.ndarray) -> np.ndarray:
        spells = self._reach_all(t)
        k = _passed(spells, hosts, t)
        end = np.where(k > spells.ptr[hosts], spells.end[k - 1], -INF)
        return np.where(t < end, end, t)

    def _next(self, hosts: np.ndarray, t: np.ndarray) -> np.ndarray:
        spells = self._reach_all(t)
        k = _passed(spells, hosts, t)
        return np.where(k < spells.ptr[hosts + 1], spells.start[k], INF)

    def _paces(self, hosts: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = _passed(self.slow, hosts, t)
        slow = (k > self.slow.ptr[hosts]) & (t < self.slow.end[k - 1])
        turn = np.where(k < self.slow.ptr[hosts + 1], self.slow.start[k], INF)
        return np.where(slow, self.slow.factor[k - 1], 1.0), np.where(slow, self.slow.end[k - 1], turn)

    def work_each(self, hosts_Q: np.ndarray, t_Q: np.ndarray, seconds_Q: np.ndarray) -> np.ndarray:
        """`work` of each pair; nothing to do takes no time."""
        out: np.ndarray = t_Q + seconds_Q
        on = np.flatnonzero(self.has_n[hosts_Q] & (seconds_Q > 0) & (t_Q < INF))
        t, left = t_Q[on], seconds_Q[on]
        while len(on):
            hosts = hosts_Q[on]
            factor, turn = self._paces(hosts, t)
            stop, end = np.minimum(self._next(hosts, t), turn), t + left * factor
            done = end <= stop
            out[on[done]] = self._back(hosts[done], end[done])
            on, t, stop, left, factor = (v[~done] for v in (on, t, stop, left, factor))
            left = np.maximum(0.0, left - (stop - t) / factor)
            t = self._back(hosts_Q[on], stop)
            gone = t == INF
            out[on[gone]] = INF
            on, t, left = on[~gone], t[~gone], left[~gone]
        return out

    def there_each(self, a_n: np.ndarray, b_n: np.ndarray) -> np.ndarray:
        """`there` of every host, from its a to its b; 0 where a is no earlier."""
        on = np.flatnonzero(a_n < b_n)
        out = np.zeros(self.n)
        plain = on[~self.has_n[on]]
        out[plain] = b_n[plain] - a_n[plain]
        on = on[self.has_n[on]]
        t = self._back(on, a_n[on])
        while len(on):
            keep = t < b_n[on]
            on, t = on[keep], t[keep]
            leaves = self._next(on, t)
            out[on] += np.minimum(leaves, b_n[on]) - t
            keep = leaves < b_n[on]
            on, t = on[keep], self._back(on[keep], leaves[keep])
        return out


def _joined(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """Intervals of which none begins where the one before ends."""
    held: Interval | None = None
    for start, end in intervals:
        if held is not None and start <= held[1]:
            held = held[0], max(end, held[1])
            continue
        if held is not None:
            yield held
        held = start, end
    if held is not None:
        yield held


def _rows(n: int, each: Mapping[int, Sequence[tuple[float, float, float]]]) -> Spells:
    counts = np.zeros(n, np.int64)
    for host, intervals in each.items():
        counts[host] = len(intervals)
    flat = np.array([spell for host in sorted(each) for spell in each[host]] + [(INF, INF, 1.0)], dtype=np.float64)
    start, end, factor = (np.ascontiguousarray(flat[:, c]) for c in range(3))
    return Spells(np.concatenate(([0], np.cumsum(counts))), start, end, factor)


def _passed(spells: Spells, hosts: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The first of each host's intervals that begins after t; by halving, all pairs at once."""
    low, high = spells.ptr[hosts], spells.ptr[hosts + 1]
    while (low < high).any():
        middle = (low + high) >> 1
        right = (low < high) & (spells.start[middle] <= t)
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
    return low
