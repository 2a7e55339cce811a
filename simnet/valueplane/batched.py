"""The batched executor: all nodes' states in one tensor, tasks between exchanges as one segment in chunks of rows.

A Value is a buffer of shape (R, *shape), R members of the role. A buffer may be overwritten only when no live handle and
no recorded task still reads it: a segment writes its results over inputs that die in it, chunk by chunk, and mixing goes
in place. So D-PSGD needs one buffer of R x D numbers, and gradient tracking three.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.errors import ProgramError
from simnet.exchange import Average, Exchange
from simnet.graph import Graph, Ref, Task
from simnet.recording import Recording
from simnet.valueplane.functions import batched_form
from simnet.valueplane.mixing import WHOLE_BYTES, Mixer, Stale
from simnet.valueplane.oracles import Oracles
from simnet.valueplane.single import common_number

CHUNK_BYTES = 2 << 20
FEWEST_ROWS = 32

_ROW_WISE = frozenset({"map", "oracle", "initial", "zeros", "constant", "random"})
_INTO = {operator.add: torch.add, operator.sub: torch.sub, operator.mul: torch.mul}  # can write into a given buffer


class Bank:
    """Buffers by task number; one that is free again serves the next taker of its shape and dtype."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers: dict[int, torch.Tensor] = {}
        self.made = 0  # buffers ever allocated, for the memory tests
        self._free: dict[tuple[tuple[int, ...], torch.dtype], list[torch.Tensor]] = {}
        self._out: dict[tuple[tuple[int, ...], torch.dtype], int] = {}  # made by `take`, of each kind

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        free = self._free.get((shape, dtype))
        if free:
            return free.pop()
        self.made += 1
        self._out[shape, dtype] = self._out.get((shape, dtype), 0) + 1
        return torch.empty(shape, dtype=dtype, device=self.device)

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

    def __init__(
        self, book: Book, device: torch.device, dtype: torch.dtype, chunk_rows: int | None = None
    ) -> None:
        self.book, self.device, self.dtype = book, device, dtype
        self.oracles = Oracles(book, device, dtype)
        self.bank = Bank(device)
        self.chunk_rows = chunk_rows
        self._graph: Graph | None = None
        self._mixer: Mixer | None = None
        self._initial: dict[str, torch.Tensor] = {}
        self._stale: dict[Any, Stale] = {}
        self._forms: dict[Any, Callable[[list[torch.Tensor]], torch.Tensor]] = {}
        self._tables: dict[int, tuple[Any, torch.Tensor]] = {}

    # ---- what the time plane and the run ask for ----------------------------------------------------------------------

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
        at = 0
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

    # ---- tasks that need no neighbour ----------------------------------------------------------------------------------

    def _dtype_of(self, task: Task) -> torch.dtype:
        return {"float": self.dtype, "bool": torch.bool, "int": torch.int64}[task.dtype]

    def _segment(self, tasks: list[Task], recording: Recording, graph: Graph) -> None:
        """Run row-wise tasks in chunks of rows, each chunk through all of them while it is in the cache."""
        plan = _SegmentPlan(tasks, graph, self)
        hosts, rows = recording.members, len(recording.members)
        size = self.chunk_rows or max(FEWEST_ROWS, CHUNK_BYTES // (4 * max(1, plan.widest)))
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
                if task.id in homes:
                    home = homes[task.id]
                    if result is not home:
                        if plan.direct[j] or plan.copy_now[j]:
                            home.copy_(result)
                            result = home
                here[task.id] = result
                for q in plan.last_read[j]:
                    here.pop(q, None)
            for o in plan.late_copies:
                homes[o].copy_(here[o])
        plan.commit()

    def _run(
        self, j: int, task: Task, plan: _SegmentPlan, here: dict[int, torch.Tensor], hosts: np.ndarray, a: int, b: int,
        into: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        kind = task.kind
        if kind == "map":
            fused = plan.fused.get(j)
            if fused is not None:
                function, left, right, alpha = fused
                return function(here[left], here[right], alpha=alpha, out=into)  # type: ignore[no-any-return]
            if into is not None and task.func in _INTO:
                args = [here[x.id] if isinstance(x, Ref) else x for x in task.args]
                return _INTO[task.func](*args, out=into)  # type: ignore[no-any-return,operator]
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
            return torch.from_numpy(np.ascontiguousarray(task.payload[a:b])).to(self.device, self.dtype)
        return self.oracles.random(task.payload, hosts, task.shape)

    def form(self, task: Task, shapes: list[tuple[int, ...]]) -> Callable[[list[torch.Tensor]], torch.Tensor]:
        """The batched form of a recorded function, built once per function and constants."""
        try:
            key = (task.func, _constants(task.args), _constants(tuple(sorted(task.kwargs.items()))), tuple(shapes))
            found = self._forms.get(key)
        except TypeError:  # constants without a hash, such as tensors
            return batched_form(task, shapes)
        if found is None:
            found = self._forms[key] = batched_form(task, shapes)
        return found

    # ---- tasks that look at all nodes -----------------------------------------------------------------------------------

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
            buffers[task.id] = self._rows(x, operand, task, recording, value, stand_in, active)
            return
        assert self._mixer is not None
        stored = None
        if x.missing == "stale":
            stored = self._stored(x, operand, recording, value)
        in_place = task.reads.count(q) == 1 and self.dies(graph, q, 1)
        small = value.nbytes <= WHOLE_BYTES
        out = value if in_place and not small else None if small else self.bank.take(tuple(value.shape), value.dtype)
        mixed = self._mixer.mix(x, value, out, stand_in, stored, active)
        if in_place:
            del buffers[q]
        buffers[task.id] = mixed

    def _stored(self, x: Exchange, operand: int, recording: Recording, value: torch.Tensor) -> torch.Tensor:
        """Under `missing="stale"`, the row (E, ...) that stands for each edge's message."""
        assert self._mixer is not None
        key = (x.channel, operand)
        if key not in self._stale:
            self._stale[key] = Stale(x.edges.size)
        row_of = self._mixer.row_of
        return self._stale[key].update(x, value, row_of[x.edges.source], row_of[x.edges.target])

    def _rows(
        self, x: Exchange, operand: int, task: Task, recording: Recording, value: torch.Tensor,
        stand_in: torch.Tensor | None, active: np.ndarray | None,
    ) -> torch.Tensor:  # fmt: skip
        """One row per in-neighbour, padded with zeros: shape (R, in, d)."""
        assert self._mixer is not None
        edges, row_of = x.edges, self._mixer.row_of
        per_neighbour = value.dim() == 3  # a row for each out-neighbour
        source, target = row_of[edges.source], row_of[edges.target]
        position = np.arange(edges.size) - edges.in_ptr[edges.target]
        out_rank = np.empty(edges.size, np.int64)
        for of_host in edges.out_edges:
            out_rank[of_host] = np.arange(len(of_host))
        on = self._index
        sent = value[on(source), on(out_rank)] if per_neighbour else value[on(source)]
        lost = np.zeros(edges.size, bool) if x.got_E is None else ~x.got_E
        if x.missing == "stale":
            sent = self._stale_rows(x, operand, sent, value, target, out_rank)
            lost[:] = False
        elif lost.any():
            which = np.flatnonzero(lost)
            if x.missing == "zero":
                rows: Any = 0.0
            elif stand_in is not None:
                rows = stand_in[on(target[which]), on(position[which])] if stand_in.dim() == 3 else stand_in[on(target[which])]
            elif per_neighbour:
                rows = self._own_rows(x, value, which, target, out_rank)
            else:
                rows = value[on(target[which])]
            sent[on(which)] = rows
        out = torch.zeros((len(value), *task.shape), dtype=value.dtype, device=value.device)
        out[on(target), on(position)] = sent
        if active is not None:
            out[on(np.flatnonzero(~active))] = 0
        return out

    def _own_rows(
        self, x: Exchange, value: torch.Tensor, which: np.ndarray, target: np.ndarray, out_rank: np.ndarray
    ) -> torch.Tensor:
        """What the receiver itself sends to the neighbour whose message is missing (zero where it sends none)."""
        back = x.edges.reverse_E[which]
        rank = np.where(back >= 0, out_rank[np.maximum(back, 0)], 0)
        rows = value[self._index(target[which]), self._index(rank)]
        rows[self._index(np.flatnonzero(back < 0))] = 0
        return rows

    def _stale_rows(
        self, x: Exchange, operand: int, sent: torch.Tensor, value: torch.Tensor, target: np.ndarray, out_rank: np.ndarray
    ) -> torch.Tensor:
        edges = np.arange(x.edges.size)
        key = (x.channel, operand)
        stale = self._stale.setdefault(key, Stale(x.edges.size))
        own = self._own_rows(x, value, edges, target, out_rank) if value.dim() == 3 else value[self._index(target)]
        both = torch.cat((sent, own))  # rows of messages, then the receivers' own
        return stale.update(x, both, edges, edges + len(edges)).clone()

    def _index(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)

    def _average(self, task: Task, recording: Recording, graph: Graph) -> None:
        x: Average = task.payload[0]
        members, q = recording.members, task.reads[0]
        value = self.bank.buffers[q]
        if x.kind == "all_gather":
            self.bank.buffers[task.id] = value.clone().expand(len(value), *value.shape)
            return
        among, to = x.among_n[members], x.to_n[members]
        mean = (value if among.all() else value[self._index(np.flatnonzero(among))]).mean(0)
        in_place = self.dies(graph, q, 1)
        out = value if in_place else self.bank.take(tuple(value.shape), value.dtype)
        if not in_place:
            out.copy_(value)
        if to.all():
            out.copy_(mean.expand_as(out))
        else:
            out[self._index(np.flatnonzero(to))] = mean
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


class _SegmentPlan:
    """What a segment reads, what it leaves behind, and over which dying inputs it writes."""

    def __init__(self, tasks: list[Task], graph: Graph, executor: Batched) -> None:
        self.tasks, self.graph, self.executor = tasks, graph, executor
        inside = {t.id for t in tasks}
        self.used: dict[int, int] = {}
        last: dict[int, int] = {}
        for j, t in enumerate(tasks):
            for q in t.reads:
                self.used[q] = self.used.get(q, 0) + 1
                last[q] = j
        buffers = executor.bank.buffers
        self.inputs = [q for q in self.used if q not in inside]
        live, readers = graph.live, graph.readers
        outputs = [t for t in tasks if t.id in live or readers.get(t.id, 0) > self.used.get(t.id, 0)]
        dying = [q for q in self.inputs if executor.dies(graph, q, self.used[q])]
        rows = len(next(iter(buffers.values()))) if buffers else 0
        self.homes: dict[int, torch.Tensor] = {}
        self.overwritten: list[int] = []
        self._over: dict[int, int] = {}  # output -> the input whose buffer it gets
        widths = [max(1, int(np.prod(t.shape, dtype=np.int64))) for t in tasks]
        self.widest = max(widths)
        for t in outputs:
            dtype = executor._dtype_of(t)
            match = next((q for q in dying if tuple(buffers[q].shape[1:]) == t.shape and buffers[q].dtype == dtype), None)
            if match is not None and buffers[match].is_contiguous():
                dying.remove(match)
                self.overwritten.append(match)
                self._over[t.id] = match
                self.homes[t.id] = buffers[match]
            else:
                n = rows or self._rows()
                self.homes[t.id] = executor.bank.take((n, *t.shape), dtype)
        position = {t.id: j for j, t in enumerate(tasks)}
        shape_of = {t.id: t.shape for t in tasks}
        self.forms: dict[int, Callable[[list[torch.Tensor]], torch.Tensor]] = {}
        self.fused: dict[int, tuple[Callable[..., torch.Tensor], int, int, float]] = {}
        self.skipped: set[int] = set()
        self.direct: list[bool] = []
        self.copy_now: list[bool] = []
        self.late_copies: list[int] = []
        self.last_read: list[list[int]] = [[] for _ in tasks]
        for q, j in last.items():
            if q not in self.homes:
                self.last_read[j].append(q)
        for j, t in enumerate(tasks):
            if t.kind == "map":
                shapes = [shape_of[q] if q in shape_of else tuple(buffers[q].shape[1:]) for q in t.reads]
                self._fuse(j, t, tasks, position, shapes, last)
                self.forms[j] = executor.form(t, shapes)
        for j, t in enumerate(tasks):  # once fusing has settled what is read where
            over = self._over.get(t.id)
            free = over is None or last[over] <= j  # nobody reads the old rows after this task
            writable = t.id in self.homes and free and self._same_shape(t, shape_of, buffers)
            if t.kind == "oracle":
                writable = writable and over not in t.reads
            self.direct.append(writable)
            self.copy_now.append(t.id in self.homes and free)
            if t.id in self.homes and not free:
                self.late_copies.append(t.id)

    def _rows(self) -> int:
        mixer = self.executor._mixer
        assert mixer is not None
        return len(mixer.members)

    def _same_shape(self, t: Task, shape_of: dict[int, Any], buffers: dict[int, torch.Tensor]) -> bool:
        """Whether the result can be written straight into its buffer: every operand has its very shape."""
        if t.kind == "oracle":
            return t.payload[0] == "gradient"
        if t.kind != "map" or (t.func not in _INTO and t.id not in self.homes):
            return False
        return all((shape_of[q] if q in shape_of else tuple(buffers[q].shape[1:])) == t.shape for q in t.reads)

    def _fuse(
        self, j: int, t: Task, tasks: list[Task], position: dict[int, int], shapes: list[tuple[int, ...]],
        last: dict[int, int],
    ) -> None:  # fmt: skip
        """a - c * b with a number c, the product read by nobody else, becomes one operation."""
        if t.func not in (operator.sub, operator.add) or len(t.reads) != 2 or shapes[0] != shapes[1]:
            return
        right = t.args[1]
        k = position.get(right.id)
        if k is None or k in self.skipped or self.used[right.id] != 1 or right.id in self.homes:
            return
        product = tasks[k]
        if product.func is not operator.mul or len(product.reads) != 1 or product.shape != t.shape:
            return
        factor = next(a for a in product.args if not isinstance(a, Ref))
        other = product.reads[0]
        if not isinstance(factor, int | float):
            return
        self.skipped.add(k)
        self.last_read[k] = []
        self.last_read[j] = [q for q in (*self.last_read[j], other) if q != right.id and q not in self.homes]
        if last[other] > j:
            self.last_read[j] = [q for q in self.last_read[j] if q != other]
        last[other] = max(last[other], j)
        function = torch.sub if t.func is operator.sub else torch.add
        self.fused[j] = (function, t.args[0].id, other, float(factor))

    def commit(self) -> None:
        """All rows are through: hand buffers to their new owners and count the reads as done."""
        bank, graph = self.executor.bank, self.graph
        for q in self.overwritten:
            del bank.buffers[q]
        for o, home in self.homes.items():
            bank.buffers[o] = home
        for q, count in self.used.items():
            graph.readers[q] -= count
            if not graph.readers[q]:
                del graph.readers[q]
                if q not in graph.live and q not in self.homes:
                    bank.release(q)
        for o in self.homes:
            if o not in graph.live and o not in graph.readers:
                bank.release(o)
