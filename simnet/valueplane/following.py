"""Each node's tasks when the node gets there: what the events tier needs for messages between single nodes, for numbers
read in the middle of a run, and for node runs.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.compressor import Wire
from simnet.entries import Entry
from simnet.errors import ProgramError
from simnet.exchange import Average, Exchange
from simnet.graph import Task
from simnet.payload import Sizes, sizes_of
from simnet.recording import Recording
from simnet.valueplane.single import UNEQUAL, Row, Single

_WARM_UP = 5


class Following(Single):
    """Each node's tasks when the node gets there: what the events tier needs for messages and for `read`."""

    at_once = True  # whether a task is computed when it is run

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(book, device, dtype)
        self._tasks: dict[int, list[Task]] = {}  # recording -> its tasks from number `_base` on
        self._base: dict[int, int] = {}
        self._kept: dict[int, int] = {}  # how many tasks were left when some were last forgotten
        self._next: dict[tuple[int, int], int] = {}  # (recording, member) -> next task to run
        self._values: dict[tuple[int, int], dict[int, Any]] = {}
        self._reads: dict[tuple[int, int], dict[int, int]] = {}
        self._bound: dict[tuple[int, int, Any], Any] = {}  # results that came with a message or an exchange
        self._sent: dict[tuple[Exchange | Average, int], tuple[Row, ...]] = {}
        self._history: dict[tuple[Any, int, int], list[tuple[int, float, tuple[Row, ...]]]] = {}
        self._left: set[tuple[int, int]] = set()  # members that never return
        self._published: dict[int, Row] = {}  # host -> what it has published
        self._means: dict[tuple[Average, int], Row] = {}
        self._warm: dict[str, int] = {}  # oracle -> calls made before the first that is timed
        self._reported: dict[tuple[int, int], dict[int, dict[str, Any]]] = {}  # (recording, member) -> report -> values

    # ---- on rows: one at a time here, many at once in `Scattered` --------------------------------------------------

    def stack(self, rows: list[Row]) -> Row:
        """Rows as one Value with a row each."""
        return torch.stack(rows)

    def mean(self, rows: list[Row]) -> Row:
        """The mean of rows."""
        return torch.stack(rows).mean(0)

    def blank(self, shape: tuple[int, ...]) -> Row:
        """A row of zeros."""
        return torch.zeros(shape, device=self.device, dtype=self.dtype)

    def number(self, row: Row) -> float:
        """The number that a row of one element holds, now."""
        return float(row)

    # ---- one node's tasks ------------------------------------------------------------------------------------------

    def run_to(self, recording: Recording, m: int, mark: int) -> dict[int, Any]:
        """Run member m's tasks below `mark`; its values by task."""
        r = recording.index_
        tasks, base = self._tasks.setdefault(r, []), self._base.setdefault(r, 0)
        if recording.graph.pending:
            tasks.extend(recording.graph.pending)
            recording.graph.pending.clear()
        values, reads = self._values.setdefault((r, m), {}), self._reads.setdefault((r, m), {})
        at, host = self._next.get((r, m), 0), int(recording.members[m])
        if at < mark:
            with self.watch.working() if self.at_once else nullcontext():
                while at < mark:
                    task = tasks[at - base]
                    values[at] = self._run(task, [values[q] for q in task.reads], recording, m, host)
                    for q in task.reads:
                        reads[q] = reads.get(q, 0) + 1
                    at += 1
        self._next[r, m] = at
        return values

    def timed(self, recording: Recording, mark: int) -> float:
        """Seconds of the oracle call that is the last task below `mark`, run now; of the one member of a node run."""
        values = self.run_to(recording, 0, mark - 1)
        task = self._tasks[recording.index_][mark - 1 - self._base[recording.index_]]
        while self._warm.get(task.payload[0], 0) < _WARM_UP:  # the first calls of a process make what later ones find
            self._warm[task.payload[0]] = self._warm.get(task.payload[0], 0) + 1
            self.evaluate(task, [values[q] for q in task.reads], int(recording.members[0]), 0)
            self.watch.forget(task.payload[0])
        before = sum(self.watch.by_oracle().values())
        self.run_to(recording, 0, mark)
        return sum(self.watch.by_oracle().values()) - before

    def _run(self, task: Task, args: list[Any], recording: Recording, m: int, host: int) -> Any:
        if task.kind == "received":
            return self._gathered(task, self._bound.pop((recording.index_, m, _binding(task))), args)
        if task.kind in ("mix", "rows", "average", "all_gather", "published"):
            return self._bound.pop((recording.index_, m, _binding(task)))
        if task.kind in ("sent", "report"):
            return tuple(args)
        if task.kind in ("read", "publish"):
            return args[0]
        return self.evaluate(task, args, host, m)

    def sweep(self, recording: Recording, m: int) -> None:
        """Forget member m's values that no handle and no recorded task of its can ask for."""
        graph, r = recording.graph, recording.index_
        values, reads = self._values.get((r, m), {}), self._reads.get((r, m), {})
        for q in [q for q in values if q not in graph.live and reads.get(q, 0) == graph.readers.get(q, 0)]:
            del values[q]
            reads.pop(q, None)
        if len(self._tasks.get(r, ())) > 2 * self._kept.get(r, 256):
            self._forget_tasks(recording)

    def _forget_tasks(self, recording: Recording) -> None:
        """Forget the tasks that every member has run, and how often those were to be read that nobody holds."""
        graph, r = recording.graph, recording.index_
        members = [m for m in range(len(recording.members)) if (r, m) not in self._left]
        base, low = self._base.get(r, 0), min(self._next.get((r, m), 0) for m in members)
        held = graph.live.union(*(self._values.get((r, m), {}) for m in members))
        for q in [q for q in graph.readers if q < low and q not in held]:
            del graph.readers[q]
        del self._tasks[r][: low - base]
        self._base[r] = low
        self._kept[r] = max(256, len(self._tasks[r]))

    # ---- what the walker says --------------------------------------------------------------------------------------

    def started(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host hands its operands of an exchange or average over."""
        values = self.run_to(recording, m, entry.mark)
        self._sent[entry.travel, host] = tuple(values[t] for t in entry.tasks)

    def sizes(self, recording: Recording, m: int, entry: Entry) -> Sizes:
        """What member m's message takes, where that depends on the values in it."""
        values, host = self.run_to(recording, m, entry.mark), int(recording.members[m])
        plain, wires = 0, []
        for task, wire in zip(entry.tasks, entry.wires, strict=True):
            if wire is None:
                plain += self.book.bytes_of(values[task].numel())
                continue
            wires.append(_at(wire, host, values[task]))
        return sizes_of(plain, wires)

    def holds(self, recording: Recording, m: int, entry: Entry) -> bool:
        """Whether `when=`, a Value, is true at this node."""
        values = self.run_to(recording, m, entry.mark)
        assert entry.when_task is not None
        return bool(self.number(values[entry.when_task]))

    def finished(
        self, recording: Recording, m: int, entry: Entry, host: int, got: list[tuple[bool, float]], now: float
    ) -> None:
        """Host leaves an exchange with what it has got."""
        x: Exchange = entry.travel
        values = self.run_to(recording, m, entry.mark)
        own = self._sent[x, host]
        extra = self._extra_values(recording, m, entry, values)
        taking_part = x.active_n is None or bool(x.active_n[host])
        edges, a = x.edges, int(x.edges.in_ptr[host])
        rank = self.out_rank(x) if x.kind == "rows" and any(v.ndim == 2 for v in own) else {}
        for i, mine in enumerate(own):
            others: list[Row | None] = []
            stand_ins: list[Row | None] = []
            for e, (ok, arrival) in enumerate(got):
                source = int(edges.source[a + e])
                there = arrival < float("inf") and (x.active_n is None or bool(x.active_n[source]))
                message = self._message(x, source, host, i, rank) if there else None
                others.append(message if ok else None)
                stand_ins.append(
                    self._stand_in(x, a + e, e, i, mine, message, ok, arrival, now, extra, rank, host, source)
                )
            if not taking_part:
                result = mine if x.kind == "gossip" else self.rows_one([], [], entry_shape(recording, entry, i))
            elif x.kind == "gossip":
                result = self.mix_one(x, host, mine, others, stand_ins)
            else:
                result = self.rows_one(others, stand_ins, entry_shape(recording, entry, i))
            self._bound[recording.index_, m, (id(x), i)] = result
        self.sweep(recording, m)

    def _extra_values(self, recording: Recording, m: int, entry: Entry, values: dict[int, Any]) -> Row | None:
        """The Value given as `missing=`, of this node."""
        task = next(t for t in self._tasks[recording.index_][entry.mark - self._base[recording.index_] :])
        names = task.payload[2]
        return values[task.reads[1 + names.index("missing")]] if "missing" in names else None

    def _message(self, x: Exchange, source: int, host: int, i: int, rank: dict[tuple[int, int], int]) -> Row | None:
        sent = self._sent.get((x, source))
        if sent is None:
            return None
        return sent[i][rank[source, host]] if x.kind == "rows" and sent[i].ndim == 2 else sent[i]

    def _stand_in(
        self, x: Exchange, edge: int, position: int, i: int, own: Row, message: Row | None, ok: bool, arrival: float,
        now: float, given: Row | None, rank: dict[tuple[int, int], int], host: int, source: int,
    ) -> Row | None:  # fmt: skip
        if x.missing == "zero":
            return None
        if x.missing == "value":
            assert given is not None
            return given[position] if x.kind == "rows" and given.ndim == 2 else given
        mine = own
        if x.kind == "rows" and own.ndim == 2:
            mine = own[rank[host, source]] if (host, source) in rank else self.blank(own.shape[1:])
        if x.missing == "stale":
            heard = self._history.setdefault((x.channel, edge, i), [])
            if message is not None and self.book.is_through(x, edge, arrival):
                heard.append((x.k, arrival, (message,)))
            there = [(k, row) for k, t, (row,) in heard if t <= now and k != x.k]  # late is lost for its own exchange
            if there:
                newest = max(there, key=lambda pair: pair[0])
                heard[:] = [h for h in heard if h[0] >= newest[0]]
                return newest[1]
        return mine

    def late(self, x: Exchange, edge: int, t: float) -> None:
        """A message comes at t, after its receiver has left: under `missing="stale"` it replaces the stored copy."""
        source, host = int(x.edges.source[edge]), int(x.edges.target[edge])
        if not self.book.is_through(x, edge, t):
            return
        if x.active_n is not None and not x.active_n[source]:
            return
        operands = self._sent[x, source]
        rank = self.out_rank(x) if x.kind == "rows" and any(v.ndim == 2 for v in operands) else {}
        for i in range(len(operands)):
            message = self._message(x, source, host, i, rank)
            assert message is not None
            self._history.setdefault((x.channel, edge, i), []).append((x.k, t, (message,)))

    def averaged(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host leaves an average: with the mean, or with its own where it is not among the receivers."""
        x: Average = entry.travel
        for i, own in enumerate(self._sent[x, host]):
            if not x.to_n[host]:
                self._bound[recording.index_, m, (id(x), i)] = own
                continue
            if (x, i) not in self._means:
                rows = [self._sent[x, int(h)][i] for h in np.flatnonzero(x.among_n)]
                self._means[x, i] = self.stack(rows) if x.kind == "all_gather" else self.mean(rows)
            self._bound[recording.index_, m, (id(x), i)] = self._means[x, i]
        self.sweep(recording, m)

    def closed(self, x: Exchange | Average) -> None:
        """Nobody will ask for this exchange's operands again."""
        for key in [key for key in self._sent if key[0] is x]:
            del self._sent[key]
        for mean in [key for key in self._means if key[0] is x]:
            del self._means[mean]

    def sent(self, recording: Recording, m: int, entry: Entry) -> tuple[Row, ...]:
        """The operands of a message, as it is handed over."""
        values = self.run_to(recording, m, entry.mark)
        content: tuple[Row, ...] = values[entry.mark - 1]
        self.sweep(recording, m)
        return content

    def received(self, recording: Recording, m: int, entry: Entry, contents: list[tuple[Row, ...] | None]) -> None:
        """What a receive got: one message, or one per sender; None where nothing came."""
        if entry.plain:
            return
        for i in range(len(entry.shapes)):
            rows = [None if c is None else c[i] for c in contents]
            self._bound[recording.index_, m, (id(entry), i)] = rows, entry.rows

    def _gathered(self, task: Task, bound: tuple[list[Row | None], bool], args: list[Row]) -> Row:
        """The rows of a receive, with the stand-in (known only to the task) where nothing came."""
        rows, stacked = bound
        given = args[task.payload[1]] if args else None
        by_row = given is not None and stacked and given.ndim == len(task.shape)
        filled: list[Any] = [row if row is not None else given[i] if by_row else given for i, row in enumerate(rows)]  # type: ignore[index]
        return self.stack(filled) if stacked else filled[0]

    def read(self, recording: Recording, m: int, entry: Entry) -> None:
        """The number that a read asks for; every member must hold the same."""
        values = self.run_to(recording, m, entry.mark)
        number = self.number(values[entry.mark - 1])
        if entry.number is not None and entry.number != number:
            raise ProgramError(UNEQUAL)
        entry.number = number
        self.sweep(recording, m)

    def left(self, recording: Recording, m: int) -> None:
        """Member m has left for good: no task of its will run."""
        self._left.add((recording.index_, m))

    # ---- what is published -----------------------------------------------------------------------------------------

    def publish(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host puts the Value of this entry where a partner may replace it."""
        self._published[host] = self.run_to(recording, m, entry.mark)[entry.mark - 1]
        self.sweep(recording, m)

    def take(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host reads what stands published."""
        self._bound[recording.index_, m, (id(entry), 0)] = self._published[host]
        self.run_to(recording, m, entry.mark + 1)

    def met(self, i: int, j: int) -> None:
        """Hosts i and j take the mean of what they have published."""
        if i not in self._published or j not in self._published:
            silent = self.book.network.hosts[j if i in self._published else i]
            raise ProgramError(f"node {silent} is met before it has published anything: publish before the first yield")
        self._published[i] = self._published[j] = self.mean([self._published[i], self._published[j]])

    # ---- reports ---------------------------------------------------------------------------------------------------

    def reported(self, recording: Recording, m: int, r: int) -> None:
        """Keep what member m reports, where the round will be evaluated."""
        report = recording.reports[r]
        if self.book.on_grid:
            kept = self.run_to(recording, m, report.mark)[report.mark - 1]
            self._reported[recording.index_, m] = {r: self._named(recording, report.mark - 1, kept)}
            return
        if not report.values:
            return
        values = self.run_to(recording, m, report.mark)
        self._reported.setdefault((recording.index_, m), {})[r] = {
            name: tuple(values[v.id] for v in given) if isinstance(given, tuple | list) else values[given.id]
            for name, given in report.values.items()
        }

    def _named(self, recording: Recording, task: int, rows: tuple[Row, ...]) -> dict[str, Any]:
        """The rows of a report's task by their names."""
        r = recording.index_
        widths = self._tasks[r][task - self._base[r]].payload[1]
        it = iter(rows)
        return {name: next(it) if w is None else tuple(next(it) for _ in range(w)) for name, w in widths.items()}

    def report_of(self, recording: Recording, m: int, r: int) -> dict[str, Any]:
        """Member m's report r, kept until `forget`."""
        return self._reported[recording.index_, m][r]

    def stacked(self, which: list[tuple[Recording, int, int]]) -> dict[str, Any]:
        """Reports (recording, member, number) as tensors in that order: name -> (members, *shape), or a tuple."""
        found = [self.report_of(*each) for each in which]
        names = found[0] if found else {}
        return {
            name: tuple(torch.stack([f[name][k] for f in found]) for k in range(len(names[name])))
            if isinstance(names[name], tuple)
            else torch.stack([f[name] for f in found])
            for name in names
        }

    def forget(self, recording: Recording, m: int, below: int) -> None:
        """Drop member m's reports before number `below`."""
        kept = self._reported.get((recording.index_, m), {})
        for r in [r for r in kept if r < below]:
            del kept[r]

    def catch_up(self, recording: Recording, mark: int) -> None:
        """Nothing to do: nodes are followed as they walk."""

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        raise ProgramError("a mask over all members is not known while nodes are followed one by one")


def _at(wire: Wire, host: int, value: Any) -> Wire:
    """What a compressed Value takes at one host."""
    if wire.compressor is None:
        return Wire(*(part[host] if isinstance(part, np.ndarray) else part for part in wire[:3]))  # type: ignore[arg-type]
    d, single, of = value.numel(), [drawn_n[host] for drawn_n in wire.single], wire.compressor
    return Wire(
        of.wire_bits(d, *single, value=value), of.index_bits(d, *single, value=value), of.nominal_bits(d, *single)
    )


def _binding(task: Task) -> tuple[int, int]:
    return id(task.payload[0]), task.payload[1]


def entry_shape(recording: Recording, entry: Entry, i: int) -> tuple[int, ...]:
    """The recorded shape of the i-th result of an exchange of rows."""
    x: Exchange = entry.travel
    degrees = np.diff(x.edges.in_ptr)[recording.members]
    return (int(degrees.max(initial=0)), *entry.shapes[i])
