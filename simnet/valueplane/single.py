"""The reference: one task for one node at a time, on that node's own tensors, by automatic differentiation.

Two executors rest on it: `OneByOne` here runs a recording task after task for all members (lockstep programs), and
`Following` runs each node's tasks when that node gets there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.errors import ProgramError
from simnet.exchange import Average, Exchange
from simnet.graph import Task
from simnet.recording import Recording
from simnet.valueplane.functions import fill_arguments
from simnet.valueplane.mixing import sum_dtype
from simnet.valueplane.oracles import Oracles

Row = torch.Tensor


class Single:
    """Evaluates what one node can compute from its own tensors."""

    name = "one-by-one"
    computes = True

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        self.book, self.device, self.dtype = book, device, dtype
        self.oracles = Oracles(book, device, dtype)
        self.watch = self.oracles.watch
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

    def mix_one(self, x: Exchange, host: int, own: Row, others: list[Row | None], stand_ins: list[Row | None]) -> Row:
        """Host's weighted sum: `others[e]` is the message of in-edge e (None: missing), `stand_ins[e]` what stands
        for it then (None: nothing).
        """
        assert x.weight_E is not None and x.own_n is not None
        a = int(x.edges.in_ptr[host])
        total = own.to(sum_dtype(own.dtype)) * float(x.own_n[host])
        for e, (message, stand_in) in enumerate(zip(others, stand_ins, strict=True)):
            row = message if message is not None else stand_in
            if row is not None:
                total = total + row.to(total.dtype) * float(x.weight_E[a + e])
        return total.to(own.dtype)

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
        return {(s, int(x.edges.target[e])): r for s, es in enumerate(x.edges.out_edges) for r, e in enumerate(es)}


class OneByOne(Single):
    """Lockstep programs, one task and one node at a time."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(book, device, dtype)
        self.values: dict[int, list[Row]] = {}
        self._received: dict[Any, dict[tuple[int, int], Row]] = {}  # (channel, operand) -> (number, edge) -> row
        self._graph: Any = None

    def catch_up(self, recording: Recording, mark: int) -> None:
        with self.watch.working():
            self._catch_up(recording, mark)

    def _catch_up(self, recording: Recording, mark: int) -> None:
        graph = recording.graph
        if self._graph is None:
            self._graph, graph.release = graph, self._release
        count = 0
        for task in graph.pending:
            if task.id >= mark:
                break
            self.values[task.id] = self._run(task, recording)
            self._done(task, graph)
            count += 1
        del graph.pending[:count]

    def _release(self, id: int) -> None:
        self.values.pop(id, None)

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


UNEQUAL = (
    "node.read takes a Value that is equal at all nodes of the role (the result of a collective); "
    "pass the Value as when=, or set synchronous = False"
)


def common_number(rows: list[Row]) -> float:
    """The number that all rows hold; ProgramError where they differ."""
    first = float(rows[0])
    if any(float(r) != first for r in rows[1:]):
        raise ProgramError(UNEQUAL)
    return first
