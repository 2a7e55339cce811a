"""Light work on rows, one operation after another in compiled code: sums and differences of rows, and means of two.

What lies between two oracles is mostly a few sums over one row. As tensors, such work comes in ever smaller batches, as
long as chains of meetings are; as a loop over rows it costs what its memory costs. Numbers are the same to the bit:
each operation rounds as torch's does.

Legend: n hosts, D numbers of a row, K banks of rows, O operations, Q instructions.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from simnet.graph import FLOAT, Ref, Task
from simnet.jit import kept

COPY, ADD, SUB, MUL, NEGATE, TIMES, PLUS, OVER, FROM, SCALED, SUB_TIMES, SUB_SCALED, ADD_TIMES = range(13)
_TWO = {operator.add: ADD, operator.sub: SUB, operator.mul: MUL}
_TWO |= {torch.add: ADD, torch.sub: SUB, torch.mul: MUL}


@dataclass
class Program:
    """Instructions on banks: `code` (Q, 4) holds opcode, where to, and two operands; `number` (Q,) a constant.

    An operand from `SCRATCH` on is a row of scratch; the second of SCALED is a bank of scalars.
    """

    code: np.ndarray
    number: np.ndarray
    scratch: int


SCRATCH = 1 << 20


class Unfit(Exception):
    """Not made of such operations."""


def program_of(
    tasks: list[Task], shape: tuple[int, ...], homes: dict[int, int], vectors: Any, scalars: Any, boards: Any
) -> Program | None:
    """The tasks of a range as instructions; None where they need more than that.

    shape: that of every row, (D,). homes: the bank of each result that outlives the range. vectors(q), scalars(q): the
    bank of a task's value from before the range, or None. boards(task): the banks that a `publish`, `published` or
    `report` task touches.
    """
    code: list[tuple[int, int, int, int]] = []
    numbers: list[float] = []
    inside: dict[int, int] = {}

    def emit(op: int, to: int, a: int, b: int = 0, c: float = 0.0) -> None:
        code.append((op, to, a, b))
        numbers.append(c)

    def read(q: int) -> int:
        found = inside.get(q, vectors(q))
        if found is None:
            raise Unfit
        return int(found)

    def home(task: Task) -> int:
        if task.dtype != FLOAT or task.shape != shape:
            raise Unfit
        inside[task.id] = homes.get(task.id, SCRATCH + len(inside))
        return inside[task.id]

    try:
        for task in tasks:
            if task.kind in ("publish", "report"):
                for q, board in zip(task.reads, boards(task), strict=True):
                    emit(COPY, board, read(q))
            elif task.kind == "published":
                if task.id not in homes and not _replaced(task, tasks):
                    inside[task.id] = boards(task)[0]
                else:
                    emit(COPY, home(task), boards(task)[0])
            elif task.kind == "map":
                _arithmetic(task, read, scalars, partial(home, task), emit)
            else:
                return None
    except Unfit:
        return None
    code, numbers = _shorter(code, numbers)
    table = np.array(code, np.int64).reshape(-1, 4)
    return Program(table, np.array(numbers, np.float64), len(inside))


Instruction = tuple[int, int, int, int]


def _shorter(code: list[Instruction], numbers: list[float]) -> tuple[list[Instruction], list[float]]:
    """The same with fewer passes over memory: what is scratch for the next instruction alone is not written down."""
    used = Counter(operand for op, _, a, b in code for operand in _operands(op, a, b))
    out: list[Instruction] = []
    constants: list[float] = []
    for (op, to, a, b), c in zip(code, numbers, strict=True):
        last = out[-1] if out else (COPY, -1, -1, -1)
        passed_on = last[1] >= SCRATCH and used[last[1]] == 1
        if op == COPY and passed_on and last[1] == a:
            out[-1] = (last[0], to, *last[2:])
        elif passed_on and last[1] == b and (op, last[0]) in _FUSED and last[1] != a:
            out[-1] = (_FUSED[op, last[0]], to, a, last[2] if last[0] == TIMES else _packed(last[2], last[3]))
        else:
            out.append((op, to, a, b))
            constants.append(c)
    return out, constants


_FUSED = {(SUB, TIMES): SUB_TIMES, (ADD, TIMES): ADD_TIMES, (SUB, SCALED): SUB_SCALED}


def _packed(vector: int, scalar: int) -> int:
    """A vector's and a scalar's bank in one operand."""
    return vector << 24 | scalar


def _operands(op: int, a: int, b: int) -> tuple[int, ...]:
    return (a, b) if op in (ADD, SUB, MUL) else (a,)


def _replaced(taken: Task, tasks: list[Task]) -> bool:
    """Whether what was read as published is still read after something else is."""
    after = [t for t in tasks if t.id > taken.id]
    published = next((t.id for t in after if t.kind == "publish"), None)
    return published is not None and any(t.id > published and taken.id in t.reads for t in after)


def _arithmetic(task: Task, read: Any, scalars: Any, home: Any, emit: Any) -> None:
    func, args = task.func, task.args
    if task.kwargs or not all(isinstance(a, Ref | int | float) for a in args):
        raise Unfit
    if func in (operator.neg, torch.neg):
        a = read(args[0].id)
        emit(NEGATE, home(), a)
        return
    if len(args) != 2:
        raise Unfit
    x, y = args
    if isinstance(x, Ref) and isinstance(y, Ref):
        if func not in _TWO:
            raise Unfit
        for one, other in ((x, y), (y, x)):
            if func in (operator.mul, torch.mul) and scalars(other.id) is not None:
                a = read(one.id)
                emit(SCALED, home(), a, scalars(other.id))
                return
        a, b = read(x.id), read(y.id)
        emit(_TWO[func], home(), a, b)
        return
    reference, constant = (x, y) if isinstance(x, Ref) else (y, x)
    a = read(reference.id)
    if func in (operator.mul, torch.mul):
        emit(TIMES, home(), a, 0, float(constant))
    elif func in (operator.add, torch.add):
        emit(PLUS, home(), a, 0, float(constant))
    elif func in (operator.sub, torch.sub):
        emit(PLUS if reference is x else FROM, home(), a, 0, -float(constant) if reference is x else float(constant))
    elif func in (operator.truediv, torch.div, torch.true_divide) and reference is x:
        emit(OVER, home(), a, 0, float(constant))
    else:
        raise Unfit


def joined(programs: list[Program | None], dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """All programs in one table: where each begins (P + 1,), code (Q, 4), constants (Q,), and the rows of scratch."""
    there = [p or Program(np.zeros((0, 4), np.int64), np.zeros(0), 0) for p in programs]
    starts = np.concatenate(([0], np.cumsum([len(p.code) for p in there])))
    code = np.concatenate([np.zeros((0, 4), np.int64), *(p.code for p in there)])
    numbers = np.concatenate([np.zeros(0), *(p.number for p in there)]).astype(dtype)
    return starts, code, numbers, 1 + max((p.scratch for p in there), default=0)


@kept
def run_light(vectors, scalars, scratch, published, host_O, other_O, number_O, starts, code, numbers):
    """Run operations in their order: `vectors` (K, n, D) are the banks, `number_O` says which program (-1: a meeting).

    `starts[p]` is where program p begins in `code`; `numbers` (Q,) are of the vectors' dtype.
    """
    scratch_from = SCRATCH
    half = numbers.dtype.type(0.5)
    for o in range(len(host_O)):
        i = host_O[o]
        if number_O[o] < 0:
            x = vectors[published, i]
            y = vectors[published, other_O[o]]
            for k in range(len(x)):
                m = (x[k] + y[k]) * half
                x[k] = m
                y[k] = m
            continue
        for q in range(starts[number_O[o]], starts[number_O[o] + 1]):
            op, to, a, b = code[q, 0], code[q, 1], code[q, 2], code[q, 3]
            z = scratch[to - scratch_from] if to >= scratch_from else vectors[to, i]
            x = scratch[a - scratch_from] if a >= scratch_from else vectors[a, i]
            c = numbers[q]
            if op in (ADD, SUB, MUL):
                y = scratch[b - scratch_from] if b >= scratch_from else vectors[b, i]
                if op == ADD:
                    for k in range(len(z)):
                        z[k] = x[k] + y[k]
                elif op == SUB:
                    for k in range(len(z)):
                        z[k] = x[k] - y[k]
                else:
                    for k in range(len(z)):
                        z[k] = x[k] * y[k]
            elif op == COPY:
                for k in range(len(z)):
                    z[k] = x[k]
            elif op == TIMES:
                for k in range(len(z)):
                    z[k] = x[k] * c
            elif op == PLUS:
                for k in range(len(z)):
                    z[k] = x[k] + c
            elif op == FROM:
                for k in range(len(z)):
                    z[k] = c - x[k]
            elif op == OVER:
                for k in range(len(z)):
                    z[k] = x[k] / c
            elif op in (SUB_TIMES, ADD_TIMES):
                y = scratch[b - scratch_from] if b >= scratch_from else vectors[b, i]
                sign = c if op == ADD_TIMES else -c
                for k in range(len(z)):
                    z[k] = x[k] + y[k] * sign
            elif op == SUB_SCALED:
                b, s = b >> 24, scalars[b & 0xFFFFFF, i]
                y = scratch[b - scratch_from] if b >= scratch_from else vectors[b, i]
                for k in range(len(z)):
                    z[k] = x[k] - y[k] * s
            elif op == NEGATE:
                for k in range(len(z)):
                    z[k] = -x[k]
            else:
                s = scalars[b, i]
                for k in range(len(z)):
                    z[k] = x[k] * s
