"""The batched executor: all nodes' states in one tensor, tasks between exchanges as one segment in chunks of rows.

A Value is a buffer of shape (R, *shape), R members of the role. A buffer may be overwritten only when no live handle
and no recorded task still reads it: a segment writes its results over inputs that die in it, chunk by chunk, and mixing
goes in place. So D-PSGD needs one buffer of R x D numbers, and gradient tracking three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.errors import ProgramError
from simnet.exchange import Average, Exchange
from simnet.graph import Graph, Ref, Task
from simnet.recording import Recording
from simnet.valueplane.device import chunk_bytes, on
from simnet.valueplane.functions import batched_form
from simnet.valueplane.mixing import Mixer, Stale, whole_bytes
from simnet.valueplane.oracles import Oracles
from simnet.valueplane.rows import neighbour_rows
from simnet.valueplane.segment import INTO, SegmentPlan
from simnet.valueplane.single import common_number

FEWEST_ROWS = 32
MOST_FORMS = 4096

_ROW_WISE = frozenset({"map", "oracle", "initial", "zeros", "constant", "random"})


class Bank:
    """Buffers by task number; one that is free again serves the next taker of its shape and dtype."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers: dict[int, torch.Tensor] = {}
        self.made = self.bytes_made = 0  # buffers ever allocated, and their bytes
        self._free: dict[tuple[tuple[int, ...], torch.dtype], list[torch.Tensor]] = {}
        self._out: dict[tuple[tuple[int, ...], torch.dtype], int] = {}  # made by `take`, of each kind

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        free = self._free.get((shape, dtype))
        if free:
            return free.pop()
        self._out[shape, dtype] = self._out.get((shape, dtype), 0) + 1
        buffer = torch.empty(shape, dtype=dtype, device=self.device)
        self.made, self.bytes_made = self.made + 1, self.bytes_made + buffer.nbytes
        return buffer

    def give(self, buffer: torch.Tensor) -> None:
        kind = (tuple(buffer.shape), buffer.dtype)
        free = self._free.setdefault(kind, [])
        if len(free) < self._out.get(kind, 0):  # mixing also makes fresh memory: keep no more than was ever asked for
            free.append(buffer)

    def release(self, id: int) -> None:
        """The value of task `id` is needed no more."""
        buffer = self.buffers.pop(id, None)
        if buffer is not None:
            self.give(buffer)


