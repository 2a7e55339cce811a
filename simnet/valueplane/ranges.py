"""Ranges of tasks that many hosts run at different times, on rows of shared banks.

All hosts run the same tasks in the same order, each at its own time. A task's result has a slot, a tensor with a row
for each host; a slot is taken again as soon as, in the order of the program, nobody reads its value any more. Ranges
that do the same on the same slots (the turns of a loop) are one `Range`, and hosts at different turns run as one batch.

Legend: n hosts, S rows (hosts) of one batch, I ranges of one kind (instances), K keyed draws of a range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch

from simnet.graph import BOOL, FLOAT, Graph, Ref, Task
from simnet.jit import COMPILED
from simnet.node import Batch
from simnet.valueplane.functions import batched_form
from simnet.valueplane.light import Program, Unfit, program_of
from simnet.valueplane.oracles import Oracles

Tensors = dict[int, torch.Tensor]  # position of a task in its range, or -1 - slot -> rows (S, *shape)


Kind = tuple[tuple[int, ...], str]  # shape of a host's value, and float, bool or int


class Pool:
    """Banks of rows of one shape and dtype, in one tensor (K, n, *shape) that grows by doubling."""

    def __init__(self, n: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.rows = torch.zeros((4, n, *shape), device=device, dtype=dtype)
        self.taken = 0

    def new(self) -> int:
        """The number of one more bank."""
        if self.taken == len(self.rows):
            self.rows = torch.cat((self.rows, torch.zeros_like(self.rows)))
        self.taken += 1
        return self.taken - 1


class Slots:
    """Where the tasks' results are kept."""

    def __init__(self, n: int, device: torch.device, dtype: torch.dtype) -> None:
        self.n, self.device, self.dtype = n, device, dtype
        self.pools: dict[Kind, Pool] = {}
        self.banks: list[int] = []  # of each slot, its bank in the pool of its kind; -1 until first written
        self.of: dict[int, int] = {}  # task -> slot
        self._kinds: list[Kind] = []
        self._free: dict[Kind, list[int]] = {}
        self._last: dict[int, int] = {}  # task -> the last task that reads it
        self._held: dict[int, None] = {}  # tasks whose slots are taken

    def take(self, tasks: list[Task], graph: Graph) -> None:
        """Give the new tasks slots, in their order."""
        for task in tasks:
            self._last[task.id] = task.id
            for q in task.reads:
                self._last[q] = task.id
        ends: dict[int, list[int]] = {}
        first = tasks[0].id if tasks else 0
        for q in [q for q in self._held if q not in graph.live]:
            ends.setdefault(max(self._last[q], first - 1), []).append(q)
        for q in ends.pop(first - 1, ()):
            self._give_back(q)
        for task in tasks:
            if task.kind not in ("publish", "report"):
                kind = (task.shape, task.dtype)
                free = self._free.setdefault(kind, [])
                if not free:
                    free.append(len(self.banks))
                    self.banks.append(-1)
                    self._kinds.append(kind)
                self.of[task.id] = heappop(free)  # the lowest: so the turns of a loop come to the same slots
                self._held[task.id] = None
                if task.id not in graph.live:
                    ends.setdefault(self._last[task.id], []).append(task.id)
            for q in ends.pop(task.id, ()):
                self._give_back(q)

    def _give_back(self, q: int) -> None:
        del self._held[q]
        slot = self.of[q]
        heappush(self._free[self._kinds[slot]], slot)

    def forget(self, low: int, graph: Graph) -> None:
        """Every host has run the tasks below `low`."""
        for q in [q for q, last in self._last.items() if last < low and q not in graph.live and q not in self._held]:
            del self._last[q]
            self.of.pop(q, None)

    def shape_of(self, q: int) -> tuple[int, ...]:
        """The per-host shape of task q's value."""
        return self._kinds[self.of[q]][0]

    def outlives(self, q: int, end: int, graph: Graph) -> bool:
        """Whether task q's value is wanted after the tasks below `end` have run."""
        return self._last[q] >= end or q in graph.live

    def pool(self, kind: Kind) -> Pool:
        """The pool of a kind."""
        if kind not in self.pools:
            shape, name = kind
            dtype = self.dtype if name == FLOAT else torch.bool if name == BOOL else torch.int64
            self.pools[kind] = Pool(self.n, shape, self.device, dtype)
        return self.pools[kind]

    def number(self, slot: int) -> int:
        """The slot's bank in the pool of its kind."""
        if self.banks[slot] < 0:
            self.banks[slot] = self.pool(self._kinds[slot]).new()
        return self.banks[slot]

    def bank(self, slot: int) -> torch.Tensor:
        """The rows of a slot, (n, *shape)."""
        number = self.number(slot)
        return self.pool(self._kinds[slot]).rows[number]

    def kind_of(self, slot: int) -> Kind:
        """Shape and dtype of the values of a slot."""
        return self._kinds[slot]


