"""Recorded functions on batches: a function means what it means for one node, and is run for S nodes at once.

About thirty functions have a direct batched form; any other runs under vmap. Values are batched as (S, *shape), so an
elementwise operation aligns ranks AFTER the node axis: a scalar per node is (S, 1) beside (S, D), also where S == D.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch

from simnet.graph import Ref, Task

Batched = Callable[[list[torch.Tensor]], torch.Tensor]

_ELEMENTWISE = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.neg, operator.abs,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, operator.and_, operator.or_,
    operator.invert, operator.mod, operator.floordiv,
    torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.neg, torch.abs, torch.sign, torch.exp, torch.log,
    torch.sqrt, torch.square, torch.rsqrt, torch.reciprocal, torch.clamp, torch.clip, torch.maximum, torch.minimum,
    torch.where, torch.relu, torch.sigmoid, torch.tanh, torch.floor, torch.ceil, torch.round, torch.sin, torch.cos,
    torch.log1p, torch.expm1, torch.erf, torch.isfinite, torch.isnan, torch.logical_and, torch.logical_or,
    torch.logical_not, torch.zeros_like, torch.ones_like, torch.remainder, torch.fmod, torch.true_divide,
    torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div, torch.Tensor.pow,
}  # fmt: skip
_REDUCTIONS = {torch.sum, torch.mean, torch.amax, torch.amin, torch.linalg.vector_norm, torch.norm, torch.prod}
_LAST_AXIS = {torch.topk, torch.sort, torch.argsort, torch.cumsum, torch.softmax}


def batched_form(task: Task, per_node: list[tuple[int, ...]]) -> Batched:
    """A function of the batches of `task.reads`, in that order; `per_node` are their per-node shapes."""
    fill = _Filler(task)
    func, item = task.func, None
    if func is not None and hasattr(func, "index") and hasattr(func, "func"):  # the i-th result of several
        item, func = func.index, func.func
    assert func is not None
    direct = _direct(func, task, per_node, fill)
    run = direct if direct is not None else _under_vmap(func, fill, len(per_node))
    return run if item is None else lambda tensors: run(tensors)[item]


class _Filler:
    """Puts tensors back where a task's arguments hold Refs."""

    def __init__(self, task: Task) -> None:
        self.args, self.kwargs = task.args, task.kwargs
        self.flat = all(isinstance(a, Ref) or not isinstance(a, list | tuple) for a in task.args)
        self.slots = [isinstance(a, Ref) for a in task.args] if self.flat and not task.kwargs else None
        self._place = torch.device("cpu")  # where the program's own tensors are

    def __call__(self, tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if tensors and tensors[0].device != self._place:
            self._place = tensors[0].device
            self.args, self.kwargs = _moved(self.args, self._place), _moved(self.kwargs, self._place)
        it = iter(tensors)
        if self.slots is not None:
            return tuple(next(it) if slot else a for slot, a in zip(self.slots, self.args, strict=True)), {}

        return tuple(_put(a, it) for a in self.args), {k: _put(v, it) for k, v in self.kwargs.items()}


def _put(a: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """An argument with the next tensors in the places of its Refs. No closure: one that calls itself is a cycle, which
    keeps its tensors until the collector comes.
    """
    if isinstance(a, Ref):
        return next(tensors)
    if isinstance(a, list | tuple):
        return type(a)(_put(b, tensors) for b in a)
    return a


def _moved(a: Any, device: torch.device) -> Any:
    """Arguments with their tensors on a device; a program makes its constants on the host."""
    if isinstance(a, torch.Tensor):
        return a.to(device)
    if isinstance(a, dict):
        return {k: _moved(v, device) for k, v in a.items()}
    return type(a)(_moved(b, device) for b in a) if isinstance(a, list | tuple) else a


def fill_arguments(task: Task, tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A task's arguments with the tensors of `task.reads` in their places."""
    return _Filler(task)(tensors)


def _direct(func: Callable[..., Any], task: Task, per_node: list[tuple[int, ...]], fill: _Filler) -> Batched | None:
    if func in _ELEMENTWISE:
        return _elementwise(func, task, per_node, fill)
    if func in _REDUCTIONS and len(task.args) == 1 and isinstance(task.args[0], Ref):
        return _reduction(func, task)
    if func in _LAST_AXIS and task.kwargs.get("dim", -1) == -1 and len(per_node) == 1 and per_node[0]:
        extra = task.args[1:]
        if func in (torch.topk,) and len(extra) <= 1:
            return lambda t: func(t[0], *extra, **task.kwargs)
        if func in (torch.sort, torch.argsort) and not extra:
            run: Callable[..., Any] = func
            along = {"dim": -1, **task.kwargs}
            return lambda t: run(t[0], **along)
        return None
    if getattr(func, "rowwise", False) and per_node and len(per_node[0]) == 1 and fill.flat:
        spread = [(slice(None), *(None,) * (1 - len(shape))) for shape in per_node]

        def rows(tensors: list[torch.Tensor]) -> torch.Tensor:
            args, kwargs = fill([t[view] for t, view in zip(tensors, spread, strict=True)])
            return func(*args, **kwargs)

        return rows
    if func is torch.dot:
        return lambda t: (t[0] * t[1]).sum(-1)
    if func is torch.stack and isinstance(task.args[0], list | tuple) and len(per_node) == len(task.args[0]):
        dim = task.kwargs.get("dim", task.args[1] if len(task.args) > 1 else 0)
        return lambda t: torch.stack(t, dim + 1 if dim >= 0 else dim)
    if func is operator.getitem and isinstance(task.args[0], Ref) and not _refs(task.args[1]):
        index = task.args[1] if isinstance(task.args[1], tuple) else (task.args[1],)
        if all(isinstance(i, int | slice) or i is None or i is Ellipsis for i in index):
            return lambda t: t[0][(slice(None), *index)].clone()  # no view: its buffer may be overwritten
    return None


def _refs(a: Any) -> bool:
    return isinstance(a, Ref) or (isinstance(a, list | tuple) and any(_refs(b) for b in a))


def _elementwise(func: Callable[..., Any], task: Task, per_node: list[tuple[int, ...]], fill: _Filler) -> Batched:
    constants = [a.dim() for a in (*task.args, *task.kwargs.values()) if isinstance(a, torch.Tensor)]
    rank = max([len(s) for s in per_node] + constants)
    if all(len(s) == rank for s in per_node):
        plain = fill.slots

        def same_rank(tensors: list[torch.Tensor]) -> torch.Tensor:
            args, kwargs = fill(tensors)
            return func(*args, **kwargs)

        if plain is not None and all(plain):
            return lambda tensors: func(*tensors)
        return same_rank
    gaps = [rank - len(s) for s in per_node]

    def aligned(tensors: list[torch.Tensor]) -> torch.Tensor:
        views = [
            t if not gap else t.reshape(t.shape[0], *(1,) * gap, *t.shape[1:])
            for t, gap in zip(tensors, gaps, strict=True)
        ]
        args, kwargs = fill(views)
        return func(*args, **kwargs)

    return aligned


def _reduction(func: Callable[..., Any], task: Task) -> Batched | None:
    kwargs = dict(task.kwargs)
    dim = kwargs.pop("dim", kwargs.pop("axis", None))
    if func is torch.norm and kwargs.get("p", "fro") not in ("fro", 2):
        return None
    if func is torch.norm:
        kwargs = {k: v for k, v in kwargs.items() if k == "keepdim" and v}
        func = torch.linalg.vector_norm
    if kwargs.get("dtype") is None:
        kwargs.pop("dtype", None)
    if dim is None:
        if kwargs:
            return None
        return lambda t: func(t[0].reshape(t[0].shape[0], -1), dim=-1)
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    if func is torch.prod and len(dims) > 1:
        return None
    shifted: Any = tuple(d + 1 if d >= 0 else d for d in dims)
    if func is torch.prod:
        shifted = shifted[0]
    return lambda t: func(t[0], dim=shifted, **kwargs)


def _under_vmap(func: Callable[..., Any], fill: _Filler, count: int) -> Batched:
    def for_one(*tensors: torch.Tensor) -> Any:
        args, kwargs = fill(list(tensors))
        return func(*args, **kwargs)

    mapped = torch.vmap(for_one, in_dims=(0,) * count)

    def run(tensors: list[torch.Tensor]) -> Any:
        result = mapped(*tensors)
        if isinstance(result, torch.Tensor):
            return _own(result, tensors)
        return tuple(_own(r, tensors) for r in result)

    return run


def _own(result: torch.Tensor, tensors: list[torch.Tensor]) -> torch.Tensor:
    """The result in memory of its own: a view's buffer may be overwritten while the view is still wanted."""
    start = result.untyped_storage().data_ptr()
    shared = any(t.untyped_storage().data_ptr() == start for t in tensors)
    return result.clone() if shared else result
