"""The reference: one task for one node at a time, on that node's own tensors, by automatic differentiation.

Two executors rest on it. `OneByOne` runs a recording task after task for all members (lockstep programs); `Following`
runs each node's tasks when that node gets there, so it can serve messages between single nodes, numbers read in the
middle of a run, and node runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.errors import ProgramError
from simnet.exchange import Average, Exchange
from simnet.graph import Task
from simnet.recording import Entry, Recording
from simnet.valueplane.functions import fill_arguments
from simnet.valueplane.oracles import Oracles

Row = torch.Tensor


class Single:
    """Evaluates what one node can compute from its own tensors."""

    name = "one-by-one"

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        self.book, self.device, self.dtype = book, device, dtype
        self.oracles = Oracles(book, device, dtype)
        self._initial: dict[str, torch.Tensor] = {}

    def evaluate(self, task: Task, args: list[Row], host: int, row: int) -> Row:
        """The result of a task that needs nobody else; `row` is the host's number in its role."""
        kind = task.kind
        if kind == "map":
            assert task.func is not None
            positional, named = fill_arguments(task, args)
            result: Row = task.func(*positional, **named)
            return result
        if kind == "oracle":
            return self.oracles.single(task.payload, args, host, row)
        if kind == "initial":
            if task.payload not in self._initial:
                self._initial[task.payload] = self.book.problem.initial(task.payload)
            return self._initial[task.payload]
        if kind == "zeros":
            return torch.zeros(task.shape, device=self.device, dtype=self.dtype)
        if kind == "constant":
            return torch.as_tensor(task.payload[row], device=self.device, dtype=self.dtype)
        if kind == "random":
            return self.oracles.random(task.payload, np.array([host]), task.shape)[0]
        raise ProgramError(f"no executor knows the task {task!r}")

    def mix_one(
        self, x: Exchange, host: int, own: Row, others: list[Row | None], stand_ins: list[Row | None]
    ) -> Row:
        """Host's weighted sum: `others[e]` is the message of in-edge e (None: missing), `stand_ins[e]` what stands
        for it then (None: nothing).
        """
        assert x.weight_E is not None and x.own_n is not None
        a = int(x.edges.in_ptr[host])
        total = own * float(x.own_n[host])
        for e, (message, stand_in) in enumerate(zip(others, stand_ins, strict=True)):
            row = message if message is not None else stand_in
            if row is not None:
                total = total + row * float(x.weight_E[a + e])
        return total

    def rows_one(self, others: list[Row | None], stand_ins: list[Row | None], shape: tuple[int, ...]) -> Row:
        """One row per in-neighbour, padded with zeros to the shape that was recorded."""
        out = torch.zeros(shape, device=self.device, dtype=self.dtype)
        for e, (message, stand_in) in enumerate(zip(others, stand_ins, strict=True)):
            row = message if message is not None else stand_in
            if row is not None:
                out[e] = row
        return out

    def out_rank(self, x: Exchange) -> dict[tuple[int, int], int]:
        """The place of each target among a source's out-neighbours in node order."""
        return {
            (s, int(x.edges.target[e])): r for s, es in enumerate(x.edges.out_edges) for r, e in enumerate(es)
        }