class Boards:
    """What hosts show: what is published, and what each reported last, as banks of the slots' pools."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.published: tuple[Kind, int] | None = None
        self.reported: dict[str, list[tuple[Kind, int]]] = {}
        self.widths: dict[str, int | None] = {}  # of a report's names: how many Values, None for one alone

    def of(self, task: Task) -> list[tuple[Kind, int]]:
        """The banks that a `publish`, `published` or `report` task touches, one a Value; made when first asked."""
        slots = self.slots
        if task.kind == "report":
            widths = task.payload[1]
            reads = iter(task.reads)
            for name, width in widths.items():
                kinds = [slots.kind_of(slots.of[next(reads)]) for _ in range(1 if width is None else width)]
                if name not in self.reported:
                    self.widths[name] = width
                    self.reported[name] = [(kind, slots.pool(kind).new()) for kind in kinds]
            return [board for name in widths for board in self.reported[name]]
        if self.published is None:
            kind = slots.kind_of(slots.of[task.reads[0]])
            self.published = kind, slots.pool(kind).new()
        return [self.published]

    def rows(self, board: tuple[Kind, int]) -> torch.Tensor:
        """The rows of a bank, (n, *shape)."""
        kind, number = board
        return self.slots.pool(kind).rows[number]


@dataclass(frozen=True)
class Rows:
    """The rows of one batch: host numbers, as numpy and on the device, and their keys of each draw, uint64 (S, K)."""

    hosts: np.ndarray
    index: torch.Tensor
    keys: np.ndarray


Step = Callable[[Tensors, Rows], None]


class Range:
    """The steps of one kind of range: gather what is read, run, put back what outlives it."""

    def __init__(
        self, tasks: list[Task], slots: Slots, boards: Boards, graph: Graph, oracles: Oracles, report: bool
    ) -> None:
        self.slots, self.boards, self.oracles = slots, boards, oracles
        end = tasks[-1].id + 1
        self._position = {task.id: p for p, task in enumerate(tasks)}
        self._draws = 0
        tasks = [task for task in tasks if report or task.kind != "report"]
        self._steps = [self._step(task) for task in tasks]
        kept = [t.id for t in tasks if t.id in slots.of and slots.outlives(t.id, end, graph)]
        self._kept = [(self._position[q], slots.of[q]) for q in kept]
        self.widest = max((max(1, int(np.prod(t.shape, dtype=np.int64))) for t in tasks), default=1)
        row_by_row = (
            COMPILED and slots.device.type == "cpu" and slots.dtype != torch.bfloat16
        )  # numpy has no such numbers
        self.program = self._program(tasks, kept) if row_by_row else None

    def _program(self, tasks: list[Task], kept: list[int]) -> Program | None:
        """The same steps on single rows, where they are simple and all rows are of the kind that is published."""
        slots = self.slots
        if self.boards.published is None and not any(task.kind == "publish" for task in tasks):
            return None
        (vector, _) = self.boards.published or self.boards.of(next(t for t in tasks if t.kind == "publish"))[0]

        def bank(q: int, kind: Kind) -> int | None:
            slot = slots.of.get(q)
            return slots.number(slot) if slot is not None and slots.kind_of(slot) == kind else None

        def boards(task: Task) -> list[int]:
            if any(kind != vector for kind, _ in self.boards.of(task)):
                raise Unfit
            return [number for _, number in self.boards.of(task)]

        homes = {q: slots.number(slots.of[q]) for q in kept}
        return program_of(tasks, vector[0], homes, lambda q: bank(q, vector), lambda q: bank(q, ((), FLOAT)), boards)

    def run(self, rows: Rows) -> None:
        """Run for the hosts of one batch."""
        values: Tensors = {}
        for step in self._steps:
            step(values, rows)
        for position, slot in self._kept:
            self.slots.bank(slot).index_copy_(0, rows.index, values[position])

    def _read(self, q: int) -> Callable[[Tensors, Rows], torch.Tensor]:
        """How an operand is found: a result of this range, or rows of a slot, gathered once."""
        position = self._position.get(q)
        if position is not None:
            return lambda values, rows: values[position]
        slot = self.slots.of[q]

        def gathered(values: Tensors, rows: Rows) -> torch.Tensor:
            found = values.get(-1 - slot)
            if found is None:
                found = values[-1 - slot] = self.slots.bank(slot).index_select(0, rows.index)
            return found

        return gathered

    def _step(self, task: Task) -> Step:
        reads, here = [self._read(q) for q in task.reads], self._position[task.id]
        if task.kind in ("publish", "report"):
            return self._show(self.boards.of(task), reads)
        compute = self._computed(task)

        def step(values: Tensors, rows: Rows) -> None:
            values[here] = compute([read(values, rows) for read in reads], rows)

        return step

    def _show(self, boards: list[tuple[Kind, int]], reads: list[Callable[[Tensors, Rows], torch.Tensor]]) -> Step:
        def step(values: Tensors, rows: Rows) -> None:
            for board, read in zip(boards, reads, strict=True):
                self.boards.rows(board).index_copy_(0, rows.index, read(values, rows))

        return step

    def _computed(self, task: Task) -> Callable[[list[torch.Tensor], Rows], torch.Tensor]:
        """The result of a task on a batch."""
        oracles, slots, payload = self.oracles, self.slots, task.payload
        if task.kind == "map":
            form = batched_form(task, [slots.shape_of(q) for q in task.reads])
            return lambda operands, rows: form(operands)
        if task.kind == "oracle":
            name, ticket, mask, _ = payload
            batch, direction = self._draws, self._draws + 1
            self._draws += 2

            def answer(operands: list[torch.Tensor], rows: Rows) -> torch.Tensor:
                drawn = None if ticket is None else Batch(rows.keys[:, batch], ticket.size)
                return oracles.batched((name, drawn, mask, rows.keys[:, direction]), operands, rows.hosts, rows.hosts)

            return answer
        if task.kind == "random":
            draw, law = self._draws, payload[1]
            self._draws += 1
            return lambda operands, rows: oracles.random((rows.keys[:, draw], law), rows.hosts, task.shape)
        if task.kind == "published":
            (board,) = self.boards.of(task)
            return lambda operands, rows: self.boards.rows(board).index_select(0, rows.index)
        if task.kind == "initial":
            first = oracles.problem.initial(payload)
            return lambda operands, rows: first.expand(len(rows.hosts), *first.shape)
        if task.kind == "zeros":
            zero = torch.zeros(task.shape, device=slots.device, dtype=slots.dtype)
            return lambda operands, rows: zero.expand(len(rows.hosts), *zero.shape)
        constants = torch.as_tensor(payload, device=slots.device, dtype=slots.dtype)
        return lambda operands, rows: constants.index_select(0, rows.index)


def keys_of(tasks: list[Task]) -> list[int]:
    """The keys of a range's draws, in the order in which its steps use them."""
    out: list[int] = []
    for task in tasks:
        if task.kind == "oracle":
            out += [0 if task.payload[1] is None else task.payload[1].key, task.payload[3]]
        elif task.kind == "random":
            out.append(task.payload[0])
    return out


