"""Many nodes' tasks at once where nodes do not run in step: roles, messages between single nodes, numbers read midway.

Nodes are followed as in `Following`, but a row is a `Cell`: not computed yet, with the cells that it rests on. When
numbers are asked for, pending cells run by dependency level, all cells of one task and level as one batch.

Legend: S cells of one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.exchange import Exchange
from simnet.graph import Task
from simnet.recording import Recording
from simnet.valueplane.device import on
from simnet.valueplane.following import Following
from simnet.valueplane.functions import batched_form
from simnet.valueplane.mixing import sum_dtype
from simnet.valueplane.single import Row

MOST_PENDING = 8192  # cells kept before they are run anyway


class Cell:
    """One node's value of one operation. `key` says what can run together with it; `info` is the cell's own part."""

    __slots__ = ("_new", "args", "info", "key", "level", "shape", "value")

    def __init__(self, key: Any, args: list[Cell], info: Any, shape: tuple[int, ...], new: Any) -> None:
        self.key, self.args, self.info, self.shape, self._new = key, args, info, shape, new
        self.level: int = 1 + max((a.level for a in args), default=0)
        self.value: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: int) -> Cell:
        cell: Cell = self._new(("pick", index), [self], None, self.shape[1:])
        return cell


class Scattered(Following):
    """Follows nodes like the reference, and computes many of their rows at once."""

    name = "batched"
    at_once = False

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(book, device, dtype)
        self._pending: list[Cell] = []
        self._known: dict[Any, Cell] = {}
        self._forms: dict[Task, Callable[[list[torch.Tensor]], torch.Tensor]] = {}

    # ---- cells instead of tensors ----------------------------------------------------------------------------------

    def _cell(self, key: Any, args: list[Any], info: Any, shape: tuple[int, ...]) -> Any:
        cell = Cell(key, args, info, tuple(shape), self._cell)
        self._pending.append(cell)
        if len(self._pending) >= MOST_PENDING:
            self.flush()
        return cell

    def _ready(self, value: torch.Tensor) -> Any:
        cell = Cell(None, [], None, tuple(value.shape), self._cell)
        cell.level, cell.value = 0, value
        return cell

    def evaluate(self, task: Task, args: list[Row], host: int, row: int) -> Row:
        if task.kind in ("map", "oracle", "random"):
            cell: Row = self._cell(task, args, (host, row), task.shape)
            return cell
        if task.kind in ("initial", "zeros"):
            key = (task.kind, task.payload, task.shape)
            if key not in self._known:
                self._known[key] = self._ready(super().evaluate(task, [], host, row))
            return self._known[key]  # type: ignore[return-value]
        constant: Row = self._ready(super().evaluate(task, [], host, row))
        return constant

    def mix_one(self, x: Exchange, host: int, own: Row, others: list[Row | None], stand_ins: list[Row | None]) -> Row:
        assert x.weight_E is not None and x.own_n is not None
        a = int(x.edges.in_ptr[host])
        rows, weights = [own], [float(x.own_n[host])]
        for e, (message, stand_in) in enumerate(zip(others, stand_ins, strict=True)):
            row = message if message is not None else stand_in
            if row is not None:
                rows.append(row)
                weights.append(float(x.weight_E[a + e]))
        cell: Row = self._cell(("mix", len(rows), tuple(own.shape)), rows, weights, tuple(own.shape))
        return cell

    def rows_one(self, others: list[Row | None], stand_ins: list[Row | None], shape: tuple[int, ...]) -> Row:
        chosen = [m if m is not None else s for m, s in zip(others, stand_ins, strict=True)]
        rows = [self.blank(shape[1:]) if row is None else row for row in chosen]
        rows += [self.blank(shape[1:])] * (shape[0] - len(rows))
        return self.stack(rows) if rows else self.blank(shape)

    def stack(self, rows: list[Row]) -> Row:
        cell: Row = self._cell(("stack", len(rows), rows[0].shape), rows, None, (len(rows), *rows[0].shape))
        return cell

    def mean(self, rows: list[Row]) -> Row:
        cell: Row = self._cell(("mean", len(rows), rows[0].shape), rows, None, tuple(rows[0].shape))
        return cell

    def blank(self, shape: tuple[int, ...]) -> Row:
        key = ("blank", tuple(shape))
        if key not in self._known:
            self._known[key] = self._ready(super().blank(shape))
        return self._known[key]  # type: ignore[return-value]

    def number(self, row: Row) -> float:
        return float(self._force(row))

    def report_of(self, recording: Recording, m: int, r: int) -> dict[str, Any]:
        return {
            name: tuple(self._force(c) for c in given) if isinstance(given, tuple) else self._force(given)
            for name, given in super().report_of(recording, m, r).items()
        }

    def _force(self, cell: Any) -> torch.Tensor:
        if cell.value is None:
            self.flush()
        value: torch.Tensor = cell.value
        return value

    # ---- running them ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Run all pending cells, level by level, the cells of one key and level together."""
        with self.watch.working():
            self._flush()

    def _flush(self) -> None:
        levels: dict[int, dict[Any, list[Cell]]] = {}
        for cell in self._pending:
            levels.setdefault(cell.level, {}).setdefault(cell.key, []).append(cell)
        self._pending.clear()
        for level in sorted(levels):
            for key, cells in levels.pop(level).items():  # what nobody asks for again goes with its level
                results = self._together(key, cells)
                for cell, value in zip(cells, results, strict=True):
                    cell.value, cell.args, cell.level = value, [], 0

    def _together(self, key: Any, cells: list[Cell]) -> Any:
        if len(cells) == 1 and isinstance(key, Task) and key.kind == "map":  # a server's: no batch to make
            (cell,) = cells
            return [super().evaluate(key, [a.value for a in cell.args], *cell.info)]
        operands = [torch.stack([c.args[j].value for c in cells]) for j in range(len(cells[0].args))]
        if isinstance(key, Task):
            return self._tasks_together(key, cells, operands).unbind(0)
        kind = key[0]
        if kind == "pick":
            return operands[0][:, key[1]].unbind(0)
        if kind == "stack":
            return torch.stack(operands, 1).unbind(0)
        if kind == "mean":
            return torch.stack(operands, 1).mean(1).unbind(0)
        dtype = sum_dtype(self.dtype)
        weights = on(self.device, np.array([c.info for c in cells]), dtype)  # (S, terms)
        spread = (slice(None), *(None,) * (operands[0].dim() - 1))
        total = operands[0].to(dtype) * weights[:, 0][spread]
        for j in range(1, len(operands)):
            total += operands[j].to(dtype) * weights[:, j][spread]
        return total.to(self.dtype).unbind(0)

    def _tasks_together(self, task: Task, cells: list[Cell], operands: list[torch.Tensor]) -> torch.Tensor:
        if task.kind == "map":
            form = self._forms.get(task)
            if form is None:
                if len(self._forms) > 4096:
                    self._forms.clear()
                form = self._forms[task] = batched_form(task, [tuple(a.shape) for a in cells[0].args])
            return form(operands)
        hosts = np.array([c.info[0] for c in cells])
        if task.kind == "random":
            return self.oracles.random(task.payload, hosts, task.shape)
        return self.oracles.batched(task.payload, operands, hosts, np.array([c.info[1] for c in cells]))
