"""Values and tasks: what a program says about tensors, recorded before anything is computed.

A `Value` is a handle to a tensor that does not exist yet; it means what it means for ONE node. Operators and torch
functions on Values append `Task`s to a `Graph`. Nothing here imports torch: a torch function comes with its caller,
and shapes are found by a broadcasting rule of our own or, for other functions, on meta tensors.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

Shape = tuple[int, ...]

FLOAT, BOOL, INT = "float", "bool", "int"
_MOST_SHAPES = 4096
_LASTING: dict[Any, Any] = {}  # shapes of results, by function and operands, of functions that all graphs share


def rowwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that works along the last axis of its first argument alone, numbers beside it broadcasting: then
    the rows of many nodes are one call, without vmap.
    """
    function.rowwise = True  # type: ignore[attr-defined]
    return function


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function whose result has the shape of its arguments, broadcast, and is no truth value: `rowwise`, and its
    shape is known without running it. With a parameter `out`, it may be asked to write into the memory of its first
    argument.
    """
    function.elementwise = True  # type: ignore[attr-defined]
    function.takes_out = "out" in inspect.signature(function).parameters  # type: ignore[attr-defined]
    return rowwise(function)


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that, given Values, becomes one task with all its arithmetic inside; it changes none of its
    arguments, and given tensors it computes at once. Tensors may stand in lists.
    """

    function.lasting = True  # type: ignore[attr-defined]

    @wraps(function)
    def call(*args: Any) -> Any:
        value = next(_values(args), None)
        return function(*args) if value is None else value.graph.call(function, args)

    return call