class OneByOne(Single):
    """Lockstep programs, one task and one node at a time."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(book, device, dtype)
        self.values: dict[int, list[Row]] = {}
        self._received: dict[Any, dict[tuple[int, int], Row]] = {}  # (channel, operand) -> (number, edge) -> row
        self._graph: Any = None

    def catch_up(self, recording: Recording, mark: int) -> None:
        graph = recording.graph
        if self._graph is None:
            self._graph, graph.release = graph, lambda id: self.values.pop(id, None)
        count = 0
        for task in graph.pending:
            if task.id >= mark:
                break
            self.values[task.id] = self._run(task, recording)
            self._done(task, graph)
            count += 1
        del graph.pending[:count]

    def _done(self, task: Task, graph: Any) -> None:
        for q in task.reads:
            graph.readers[q] -= 1
            if not graph.readers[q]:
                del graph.readers[q]
                if q not in graph.live:
                    self.values.pop(q, None)
        if task.id not in graph.live and task.id not in graph.readers:
            self.values.pop(task.id, None)

    def value(self, recording: Recording, id: int) -> torch.Tensor:
        """All members' values of a task, shape (members, *shape)."""
        return torch.stack(list(self.values[id]))

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        self.catch_up(recording, mark)
        return self.value(recording, task).bool().cpu().numpy()

    def _run(self, task: Task, recording: Recording) -> list[Row]:
        members = recording.members.tolist()
        args = [[self.values[q][m] for q in task.reads] for m in range(len(members))]
        if task.kind in ("mix", "rows"):
            return self._exchange(task, recording, args)
        if task.kind in ("average", "all_gather"):
            return self._average(task, recording, args)
        if task.kind == "read":
            task.payload.number = common_number([a[0] for a in args])
            return []
        return [self.evaluate(task, a, host, m) for m, (host, a) in enumerate(zip(members, args, strict=True))]

    def _exchange(self, task: Task, recording: Recording, args: list[list[Row]]) -> list[Row]:
        x, operand, names = task.payload
        edges, member_of = x.edges, {h: m for m, h in enumerate(recording.members.tolist())}
        extra = {n: i + 1 for i, n in enumerate(names)}
        rank = self.out_rank(x) if task.kind == "rows" and args[0][0].ndim == 2 else None
        history = self._received.setdefault((x.channel, operand), {}) if x.missing == "stale" else None
        out = []
        for m, host in enumerate(recording.members.tolist()):
            own, others, stand_ins = args[m][0], [], []
            for e in range(int(edges.in_ptr[host]), int(edges.in_ptr[host + 1])):
                source = int(edges.source[e])
                sent = args[member_of[source]][0]
                sent = sent if rank is None else sent[rank[source, host]]
                if history is not None:
                    history[x.k, e] = sent
                others.append(sent if x.got_E is None or x.got_E[e] else None)
                position = e - int(edges.in_ptr[host])
                stand_ins.append(self._stand_in(x, e, own, args[m], extra, history, rank, host, position))
            taking_part = x.active_n is None or bool(x.active_n[host])
            if not taking_part:
                out.append(own if task.kind == "mix" else self.rows_one([], [], task.shape))
            elif task.kind == "mix":
                out.append(self.mix_one(x, host, own, others, stand_ins))
            else:
                out.append(self.rows_one(others, stand_ins, task.shape))
        if history is not None:
            for number, e in [key for key in history if key[0] < int(x.source_E[key[1]])]:
                del history[number, e]
        return out

    def _stand_in(
        self, x: Exchange, e: int, own: Row, args: list[Row], extra: dict[str, int], history: Any, rank: Any,
        host: int, position: int,
    ) -> Row | None:  # fmt: skip
        if x.missing == "zero":
            return None
        if x.missing == "value":
            given = args[extra["missing"]]
            return given[position] if x.kind == "rows" and given.ndim == 2 else given
        if x.missing == "stale" and x.source_E is not None and x.source_E[e] >= 0:
            row: Row = history[int(x.source_E[e]), e]
            return row
        if rank is None:
            return own
        place = rank.get((host, int(x.edges.source[e])))
        return own[place] if place is not None else torch.zeros_like(own[0])

    def _average(self, task: Task, recording: Recording, args: list[list[Row]]) -> list[Row]:
        x: Average = task.payload[0]
        members = recording.members.tolist()
        if x.kind == "all_gather":
            everything = torch.stack([a[0] for a in args])
            return [everything for _ in members]
        mean = torch.stack([a[0] for a, h in zip(args, members, strict=True) if x.among_n[h]]).mean(0)
        return [mean if x.to_n[h] else a[0] for a, h in zip(args, members, strict=True)]


