"""An algorithm under observation: which verbs its program makes, which it yields, and on which line.

A program that forgets a `yield` or misuses a Value is told its own line, not one of the kernel's.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, GeneratorType, TracebackType
from typing import Any

from simnet.algorithm import Algorithm
from simnet.graph import Value
from simnet.node import Node, Pending, Verb

FACTS = ("roles", "data_roles", "mixing", "connected", "tree", "keeps_mean", "first_order", "synchronous", "asks")
VERBS = (
    "gradient", "oracle", "hvp", "work", "gossip", "exchange", "average", "all_gather", "send", "broadcast", "scatter",
    "receive", "gather", "wait", "read",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A line of somebody's program."""

    file: str
    line: int

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        return f"{Path(self.file).name}:{self.line}" + (f": {text}" if text else "")


@dataclass
class Log:
    """What a program did: the verbs that it made, by identity, and the line at which it last stopped."""

    verbs: dict[int, tuple[Verb, str, Place]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    at: Place | None = None
    reported: Place | None = None  # the last report

    def made(self, verb: Verb, name: str, frame: FrameType) -> None:
        self.verbs[id(verb)] = verb, name, Place(frame.f_code.co_filename, frame.f_lineno)

    def forgotten(self) -> list[tuple[str, Place]]:
        """Verbs that were made and never given to `yield` or `node.start`, each line once."""
        return list(
            dict.fromkeys((name, place) for key, (_, name, place) in self.verbs.items() if key not in self.used)
        )

    def lines(self, *names: str) -> list[Place]:
        """Where the program makes verbs of these names, in the order of the file."""
        return sorted({p for _, name, p in self.verbs.values() if name in names}, key=lambda p: (p.file, p.line))

    def fills(self) -> dict[Place, Any]:
        """What each gossip and exchange says about missing messages."""
        return {p: v.options["missing"] for v, name, p in self.verbs.values() if name in ("gossip", "exchange")}


class Watched(Algorithm):
    """Another algorithm with its own facts, whose programs leave a log.

    `numbered`: node i of a role starts from i + 1 in every coordinate, in place of the problem's first point.
    """

    def __init__(self, inner: Algorithm, numbered: bool = False) -> None:
        for name in FACTS:
            setattr(self, name, getattr(inner, name))
        self.inner, self.numbered, self.log = inner, numbered, Log()

    def programs(self) -> dict[str, Callable[[Node], Any]]:
        return {role: _Followed(program, self) for role, program in self.inner.programs().items()}


class _Followed:
    """A role's generator function; what it yields is noted on the way to the kernel."""

    def __init__(self, program: Callable[[Node], Any], watched: Watched) -> None:
        self.program, self.watched = program, watched
        self.__code__ = program.__code__  # the session reads from it whether the role reports

    def __call__(self, node: Node) -> Any:
        generator = self.program(_Noting(node, self.watched))
        return self._follow(generator) if isinstance(generator, GeneratorType) else generator

    def _follow(self, generator: Generator[Any, Any, None]) -> Iterator[Any]:
        answer: Any = None
        while True:
            try:
                asked = generator.send(answer)
            except StopIteration:
                return
            inner: Any = generator
            while isinstance(inner.gi_yieldfrom, GeneratorType):
                inner = inner.gi_yieldfrom
            self.watched.log.at = Place(inner.gi_code.co_filename, inner.gi_frame.f_lineno)
            self.watched.log.used |= {id(each) for each in (asked if isinstance(asked, tuple) else (asked,))}
            answer = yield asked


class _Noting(Node):
    """A node handle that notes the verbs it makes."""

    def __init__(self, node: Node, watched: Watched) -> None:
        super().__init__(node._r)
        self._watched = watched

    def initial(self, name: str = "x") -> Value:
        first = super().initial(name)
        if not self._watched.numbered:
            return first
        numbered: Value = self.zeros(first.shape) + (self.index + 1.0)
        return numbered

    def report(self, **values: Any) -> None:
        frame = sys._getframe(1)
        self._watched.log.reported = Place(frame.f_code.co_filename, frame.f_lineno)
        super().report(**values)

    def start(self, verb: Verb) -> Pending:
        self._watched.log.used.add(id(verb))
        return super().start(verb)


def _noting(name: str) -> Callable[..., Verb]:
    make: Callable[..., Verb] = getattr(Node, name)

    def verb(self: _Noting, *values: Any, **options: Any) -> Verb:
        frame = sys._getframe(1)
        if name in ("gossip", "exchange") and options.get("channel") is None:
            options["channel"] = (frame.f_code.co_qualname, frame.f_lineno)  # as if no handle stood between
        made = make(self, *values, **options)
        self._watched.log.made(made, name, frame)
        return made

    return verb


for _name in VERBS:
    setattr(_Noting, _name, _noting(_name))


def watch(algorithm: Algorithm, numbered: bool = False) -> Watched:
    """The algorithm under observation, under its own name."""
    named: type[Watched] = type(type(algorithm).__name__, (Watched,), {})
    return named(algorithm, numbered)


def line_of(error: BaseException, file: str) -> Place | None:
    """The innermost line of `file` that an error passed through; None where it did not."""
    found: Place | None = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = Place(file, trace.tb_lineno)
        trace = trace.tb_next
    if found is None and error.__cause__ is not None:
        return line_of(error.__cause__, file)
    return found


def random_calls(kind: type) -> list[Place]:
    """Lines of a class that draw random numbers outside the scenario's streams: torch.rand, random, numpy.random."""
    file = inspect.getsourcefile(kind) or ""
    lines, first = inspect.getsourcelines(kind)
    tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)))
    found = {}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        head, _, last = name.rpartition(".")
        if head in ("random", "np.random", "numpy.random", "rng") or (head == "torch" and last in _DRAWS):
            found[Place(file, first + call.lineno - 1)] = name
    return list(found)


_DRAWS = ("rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "poisson", "rand_like",
          "randn_like", "randint_like")  # fmt: skip