class Ref:
    """Stands in a task's arguments for the Value of task `id`."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"#{self.id}"


class Task:
    """One recorded operation.

    `kind` is `map` (a function of Values, row by row) or the name of what only an executor knows how to do
    (`initial`, `random`, `oracle`, `mix`, ...); `payload` is what such a task needs besides its arguments.
    """

    __slots__ = ("args", "dtype", "func", "id", "kind", "kwargs", "payload", "reads", "shape")

    def __init__(
        self,
        id: int,
        kind: str,
        func: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        payload: Any,
        reads: tuple[int, ...],
        shape: Shape,
        dtype: str,
    ) -> None:
        self.id, self.kind, self.func, self.args, self.kwargs = id, kind, func, args, kwargs
        self.payload, self.reads, self.shape, self.dtype = payload, reads, shape, dtype

    def __repr__(self) -> str:
        name = getattr(self.func, "__name__", "")
        return f"<task {self.id} {self.kind} {name} {self.args} -> {self.shape}>"


class Graph:
    """The tasks of one program, in the order in which they were recorded.

    `pending` holds the tasks not yet executed. `live` holds the ids whose handle the program still keeps, `readers`
    how many recorded tasks still have to read each id: a buffer may be overwritten only when its id is in neither.
    `error` is the exception class raised for a misuse.
    """

    def __init__(self, error: type[Exception] = TypeError) -> None:
        self.pending: list[Task] = []
        self.next = 0
        self.live: set[int] = set()
        self.readers: dict[int, int] = {}
        self.error = error
        self.release: Callable[[int], None] | None = None  # told when the last handle of a read-out id dies
        self._shapes: dict[Any, tuple[Shape, str]] = {}

    def add(
        self,
        kind: str,
        args: tuple[Any, ...] = (),
        *,
        func: Callable[..., Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        payload: Any = None,
        shape: Shape,
        dtype: str = FLOAT,
    ) -> Value:
        """Append a task and return the handle of its result."""
        reads: list[int] = []
        plain = tuple(self._plain(a, reads) for a in args)
        named = {k: self._plain(v, reads) for k, v in kwargs.items()} if kwargs else {}
        for r in reads:
            self.readers[r] = self.readers.get(r, 0) + 1
        id = self.next
        self.next += 1
        self.pending.append(Task(id, kind, func, plain, named, payload, tuple(reads), shape, dtype))
        return Value(self, id, shape, dtype)

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Record `func(*args, **kwargs)`, where some of the arguments are Values."""
        kwargs = {k: v for k, v in (kwargs or {}).items() if k != "out" or v is not None}
        name = getattr(func, "__name__", str(func))
        in_place = name.endswith("_") and not name.endswith("__") and func not in (operator.and_, operator.or_)
        if "out" in kwargs or in_place:
            raise self.error(f"{name}: a Value never changes; use the function that returns a new one, without out=")
        if name in _RANDOM:
            raise self.error(f"{name}: draw with node.random(purpose, shape), so that every run sees the same numbers")
        found = self._infer(func, args, kwargs)
        if isinstance(found, list):  # a function with several results, such as topk: one task each
            return tuple(
                self.add("map", args, func=_Item(func, i), kwargs=kwargs, shape=s, dtype=t)
                for i, (s, t) in enumerate(found)
            )
        shape, dtype = found
        return self.add("map", args, func=func, kwargs=kwargs, shape=shape, dtype=dtype)

    def _plain(self, a: Any, reads: list[int]) -> Any:
        """An argument with Values replaced by Refs, also inside lists and tuples."""
        if isinstance(a, Value):
            if a.graph is not self:
                raise self.error("a Value of another node or role can only be had through a message")
            reads.append(a.id)
            return Ref(a.id)
        if isinstance(a, list | tuple) and any(isinstance(b, Value | list | tuple) for b in a):
            return type(a)(self._plain(b, reads) for b in a)
        return a

    def _infer(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Shape, str] | list[tuple[Shape, str]]:
        rule = "same" if getattr(func, "elementwise", False) else _ELEMENTWISE.get(func)
        if rule is not None and not kwargs and all(isinstance(a, Value | int | float) for a in args):
            shape: Shape = ()
            for a in args:
                if isinstance(a, Value):
                    shape = broadcast(shape, a.shape, self.error)
            if rule == "same":
                return shape, FLOAT if func is operator.truediv else _widest(args)
            return shape, BOOL
        return self._infer_on_meta(func, args, kwargs)

    def _infer_on_meta(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Shape, str] | list[tuple[Shape, str]]:
        """Shape and kind of a torch function's result, from meta tensors (which hold no numbers)."""
        import torch  # loaded by now: the function, or the operand that is no number, came from there

        try:
            cache = (func, _signature(args), _signature(tuple(sorted(kwargs.items()))))
            hash(cache)
        except TypeError:
            cache = None
        lasting = isinstance(func, BuiltinFunctionType) or hasattr(func, "lasting")
        known = _LASTING if lasting else self._shapes  # what a program defines goes with its graph
        if cache is not None and cache in known:
            return known[cache]

        dtypes = {FLOAT: torch.float32, BOOL: torch.bool, INT: torch.int64}

        def meta(a: Any) -> Any:
            if isinstance(a, Value):
                return torch.empty(a.shape, dtype=dtypes[a.dtype], device="meta")
            if isinstance(a, list | tuple):
                return type(a)(meta(b) for b in a)
            if isinstance(a, torch.Tensor):
                return torch.empty_like(a, device="meta")
            return a

        try:
            out = func(*meta(args), **{k: meta(v) for k, v in kwargs.items()})
        except (RuntimeError, IndexError, ValueError, TypeError) as e:
            shapes = ", ".join(str(a.shape) for a in _values(args))
            name = getattr(func, "__name__", func)
            raise self.error(f"{name} does not take Values of per-node shape {shapes}: {str(e).splitlines()[0]}") from e

        def kind(t: Any) -> tuple[Shape, str]:
            if not isinstance(t, torch.Tensor):
                raise self.error(f"{getattr(func, '__name__', func)} gives a {type(t).__name__}, not a tensor")
            dtype = BOOL if t.dtype == torch.bool else FLOAT if t.dtype.is_floating_point else INT
            return tuple(t.shape), dtype

        found: Any = [kind(t) for t in out] if isinstance(out, tuple | list) else kind(out)
        if cache is not None:
            if len(known) >= _MOST_SHAPES:  # constants that change from round to round
                known.clear()
            known[cache] = found
        return found