def signature(tasks: list[Task], slots: Slots, graph: Graph, report: bool) -> Any:
    """What a range does, whatever turn of a loop it is: ranges with equal signatures are one `Range`."""
    position = {task.id: p for p, task in enumerate(tasks)}
    end = tasks[-1].id + 1

    def plain(a: Any) -> Any:
        if type(a) is float:
            return a
        if isinstance(a, Ref):
            return ("here", position[a.id]) if a.id in position else ("slot", slots.of[a.id])
        if isinstance(a, list | tuple):
            return (type(a).__name__, *(plain(b) for b in a))
        if isinstance(a, slice):
            return ("slice", a.start, a.stop, a.step)
        if isinstance(a, torch.Tensor):
            return ("tensor", id(a))
        return (type(a).__name__, a)

    out: list[Any] = []
    for task in tasks:
        slot = slots.of.get(task.id)
        out += (
            task.kind, task.func, tuple([plain(a) for a in task.args]), task.shape, task.dtype, slot,
            slot is not None and slots.outlives(task.id, end, graph),
        )  # fmt: skip
        if task.kwargs:
            out.append(plain(tuple(sorted(task.kwargs.items()))))
        if task.payload is not None:
            out.append(_said(task, report))
    return tuple(out)


def _said(task: Task, report: bool) -> Any:
    """The part of a task's payload that is not a key."""
    payload = task.payload
    if task.kind == "oracle":
        name, ticket, mask, _ = payload
        return name, None if ticket is None else ticket.size, None if mask is None else mask.tobytes()
    if task.kind == "random":
        return payload[1]
    if task.kind == "constant":
        return payload.tobytes()
    if task.kind == "report":
        return (report, *payload[1].items())
    return payload if task.kind == "initial" else None
