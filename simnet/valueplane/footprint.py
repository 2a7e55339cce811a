"""How many bytes of states a lockstep program keeps, found before the start: its tasks are followed without computing.

Buffers are taken, overwritten and freed as `Batched` would do it for large states, on PyTorch's meta device, where a
tensor has a shape and no memory.

Legend: R rows (members of a role), E edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.errors import ProgramError
from simnet.graph import Graph, Task
from simnet.recording import Recording
from simnet.valueplane.batched import Batched
from simnet.valueplane.segment import SegmentPlan

_META = torch.device("meta")


class Footprint(Batched):
    """Follows the tasks of a program; `bytes` is what its buffers come to."""

    name = "followed"
    computes = False

    def __init__(self, book: Book, dtype: torch.dtype) -> None:
        super().__init__(book, _META, dtype)
        self._kept: dict[Any, int] = {}  # rows kept for what is missing, by channel and operand

    @property
    def bytes(self) -> int:
        """Bytes of all buffers taken so far, and of the rows kept for missing messages."""
        return self.bank.bytes_made + sum(self._kept.values())

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        raise ProgramError("nothing is computed here")

    def _together(self, task: Task, recording: Recording, graph: Graph) -> None:
        if task.kind == "read":
            raise ProgramError("nothing is computed here")
        super()._together(task, recording, graph)

    def _segment(self, tasks: list[Task], recording: Recording, graph: Graph) -> None:
        SegmentPlan(tasks, graph, self).commit()

    def _exchange(self, task: Task, recording: Recording, graph: Graph) -> None:
        x, operand, _ = task.payload
        buffers, q = self.bank.buffers, task.reads[0]
        value = buffers[q]
        if x.missing == "stale":
            self._kept[x.channel, operand] = x.edges.size * value[0].nbytes
        if task.kind == "rows":
            buffers[task.id] = self.bank.take((len(value), *task.shape), value.dtype)
            return
        if task.reads.count(q) == 1 and self.dies(graph, q, 1):
            buffers[task.id] = buffers.pop(q)
        else:
            buffers[task.id] = self.bank.take(tuple(value.shape), value.dtype)