class Following(Single):
    """Each node's tasks when the node gets there: what the events tier needs for messages and for `read`."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(book, device, dtype)
        self._tasks: dict[int, list[Task]] = {}  # recording -> its tasks from number `_base` on
        self._base: dict[int, int] = {}
        self._next: dict[tuple[int, int], int] = {}  # (recording, member) -> next task to run
        self._values: dict[tuple[int, int], dict[int, Any]] = {}
        self._reads: dict[tuple[int, int], dict[int, int]] = {}
        self._bound: dict[tuple[int, int, Any], Any] = {}  # results that came with a message or an exchange
        self._sent: dict[tuple[Exchange | Average, int], tuple[Row, ...]] = {}
        self._history: dict[tuple[Any, int, int], list[tuple[int, float, tuple[Row, ...]]]] = {}
        self._means: dict[tuple[Average, int], Row] = {}
        self._reported: dict[tuple[int, int, int], dict[str, Any]] = {}

    # ---- one node's tasks -------------------------------------------------------------------------------------------

    def run_to(self, recording: Recording, m: int, mark: int) -> dict[int, Any]:
        """Run member m's tasks below `mark`; its values by task."""
        r = recording.index_
        tasks, base = self._tasks.setdefault(r, []), self._base.setdefault(r, 0)
        if recording.graph.pending:
            tasks.extend(recording.graph.pending)
            recording.graph.pending.clear()
        values, reads = self._values.setdefault((r, m), {}), self._reads.setdefault((r, m), {})
        at, host = self._next.get((r, m), 0), int(recording.members[m])
        while at < mark:
            task = tasks[at - base]
            values[at] = self._run(task, [values[q] for q in task.reads], recording, m, host)
            for q in task.reads:
                reads[q] = reads.get(q, 0) + 1
            at += 1
        self._next[r, m] = at
        return values

    def _run(self, task: Task, args: list[Any], recording: Recording, m: int, host: int) -> Any:
        if task.kind == "received":
            return self._bound.pop((recording.index_, m, _binding(task))).with_stand_in(args)
        if task.kind in ("mix", "rows", "average", "all_gather"):
            return self._bound.pop((recording.index_, m, _binding(task)))
        if task.kind == "sent":
            return tuple(args)
        if task.kind == "read":
            return args[0]
        return self.evaluate(task, args, host, m)

    def sweep(self, recording: Recording, m: int) -> None:
        """Forget member m's values that no handle and no recorded task of its can ask for."""
        graph, r = recording.graph, recording.index_
        values, reads = self._values.get((r, m), {}), self._reads.get((r, m), {})
        for q in [q for q in values if q not in graph.live and reads.get(q, 0) == graph.readers.get(q, 0)]:
            del values[q]
            reads.pop(q, None)
        low = min(self._next.get((r, k), 0) for k in range(len(recording.members)))
        base = self._base.get(r, 0)
        if low - base > 4096:
            del self._tasks[r][: low - base]
            self._base[r] = low

    # ---- what the walker says ---------------------------------------------------------------------------------------

    def started(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host hands its operands of an exchange or average over."""
        values = self.run_to(recording, m, entry.mark)
        self._sent[entry.travel, host] = tuple(values[t] for t in entry.tasks)

    def holds(self, recording: Recording, m: int, entry: Entry) -> bool:
        """Whether `when=`, a Value, is true at this node."""
        values = self.run_to(recording, m, entry.mark)
        assert entry.when_task is not None
        return bool(values[entry.when_task])

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
                message = self._message(x, source, host, i, rank) if arrival < float("inf") else None
                others.append(message if ok else None)
                stand_ins.append(self._stand_in(x, a + e, e, i, mine, message, ok, arrival, now, extra, rank, host, source))
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
            mine = own[rank[host, source]] if (host, source) in rank else torch.zeros_like(own[0])
        if x.missing == "stale":
            heard = self._history.setdefault((x.channel, edge, i), [])
            lost = x.fate is not None and self.book.network.policy != "retry" and not x.fate.delivered_E[edge]
            if message is not None and not lost:
                heard.append((x.k, arrival if not ok else -1.0, (message,)))
            there = [(k, row) for k, t, (row,) in heard if t <= now]
            if there:
                newest = max(there, key=lambda pair: pair[0])
                heard[:] = [h for h in heard if h[0] >= newest[0]]
                return newest[1]
        return mine

    def late(self, x: Exchange, edge: int, t: float) -> None:
        """A message comes at t, after its receiver has left: under `missing="stale"` it replaces the stored copy."""
        source, host = int(x.edges.source[edge]), int(x.edges.target[edge])
        if x.fate is not None and self.book.network.policy != "retry" and not x.fate.delivered_E[edge]:
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
                rows = torch.stack([self._sent[x, int(h)][i] for h in np.flatnonzero(x.among_n)])
                self._means[x, i] = rows if x.kind == "all_gather" else rows.mean(0)
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

    def received(
        self, recording: Recording, m: int, entry: Entry, contents: list[tuple[Row, ...] | None]
    ) -> None:
        """What a receive got: one message, or one per sender; None where nothing came."""
        if entry.plain:
            return
        for i in range(len(entry.shapes)):
            rows = [None if c is None else c[i] for c in contents]
            self._bound[recording.index_, m, (id(entry), i)] = _Gathered(rows, entry.rows)

    def read(self, recording: Recording, m: int, entry: Entry) -> None:
        """The number that a read asks for; every member must hold the same."""
        values = self.run_to(recording, m, entry.mark)
        number = float(values[entry.mark - 1])
        if entry.number is not None and entry.number != number:
            raise ProgramError(_UNEQUAL)
        entry.number = number
        self.sweep(recording, m)

    # ---- reports ------------------------------------------------------------------------------------------------------

    def reported(self, recording: Recording, m: int, r: int) -> None:
        """Keep what member m reports, where the round will be evaluated."""
        report = recording.reports[r]
        if not report.values:
            return
        values = self.run_to(recording, m, report.mark)
        self._reported[recording.index_, m, r] = {
            name: tuple(values[v.id] for v in given) if isinstance(given, tuple | list) else values[given.id]
            for name, given in report.values.items()
        }

    def report_of(self, recording: Recording, m: int, r: int) -> dict[str, Any]:
        """Member m's report r, kept until `forget`."""
        return self._reported[recording.index_, m, r]

    def forget(self, recording: Recording, m: int, below: int) -> None:
        """Drop member m's reports before number `below`."""
        for key in [k for k in self._reported if k[0] == recording.index_ and k[1] == m and k[2] < below]:
            del self._reported[key]

    def catch_up(self, recording: Recording, mark: int) -> None:
        """Nothing to do: nodes are followed as they walk."""

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        raise ProgramError("a mask over all members is not known while nodes are followed one by one")


class _Gathered:
    """Rows of a receive before a stand-in, known only to the task, fills the gaps."""

    def __init__(self, rows: list[Row | None], stacked: bool) -> None:
        self.rows, self.stacked = rows, stacked

    def with_stand_in(self, args: list[Row]) -> Row:
        rows = [r if r is not None else (args[0][i] if self.stacked else args[0]) for i, r in enumerate(self.rows)]
        return torch.stack(rows) if self.stacked else rows[0]


def _binding(task: Task) -> tuple[int, int]:
    return id(task.payload[0]), task.payload[1]


def entry_shape(recording: Recording, entry: Entry, i: int) -> tuple[int, ...]:
    """The recorded shape of the i-th result of an exchange of rows."""
    x: Exchange = entry.travel
    degrees = np.diff(x.edges.in_ptr)[recording.members]
    return (int(degrees.max(initial=0)), *entry.shapes[i])


_UNEQUAL = (
    "node.read takes a Value that is equal at all nodes of the role (the result of a collective); "
    "pass the Value as when=, or set synchronous = False"
)


def common_number(rows: list[Row]) -> float:
    """The number that all rows hold; ProgramError where they differ."""
    first = float(rows[0])
    if any(float(r) != first for r in rows[1:]):
        raise ProgramError(_UNEQUAL)
    return first
