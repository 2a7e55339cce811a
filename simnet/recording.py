"""One generator, recorded once as a table of entries that every node of the role walks with its own pointer.

The generator is advanced only when the fastest node asks for an entry that is not there yet. In a group run one
recording serves all members of a role; in a node run each node has a recording of its own, with itself as the only
member. Both go through the same code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from simnet import streams
from simnet.batches import check_batch
from simnet.book import Book
from simnet.compressor import Compressor, Wire, one_number
from simnet.entries import Entry, Op, Report
from simnet.errors import CapabilityError, ProgramError, ScenarioError, nearest
from simnet.graph import Graph, Shape, Value
from simnet.node import Batch, Node, Peers, Pending, Sample, Verb
from simnet.verbs import SPLIT, enter

_IDLE_REPORTS = 10_000  # reports in a row, at one moment, that no honest program makes
_PASSED = Entry(-1, 0)  # in the place of entries that nobody will ask for again


class Recording:
    """The verb table and the task graph of one role (or, in a node run, of one node)."""

    def __init__(
        self, book: Book, role: str, members: np.ndarray, program: Callable[[Node], Any], index: int = 0
    ) -> None:
        self.book, self.role, self.members, self.index_ = book, role, members, index
        self.graph, self.oracles = Graph(ProgramError), book.problem.oracles()
        self.entries: list[Entry] = []
        self.reports: list[Report] = []
        self.done = False
        self.mixings = 0  # gossip steps and exchanges entered
        self._counts: dict[Any, int] = {}
        self._trimmed = 0
        self._waiting: list[Entry] | None = None  # the entries whose results the generator waits for
        self._tuple = False
        self.shown: Shape | None = None  # of what is published
        generator = program(Node(self))
        if not hasattr(generator, "send"):
            raise ProgramError(f"the program of role {role!r} never yields: write it as a generator, with 'yield'")
        self._generator = generator

    # ---- the table -------------------------------------------------------------------------------------------------

    def entry(self, p: int) -> Entry | None:
        """Entry p, recorded now if nobody was there before; None where the program has ended."""
        while p >= len(self.entries):
            if self.done:
                return None
            self._advance()
        return self.entries[p]

    def trim(self, p: int) -> None:
        """Every member has passed entry p - 1: forget the entries before p (the value plane keeps what it needs)."""
        for q in range(self._trimmed, p):
            self.entries[q] = _PASSED
        self._trimmed = max(self._trimmed, p)

    def _advance(self) -> None:
        try:
            asked = self._generator.send(self._resumed())
        except StopIteration:
            self.done, self._waiting = True, None
            return
        self._tuple = isinstance(asked, tuple)
        self._waiting = [enter(self, verb) for verb in (asked if self._tuple else (asked,))]

    def _resumed(self) -> Any:
        """What `yield` gives back: the results of the entries that it asked for."""
        if self._waiting is None:
            return None
        results = [self._result(entry) for entry in self._waiting]
        return tuple(results) if self._tuple else results[0]

    def _result(self, entry: Entry) -> Any:
        if entry.op == Op.READ:
            return entry.number
        if entry.op == Op.RECEIVE:
            return self._received(entry)
        results, entry.results = entry.results, ()
        return results[0] if len(results) == 1 else results or None

    def _received(self, entry: Entry) -> Any:
        if entry.plain:
            return None
        stand_in, entry.results = entry.results, ()
        values = tuple(
            self.graph.add("received", stand_in, payload=(entry, i), shape=s) for i, s in enumerate(entry.shapes)
        )
        return values[0] if len(values) == 1 else values

    def count(self, purpose: Any) -> int:
        """How often `purpose` was asked before: the occurrence that keys its random numbers."""
        c = self._counts.get(purpose, 0)
        self._counts[purpose] = c + 1
        return c

    def new(self, op: int) -> Entry:
        entry = Entry(op, self.graph.next)
        self.entries.append(entry)
        return entry

    # ---- recorded at once ------------------------------------------------------------------------------------------

    def rounds(self) -> Iterator[int]:
        return iter(range(self.book.rounds)) if self.book.rounds is not None else itertools.count()

    def initial(self, name: str) -> Value:
        shapes = self.book.problem.variables()
        if name not in shapes:
            raise ProgramError(f"the problem has no variable {name!r}{nearest(name, shapes)}; it has {sorted(shapes)}")
        first = self._first(name, tuple(shapes[name]))
        if not self.book.start_std:
            return first
        key = streams.key(self.book.seed, "start", name)
        return first + self.book.start_std * self.graph.add("random", payload=(key, "normal"), shape=first.shape)

    def _first(self, name: str, shape: Shape) -> Value:
        own = self.book.problem.own_points(name)
        if own is None:
            return self.graph.add("initial", payload=name, shape=shape)
        ranks = self.book.rank_n[self.members]
        if (ranks < 0).any():
            raise ProgramError(
                f"role {self.role!r} has hosts without data, and they have no first {name!r} of their own"
            )
        return self.graph.add("constant", payload=np.asarray(own, np.float64)[ranks], shape=shape)

    def _default_shape(self, shape: Shape | int | None) -> Shape:
        if shape is None:
            return tuple(next(iter(self.book.problem.variables().values())))
        return (shape,) if isinstance(shape, int) else tuple(shape)

    def zeros(self, shape: Shape | None) -> Value:
        return self.graph.add("zeros", shape=self._default_shape(shape))

    def per_node(self, value_n: np.ndarray) -> Value:
        """A number per host, as a scalar Value of the members."""
        return self.graph.add("constant", payload=np.asarray(value_n, dtype=np.float64)[self.members], shape=())

    def constant(self, per_kind: float | Mapping[str, float]) -> Value | float:
        if not isinstance(per_kind, Mapping):
            return float(per_kind)
        unknown = set(per_kind) - {"fo", "zo"}
        kinds = self.book.zo_n[self.members]
        needed = {kind for kind, there in (("zo", kinds.any()), ("fo", (~kinds).any())) if there}
        if unknown or not needed <= set(per_kind):
            raise ScenarioError(f"a number per oracle kind has the keys fo and zo, not {sorted(per_kind)}")
        values = np.where(self.book.zo_n, float(per_kind.get("zo", 0.0)), float(per_kind.get("fo", 0.0)))
        return self.per_node(values)

    def batch(self, given: int | None, stream: str = "batch") -> Batch | None:
        size = self.book.batch if given is None else given
        if size is None or not self.book.samples_n.any():
            return None
        check_batch(self.book, size)
        apart = () if stream == "batch" else (stream,)
        number = self.count(("batch", *apart))
        return Batch(streams.key(self.book.seed, "batch", self.role, *apart, number), size)

    def random(self, purpose: str, shape: Shape | None, law: str) -> Value:
        if law not in ("normal", "uniform", "sign"):
            raise ProgramError(f"law={law!r}: say 'normal', 'uniform' or 'sign'")
        key = streams.key(self.book.seed, "random", self.role, purpose, self.count(("random", purpose)))
        return self.graph.add("random", payload=(key, law), shape=self._default_shape(shape))

    def compress(self, compressor: Compressor, v: Value) -> Value:
        if not isinstance(compressor, Compressor):
            raise ProgramError(f"node.compress takes a compressor, not {type(compressor).__name__} {compressor!r}")
        if not isinstance(v, Value) or v.ndim != 1:
            raise ProgramError(f"node.compress takes a Value of shape (d,), not {v!r}")
        if self.book.network.wire_bytes_per_number != 4:
            raise ScenarioError("compressors count float32 numbers: leave `wire_dtype` at float32",
                                field="network.wire_dtype")  # fmt: skip
        d, occurrence = v.numel, self.count("compress")
        compressor.check(d)
        single_n: list[np.ndarray] = []  # over all hosts, so that a node run knows its neighbours' sizes
        given: list[Value] = []
        for number, draw in enumerate(compressor.draws(d)):
            key = streams.key(self.book.seed, "compress", self.role, occurrence, number)
            if draw.single:
                drawn_n = one_number(draw, d, streams.keys(key, np.arange(self.book.n)))
                single_n.append(drawn_n)
                given.append(self.per_node(drawn_n))
            else:
                given.append(self.graph.add("random", payload=(key, draw.law), shape=(d,)))
        made: Value = self.graph.call(compressor.compress, (v, *given))
        if made.shape != v.shape:
            raise ProgramError(
                f"{type(compressor).__name__}.compress gives shape {made.shape} for a vector of {v.shape}"
            )
        made.wire = Wire(
            compressor.wire_bits(d, *single_n), compressor.index_bits(d, *single_n),
            compressor.nominal_bits(d, *single_n), compressor if compressor.by_value else None, tuple(single_n),
        )  # fmt: skip
        return made

    def coin(self, p: float) -> bool:
        if not 0 <= p <= 1:
            raise ProgramError(f"node.coin takes a probability between 0 and 1, not {p!r}")
        key = streams.key(self.book.seed, "coin", self.count("coin"))
        return bool(streams.uniform1(key, 1)[0] < p)

    def sample(self, role: str | None, k: int | None) -> Sample:
        role = role or self.role
        if role not in self.book.members:
            raise ProgramError(f"no role {role!r}{nearest(role, self.book.members)}; there are "
                               f"{sorted(self.book.members)}")  # fmt: skip
        size = len(self.book.members[role])
        k = size if k is None else k
        if not 1 <= k <= size:
            raise ScenarioError(f"a sample of {k} of the {size} nodes of role {role!r}: take 1 to {size}")
        hosts = self.book.draw_sample(role, k, "sample", role, self.count(("sample", role)))
        mask = np.zeros(self.book.n, bool)
        mask[hosts] = True
        return Sample(hosts, mask, self)

    def report(self, values: dict[str, Any]) -> None:
        for name, given in values.items():
            for v in given if isinstance(given, tuple | list) else (given,):
                if isinstance(v, Verb):
                    v.forgotten()
                if not isinstance(v, Value):
                    raise ProgramError(f"node.report({name}=...) takes a Value or a tuple of Values, not {given!r}")
        index, here = len(self.reports), len(self.entries)
        if index >= _IDLE_REPORTS and self.reports[index - _IDLE_REPORTS].position == here:
            raise ProgramError(
                f"{_IDLE_REPORTS} reports without a verb between them: simulated time passes at 'yield' alone, so "
                "such a program never gets on"
            )
        if self.book.on_grid:  # any report may be a node's last before a row: a task keeps it, node by node
            flat = [v for given in values.values() for v in (given if isinstance(given, tuple | list) else (given,))]
            widths = {name: len(v) if isinstance(v, tuple | list) else None for name, v in values.items()}
            self.graph.add("report", tuple(flat), payload=(index, widths), shape=())
            values = {}
        kept = values if self.book.evaluated(index) or self.book.pin_all else {}
        self.reports.append(Report(index, len(self.entries), self.graph.next, kept, self.mixings))

    def index(self) -> Value:
        number_n = np.zeros(self.book.n)
        hosts = self.book.members[self.role]
        number_n[hosts] = np.arange(len(hosts))
        return self.per_node(number_n)

    def durations(self, oracle: str) -> np.ndarray:
        hosts, seconds_n = self.book.members[self.role], np.full(self.book.n, np.nan)
        seconds_n[hosts] = self.book.base_seconds(hosts, oracle, self.book.batch)
        return seconds_n

    def degree(self, side: str) -> Value:
        return self.per_node(np.bincount(self._ends(side)[0], minlength=self.book.n).astype(np.float64))

    def neighbour_weights(self, side: str) -> Value:
        mine, weight = self._ends(side)
        counts = np.bincount(mine, minlength=self.book.n)
        table = np.zeros((self.book.n, int(counts[self.members].max(initial=0))))  # as wide as the rows of an exchange
        on = np.isin(mine, self.members)
        mine, weight = mine[on], weight[on]
        counts = np.bincount(mine, minlength=self.book.n)
        order = np.argsort(mine, kind="stable")
        starts = np.concatenate(([0], np.cumsum(counts)))
        table[mine[order], np.arange(len(mine)) - starts[mine[order]]] = weight[order]
        return self.graph.add("constant", payload=table[self.members], shape=(table.shape[1],))

    def _ends(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """For each edge of the topology, its end on the side asked for, and its mixing weight, in node order."""
        if side not in ("in", "out"):
            raise ProgramError(f"{side!r}: say 'in' or 'out'")
        if not self.book.topology.static:
            raise ProgramError("degrees and weights are those of a topology that stays the same; this one changes")
        edges, mixing = self.book.edges(self.book.topology, 0, self.role)
        if side == "in":
            return edges.target, mixing.weight
        order = np.lexsort((edges.target, edges.source))
        return edges.source[order], mixing.weight[order]

    # ---- what is published -----------------------------------------------------------------------------------------

    def publish(self, v: Any) -> None:
        """An entry of its own: each node publishes when it gets there."""
        if isinstance(v, Verb):
            v.forgotten()
        if not isinstance(v, Value):
            raise ProgramError(f"node.publish takes a Value, not {type(v).__name__}")
        if self.shown is not None and self.shown != v.shape:
            raise ProgramError(f"node.publish: a Value of shape {v.shape}, where {self.shown} was published before")
        self.shown = v.shape
        entry = self.new(Op.PUBLISH)
        self.graph.add("publish", (v,), shape=())
        entry.mark = self.graph.next

    def published(self) -> Value:
        if self.shown is None:
            raise ProgramError("node.published is read before anything was published: call node.publish(x) first")
        return self.graph.add("published", payload=(self.new(Op.TAKE), 0), shape=self.shown)

    def pair(self) -> Sample:
        edges = self.book.partners(self.role).edges
        ends = np.flatnonzero(edges.source < edges.target)
        hosts = self.book.members[self.role][:1]
        if len(ends):
            u = streams.uniform1(streams.key(self.book.seed, "pair", self.role, self.count("pair")), 1)[0]
            e = ends[min(int(u * len(ends)), len(ends) - 1)]
            hosts = np.array([edges.source[e], edges.target[e]])
        mask = np.zeros(self.book.n, bool)
        mask[hosts] = True
        return Sample(hosts, mask, self)

    def peer(self) -> Peers:
        partners = self.book.partners(self.role)
        occurrence = self.count("peer")
        keys = streams.keys(streams.key(self.book.seed, "peer", self.role, occurrence), self.members)
        return Peers(partners.pick(self.members, streams.uniform(keys, 1)[:, 0]))

    def start(self, verb: Verb) -> Pending:
        if not isinstance(verb, Verb) or verb.kind not in SPLIT:
            raise ProgramError(f"start takes one of {', '.join(sorted(SPLIT))}: a node computes one thing at a time")
        pending = Pending(verb)
        pending.entry = enter(self, verb, split=True)
        return pending


def capability(algorithm: Any, book: Book) -> None:
    """CapabilityError, naming the node, where an algorithm needs gradients and a node has none."""
    lacking = np.flatnonzero(book.zo_n & (book.rank_n >= 0))
    if algorithm.first_order and len(lacking):
        first = book.network.hosts[int(lacking[0])]
        raise CapabilityError(
            f"{type(algorithm).__name__} needs first-order nodes, and node {first} is ZO-only: "
            "give it 'oracle: fo', or choose an algorithm that takes zeroth-order estimates"
        )