class Batched:
    """Lockstep programs, all members at once."""

    name = "batched"
    computes = True  # whether there are numbers to evaluate

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype, chunk_rows: int | None = None) -> None:
        self.book, self.device, self.dtype = book, device, dtype
        self.oracles = Oracles(book, device, dtype)
        self.watch = self.oracles.watch
        self.bank = Bank(device)
        self.chunk_rows, self.chunk_bytes = chunk_rows, chunk_bytes(device)
        self._graph: Graph | None = None
        self._mixer: Mixer | None = None
        self._initial: dict[str, torch.Tensor] = {}
        self._stale: dict[Any, Stale] = {}
        self._forms: dict[Any, Callable[[list[torch.Tensor]], torch.Tensor]] = {}

    # ---- what the time plane and the run ask for -------------------------------------------------------------------

    def catch_up(self, recording: Recording, mark: int) -> None:
        """Run the recorded tasks below `mark`."""
        graph = recording.graph
        if self._graph is None:
            self._graph, graph.release = graph, self.bank.release
            self._mixer = Mixer(recording.members, self.book.n, self.device, self.dtype)
        pending = graph.pending
        if not pending or pending[0].id >= mark:
            return
        count = len(pending) if pending[-1].id < mark else next(i for i, t in enumerate(pending) if t.id >= mark)
        tasks, graph.pending = pending[:count], pending[count:]
        with self.watch.working():
            self._work_off(tasks, recording, graph)

    def _work_off(self, tasks: list[Task], recording: Recording, graph: Graph) -> None:
        """Run tasks in their order: those of single rows in segments."""
        at, count = 0, len(tasks)
        while at < count:
            end = at
            while end < count and tasks[end].kind in _ROW_WISE:
                end += 1
            if end > at:
                self._segment(tasks[at:end], recording, graph)
                at = end
            else:
                self._together(tasks[at], recording, graph)
                at += 1

    def value(self, recording: Recording, id: int) -> torch.Tensor:
        """All members' values of a task, shape (members, *shape); a view, to be read before the next `catch_up`."""
        return self.bank.buffers[id]

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        self.catch_up(recording, mark)
        return self.value(recording, task).bool().cpu().numpy()

    # ---- tasks that need no neighbour ------------------------------------------------------------------------------

    def _dtype_of(self, task: Task) -> torch.dtype:
        return {"float": self.dtype, "bool": torch.bool, "int": torch.int64}[task.dtype]

    def _segment(self, tasks: list[Task], recording: Recording, graph: Graph) -> None:
        """Run row-wise tasks in chunks of rows, each chunk through all of them while it is in the cache."""
        plan = SegmentPlan(tasks, graph, self)
        hosts, rows = recording.members, len(recording.members)
        size = self.chunk_rows or max(FEWEST_ROWS, self.chunk_bytes // (4 * max(1, plan.widest)))
        buffers = self.bank.buffers
        for a in range(0, rows, size):
            b = min(a + size, rows)
            whole = a == 0 and b == rows
            here = {q: buffers[q] if whole else buffers[q][a:b] for q in plan.inputs}
            homes = {o: h if whole else h[a:b] for o, h in plan.homes.items()}
            for j, task in enumerate(tasks):
                if j in plan.skipped:
                    continue
                into = homes.get(task.id) if plan.direct[j] else None
                result = self._run(j, task, plan, here, hosts[a:b], a, b, into)
                home = homes.get(task.id)
                if home is not None and result is not home and (plan.direct[j] or plan.copy_now[j]):
                    result = home.copy_(result)
                here[task.id] = result
                for q in plan.last_read[j]:
                    here.pop(q, None)
            for o in plan.late_copies:
                homes[o].copy_(here[o])
        plan.commit()

    def _run(
        self, j: int, task: Task, plan: SegmentPlan, here: dict[int, torch.Tensor], hosts: np.ndarray, a: int, b: int,
        into: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        kind = task.kind
        if kind == "map":
            fused = plan.fused.get(j)
            if fused is not None:
                return fused(here, into)
            elsewhere = self.device.type != "cpu" and any(isinstance(x, torch.Tensor) for x in task.args)
            if into is not None and task.func in INTO and not elsewhere:
                args = [here[x.id] if isinstance(x, Ref) else x for x in task.args]
                return INTO[task.func](*args, out=into)  # type: ignore[operator]
            if into is not None and getattr(task.func, "takes_out", False):
                args = [here[x.id] if isinstance(x, Ref) else x for x in task.args]
                if all(x.data_ptr() != into.data_ptr() for x in args[1:] if isinstance(x, torch.Tensor)):
                    return task.func(*args, out=into)  # type: ignore[misc]
            return plan.forms[j]([here[q] for q in task.reads])
        if kind == "oracle":
            return self.oracles.batched(task.payload, [here[q] for q in task.reads], hosts, np.arange(a, b), into)
        if kind == "initial":
            first = self._initial.get(task.payload)
            if first is None:
                first = self._initial[task.payload] = self.book.problem.initial(task.payload)
            return first.expand(b - a, *task.shape)
        if kind == "zeros":
            return torch.zeros((), dtype=self.dtype, device=self.device).expand(b - a, *task.shape)
        if kind == "constant":
            return on(self.device, task.payload[a:b], self.dtype)
        return self.oracles.random(task.payload, hosts, task.shape)

    def form(self, task: Task, shapes: list[tuple[int, ...]]) -> Callable[[list[torch.Tensor]], torch.Tensor]:
        """The batched form of a recorded function, built once per function and constants."""
        try:
            key = (task.func, _constants(task.args), _constants(tuple(sorted(task.kwargs.items()))), tuple(shapes))
            found = self._forms.get(key)
        except TypeError:  # constants without a hash, such as tensors
            return batched_form(task, shapes)
        if found is None:
            if len(self._forms) >= MOST_FORMS:  # constants that change from round to round, such as a decaying step
                self._forms.clear()
            found = self._forms[key] = batched_form(task, shapes)
        return found

    # ---- tasks that look at all nodes ------------------------------------------------------------------------------

    def _together(self, task: Task, recording: Recording, graph: Graph) -> None:
        if task.kind in ("mix", "rows"):
            self._exchange(task, recording, graph)
        elif task.kind in ("average", "all_gather"):
            self._average(task, recording, graph)
        elif task.kind == "read":
            task.payload.number = common_number(list(self.bank.buffers[task.reads[0]].reshape(-1)))
        else:
            raise ProgramError(f"the batched executor cannot run {task!r} in a lockstep program")
        self._read(task, graph)
        if task.id not in graph.live and task.id not in graph.readers:
            self.bank.release(task.id)

    def _read(self, task: Task, graph: Graph) -> None:
        """Count the task's reads as done and free what nobody asks for any more."""
        for q in task.reads:
            graph.readers[q] -= 1
            if not graph.readers[q]:
                del graph.readers[q]
                if q not in graph.live:
                    self.bank.release(q)

    def dies(self, graph: Graph, q: int, reads: int) -> bool:
        """Whether nobody can ask for q after these reads."""
        return q not in graph.live and graph.readers.get(q, 0) == reads

    def _exchange(self, task: Task, recording: Recording, graph: Graph) -> None:
        x, operand, names = task.payload
        given = dict(zip(names, task.reads[1:], strict=True))
        buffers, q = self.bank.buffers, task.reads[0]
        value = buffers[q]
        active = None if x.active_n is None else x.active_n[recording.members]
        stand_in = buffers[given["missing"]] if "missing" in given else None
        if task.kind == "rows":
            assert self._mixer is not None
            stale = self._stale_of(x, operand)
            buffers[task.id] = neighbour_rows(x, self._mixer.row_of, task.shape, value, stand_in, active, stale)
            return
        assert self._mixer is not None
        row_of, stale = self._mixer.row_of, self._stale_of(x, operand)
        stored = stale.update(x, value, row_of[x.edges.source], row_of[x.edges.target]) if stale else None
        in_place = task.reads.count(q) == 1 and self.dies(graph, q, 1)
        small = value.nbytes <= whole_bytes(self.device)
        out = value if in_place and not small else None if small else self.bank.take(tuple(value.shape), value.dtype)
        mixed = self._mixer.mix(x, value, out, stand_in, stored, active)
        if in_place:
            del buffers[q]
        buffers[task.id] = mixed

    def _stale_of(self, x: Exchange, operand: int) -> Stale | None:
        """Where an exchange under `missing="stale"` keeps what was last received on each edge."""
        return self._stale.setdefault((x.channel, operand), Stale(x.edges.size)) if x.missing == "stale" else None

    def _average(self, task: Task, recording: Recording, graph: Graph) -> None:
        x: Average = task.payload[0]
        members, q = recording.members, task.reads[0]
        value = self.bank.buffers[q]
        if x.kind == "all_gather":
            self.bank.buffers[task.id] = value.clone().expand(len(value), *value.shape)
            return
        among, to = x.among_n[members], x.to_n[members]
        mean = (value if among.all() else value[on(self.device, np.flatnonzero(among))]).mean(0)
        in_place = self.dies(graph, q, 1)
        out = value if in_place else self.bank.take(tuple(value.shape), value.dtype)
        if not in_place:
            out.copy_(value)
        if to.all():
            out.copy_(mean.expand_as(out))
        else:
            out[on(self.device, np.flatnonzero(to))] = mean
        if in_place:
            del self.bank.buffers[q]
        self.bank.buffers[task.id] = out


def _constants(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A task's arguments without its Refs, fit for a dictionary's key."""
    out: list[Any] = []
    for a in args:
        if isinstance(a, Ref):
            out.append(Ref)
        elif isinstance(a, list | tuple):
            out.append((type(a), _constants(tuple(a))))
        elif isinstance(a, slice):
            out.append(("slice", a.start, a.stop, a.step))
        else:
            hash(a)
            out.append((type(a), a))
    return tuple(out)
