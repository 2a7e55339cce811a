"""What a segment of tasks reads, what it leaves behind, and over which dying inputs it writes.

A segment is the row-wise tasks between two exchanges. Its results go straight into their buffers where nobody reads the
old rows any more; `a - c * b` becomes one operation where nobody else wants the product.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simnet.graph import FLOAT, Graph, Ref, Task

if TYPE_CHECKING:
    from simnet.valueplane.batched import Batched

INTO = {operator.add: torch.add, operator.sub: torch.sub, operator.mul: torch.mul}  # can write into a given buffer

Fused = Callable[[dict[int, torch.Tensor], torch.Tensor | None], torch.Tensor]  # of the values here, into a buffer


class SegmentPlan:
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
            match = next(
                (q for q in dying if tuple(buffers[q].shape[1:]) == t.shape and buffers[q].dtype == dtype), None
            )
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
        self.fused: dict[int, Fused] = {}
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
        if t.kind != "map" or (t.func not in INTO and t.id not in self.homes):
            return False
        return all((shape_of[q] if q in shape_of else tuple(buffers[q].shape[1:])) == t.shape for q in t.reads)

    def _fuse(
        self, j: int, t: Task, tasks: list[Task], position: dict[int, int], shapes: list[tuple[int, ...]],
        last: dict[int, int],
    ) -> None:  # fmt: skip
        """a - c * b, the product read by nobody else, becomes one operation: c a number, or of the shape of a and b."""
        if t.func not in (operator.sub, operator.add) or len(t.reads) != 2 or shapes[0] != shapes[1]:
            return
        right = t.args[1]
        k = position.get(right.id)
        if k is None or k in self.skipped or self.used[right.id] != 1 or right.id in self.homes:
            return
        product = tasks[k]
        if product.func is not operator.mul or product.shape != t.shape:
            return
        buffers = self.executor.bank.buffers
        for other in product.reads:
            inside = tasks[position[other]] if other in position else None
            kind, shape = (inside.dtype, inside.shape) if inside else (buffers[other].dtype, buffers[other].shape[1:])
            if kind not in (FLOAT, self.executor.dtype) or tuple(shape) != t.shape:
                return  # a mask or an index, or a number for each node
        run = _with_product(t.func is operator.sub, t.args[0].id, product.args)
        if run is None:
            return
        self.skipped.add(k)
        self.last_read[k] = []
        for other in set(product.reads):
            self.last_read[j] = [q for q in (*self.last_read[j], other) if q != right.id and q not in self.homes]
            if last[other] > j:
                self.last_read[j] = [q for q in self.last_read[j] if q != other]
            last[other] = max(last[other], j)
        self.fused[j] = run

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


def _with_product(minus: bool, a: int, factors: tuple[Any, ...]) -> Fused | None:
    """a - c b (or a + c b) as one call; None where c is neither a number nor a Value."""
    refs = [f.id for f in factors if isinstance(f, Ref)]
    if len(refs) == 2:
        b, c, sign = refs[0], refs[1], -1.0 if minus else 1.0
        return lambda here, into: torch.addcmul(here[a], here[b], here[c], value=sign, out=into)
    number = next(f for f in factors if not isinstance(f, Ref))
    if not isinstance(number, int | float):
        return None
    function, b, factor = torch.sub if minus else torch.add, refs[0], float(number)
    return lambda here, into: function(here[a], here[b], alpha=factor, out=into)