class Value:
    """A tensor not yet computed; immutable. `shape` and `dtype` are those of one node's tensor."""

    __slots__ = ("__weakref__", "dtype", "graph", "id", "shape", "wire")
    __array_ufunc__ = None  # numpy leaves operators to us

    def __init__(self, graph: Graph, id: int, shape: Shape, dtype: str = FLOAT) -> None:
        self.graph, self.id, self.shape, self.dtype = graph, id, shape, dtype
        self.wire: Any = None  # what a compressed Value takes on the wire
        graph.live.add(id)

    def __del__(self) -> None:
        graph = self.graph
        graph.live.discard(self.id)
        if graph.release is not None and self.id not in graph.readers:
            graph.release(self.id)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Numbers in one node's tensor."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"Value(shape={self.shape}, {self.dtype})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        graph = next(_values((args, tuple((kwargs or {}).values())))).graph
        return graph.call(func, args, kwargs)

    def __getitem__(self, index: Any) -> Value:
        value: Value = self.graph.call(operator.getitem, (self, index))
        return value

    def __bool__(self) -> bool:
        raise self.graph.error(
            "a Value has no truth yet: use torch.where(condition, a, b), pass it as when=, "
            "or take the number with 'v = yield node.read(x)'"
        )

    def __float__(self) -> float:
        raise self.graph.error("a Value is no number yet: keep computing with it, or use 'v = yield node.read(x)'")

    __int__ = __index__ = __float__

    def __len__(self) -> int:
        raise self.graph.error("a Value has no length yet: its per-node shape is x.shape; or use 'yield node.read(x)'")

    def __iter__(self) -> Iterator[Any]:
        raise self.graph.error(
            "a Value cannot be iterated: index it (x[0]), use torch functions on the whole, or 'yield node.read(x)'"
        )

    if TYPE_CHECKING:  # the operators are set below the class, all alike

        def _with(self, other: Any, /) -> Value: ...
        def _alone(self) -> Value: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __and__ = __or__ = __lt__ = __le__ = __gt__ = __ge__ = _with
        __neg__ = __abs__ = __invert__ = _alone

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.graph.error(f"a Value has no attribute {name!r}: write torch.{name}(x, ...) instead")


def _binary(func: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Value, other: Any) -> Any:
        return self.graph.call(func, (self, other))

    def backward(self: Value, other: Any) -> Any:
        return self.graph.call(func, (other, self))

    return forward, backward


def _unary(func: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: self.graph.call(func, (self,))


_SAME = ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod")
_TESTS = ("lt", "le", "gt", "ge", "eq", "ne")
_UNARY = ("neg", "abs", "pos")
for _name in (*_SAME, "matmul", "and_", "or_"):
    _stem = _name.rstrip("_")
    _forward, _backward = _binary(getattr(operator, _name))
    setattr(Value, f"__{_stem}__", _forward)
    setattr(Value, f"__r{_stem}__", _backward)
for _name in _TESTS:
    setattr(Value, f"__{_name}__", _binary(getattr(operator, _name))[0])
for _name in (*_UNARY, "invert"):
    setattr(Value, f"__{_name}__", _unary(getattr(operator, _name)))
Value.__hash__ = object.__hash__  # type: ignore[method-assign]  # == makes a Value, so identity is the hash

_ELEMENTWISE: dict[Callable[..., Any], str] = {getattr(operator, n): "same" for n in (*_SAME, *_UNARY)}
_ELEMENTWISE |= {getattr(operator, n): "test" for n in _TESTS}

_RANDOM = {
    "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "bernoulli", "multinomial",
    "normal", "poisson", "dropout", "alpha_dropout", "feature_dropout", "rrelu", "gumbel_softmax",
}  # fmt: skip


class _Item:
    """The i-th result of a function with several."""

    def __init__(self, func: Callable[..., Any], index: int) -> None:
        self.func, self.index = func, index
        self.__name__ = getattr(func, "__name__", "function")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)[self.index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Item) and (self.func, self.index) == (other.func, other.index)

    def __hash__(self) -> int:
        return hash((self.func, self.index))


def broadcast(a: Shape, b: Shape, error: type[Exception] = TypeError) -> Shape:
    """The shape of an elementwise operation on shapes a and b (the usual right-aligned rule).

    >>> broadcast((3, 1), (4,))
    (3, 4)
    """
    if a == b:
        return a
    if len(a) < len(b):
        a, b = b, a
    out = list(a)
    for i in range(1, len(b) + 1):
        if b[-i] != 1 and out[-i] != b[-i]:
            if out[-i] != 1:
                raise error(f"per-node shapes {a} and {b} do not broadcast")
            out[-i] = b[-i]
    return tuple(out)


def _widest(args: Iterable[Any]) -> str:
    kinds = {a.dtype if isinstance(a, Value) else FLOAT if isinstance(a, float) else INT for a in args}
    return FLOAT if FLOAT in kinds else INT if INT in kinds else BOOL


def _values(args: Any) -> Iterator[Value]:
    for a in args:
        if isinstance(a, Value):
            yield a
        elif isinstance(a, list | tuple):
            yield from _values(a)


def _signature(args: Any) -> Any:
    if isinstance(args, Value):
        return ("value", args.shape, args.dtype)
    if isinstance(args, list | tuple):
        return (type(args), tuple(_signature(a) for a in args))
    if hasattr(args, "shape") and hasattr(args, "dtype"):
        return ("tensor", tuple(args.shape), str(args.dtype))
    if isinstance(args, slice):
        return ("slice", args.start, args.stop, args.step)
    return (type(args), args)
