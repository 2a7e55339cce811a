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
from simnet.book import Book
from simnet.errors import CapabilityError, ProgramError, ScenarioError, nearest
from simnet.exchange import Average, Exchange
from simnet.graph import FLOAT, Graph, Shape, Value
from simnet.node import Batch, Node, Pending, Sample, Verb


class Op:
    """What an entry asks of the time plane (plain integers: the table is walked millions of times)."""

    WORK = 0
    EXCHANGE = 1  # START and FINISH in one
    START = 2
    FINISH = 3
    AVERAGE = 4
    START_AVERAGE = 5
    FINISH_AVERAGE = 6
    SEND = 7
    RECEIVE = 8
    WAIT = 9
    READ = 10


class Entry:
    """One row of the verb table.

    `mark`: tasks with a smaller number are what the entry's operands rest on. `tasks` are its operands, `results` the
    Values that the program gets. `seconds` of work per member; `active` who of the members takes part (None: all).
    """

    __slots__ = (
        "active", "frm", "listed", "mark", "number", "occurrence", "op", "plain", "reliable", "results", "rows", "seconds",
        "shapes", "tasks", "timeout_s", "to", "travel", "when_task",
    )  # fmt: skip

    def __init__(self, op: int, mark: int) -> None:
        self.op, self.mark = op, mark
        self.tasks: tuple[int, ...] = ()
        self.results: tuple[Value, ...] = ()
        self.seconds: Any = None  # float64 per member
        self.listed: Any = None  # the same as a list, once a walker asks
        self.active: Any = None  # list of bool per member
        self.travel: Any = None  # the Exchange or Average
        self.when_task: int | None = None
        self.number: Any = None  # what `read` got; the payload bytes of a send
        self.to: Any = None  # hosts, ascending
        self.frm: Any = None  # hosts, or "any"
        self.rows = False  # scatter: row i to the i-th host
        self.reliable = True
        self.timeout_s: float | None = None
        self.occurrence = 0  # of a send: keys what becomes of it
        self.shapes: Any = None  # of what a receive got
        self.plain = False  # a receive whose result is None


class Report:
    """The end of a round: its Values are kept only where they will be evaluated."""

    __slots__ = ("index", "mark", "position", "values")

    def __init__(self, index: int, position: int, mark: int, values: dict[str, Any]) -> None:
        self.index, self.position, self.mark, self.values = index, position, mark, values


class Recording:
    """The verb table and the task graph of one role (or, in a node run, of one node)."""

    def __init__(
        self, book: Book, role: str, members: np.ndarray, program: Callable[[Node], Any], index: int = 0
    ) -> None:
        self.book, self.role, self.members, self.index_ = book, role, members, index
        self.graph = Graph(ProgramError)
        self.entries: list[Entry] = []
        self.reports: list[Report] = []
        self.done = False
        self._counts: dict[Any, int] = {}
        self._waiting: list[Entry] | None = None  # the entries whose results the generator waits for
        self._tuple = False
        generator = program(Node(self))
        if not hasattr(generator, "send"):
            raise ProgramError(f"the program of role {role!r} never yields: write it as a generator, with 'yield'")
        self._generator = generator

    # ---- the table ---------------------------------------------------------------------------------------------

    def entry(self, p: int) -> Entry | None:
        """Entry p, recorded now if nobody was there before; None where the program has ended."""
        while p >= len(self.entries):
            if self.done:
                return None
            self._advance()
        return self.entries[p]

    def _advance(self) -> None:
        try:
            asked = self._generator.send(self._resumed())
        except StopIteration:
            self.done, self._waiting = True, None
            return
        self._tuple = isinstance(asked, tuple)
        self._waiting = [self._enter(verb) for verb in (asked if self._tuple else (asked,))]

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

    def _count(self, purpose: Any) -> int:
        """How often `purpose` was asked before: the occurrence that keys its random numbers."""
        c = self._counts.get(purpose, 0)
        self._counts[purpose] = c + 1
        return c

    def _new(self, op: int) -> Entry:
        entry = Entry(op, self.graph.next)
        self.entries.append(entry)
        return entry

    # ---- recorded at once --------------------------------------------------------------------------------------

    def rounds(self) -> Iterator[int]:
        return iter(range(self.book.rounds)) if self.book.rounds is not None else itertools.count()

    def initial(self, name: str) -> Value:
        shapes = self.book.problem.variables()
        if name not in shapes:
            raise ProgramError(f"the problem has no variable {name!r}{nearest(name, shapes)}; it has {sorted(shapes)}")
        return self.graph.add("initial", payload=name, shape=tuple(shapes[name]))

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

    def batch(self, size: int | None) -> Batch | None:
        size = self.book.batch if size is None else size
        if size is None or not self.book.samples_n.any():
            return None
        self.book.check_batch(size)
        return Batch(streams.key(self.book.seed, "batch", self.role, self._count("batch")), size)

    def random(self, purpose: str, shape: Shape | None, law: str) -> Value:
        if law not in ("normal", "uniform", "sign"):
            raise ProgramError(f"law={law!r}: say 'normal', 'uniform' or 'sign'")
        key = streams.key(self.book.seed, "random", self.role, purpose, self._count(("random", purpose)))
        return self.graph.add("random", payload=(key, law), shape=self._default_shape(shape))

    def coin(self, p: float) -> bool:
        key = streams.key(self.book.seed, "coin", self._count("coin"))
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
        hosts = self.book.draw_sample(role, k, "sample", role, self._count(("sample", role)))
        mask = np.zeros(self.book.n, bool)
        mask[hosts] = True
        return Sample(hosts, mask, self)

    def report(self, values: dict[str, Any]) -> None:
        index = len(self.reports)
        kept = values if self.book.evaluated(index) or self.book.pin_all else {}
        self.reports.append(Report(index, len(self.entries), self.graph.next, kept))

    def index(self) -> Value:
        number_n = np.zeros(self.book.n)
        hosts = self.book.members[self.role]
        number_n[hosts] = np.arange(len(hosts))
        return self.per_node(number_n)

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

    def start(self, verb: Verb) -> Pending:
        if not isinstance(verb, Verb) or verb.kind not in _SPLIT:
            raise ProgramError(f"start takes one of {', '.join(sorted(_SPLIT))}: a node computes one thing at a time")
        pending = Pending(verb)
        pending.entry = self._enter(verb, split=True)
        return pending

    # ---- verbs --------------------------------------------------------------------------------------------------

    def _enter(self, verb: Any, split: bool = False) -> Entry:
        if isinstance(verb, Pending):
            return self._finish(verb)
        if not isinstance(verb, Verb):
            raise ProgramError(f"'yield' takes a verb such as node.gossip(x), not {type(verb).__name__} {verb!r}")
        for v in verb.values:
            if not isinstance(v, Value):
                raise ProgramError(f"node.{verb.kind} takes Values, not {type(v).__name__}; "
                                   "start from node.initial, node.zeros or node.constant")  # fmt: skip
        entry: Entry = getattr(self, f"_enter_{verb.kind}")(verb, split)
        return entry

    def _finish(self, pending: Pending) -> Entry:
        started = pending.entry
        if started is None:
            raise ProgramError("a pending handle gives its result once")
        entry = self._new(Op.FINISH if started.op == Op.START else Op.FINISH_AVERAGE)
        entry.tasks, entry.travel, entry.active = started.tasks, started.travel, started.active
        entry.when_task, entry.shapes = started.when_task, started.shapes
        entry.results = self._mixed(entry, pending.verb)
        started.results = ()
        pending.entry = None
        return entry

    def _mask(self, among: Any) -> np.ndarray | None:
        """Members taking part, by a sample or a mask over the role's nodes; None for all."""
        if among is None:
            return None
        mask_n = np.zeros(self.book.n, bool)
        hosts = self.book.members[self.role]
        mask_n[hosts] = among.mask_n[hosts] if isinstance(among, Sample) else np.asarray(among, dtype=bool)
        mask: np.ndarray = mask_n[self.members]
        return mask

    def _enter_oracle(self, verb: Verb, split: bool) -> Entry:
        name, ticket = verb.options["name"], verb.options["batch"]
        if name not in ("gradient", "loss", "hvp"):
            raise ProgramError(f"the problem has no oracle {name!r}; it has gradient, loss and hvp")
        if name in ("gradient", "hvp"):
            variables = self.book.problem.variables()
            for v in verb.values:
                if v.shape != (self.book.problem.dim,):
                    raise ProgramError(f"node.{name} takes Values of shape {(self.book.problem.dim,)} "
                                       f"({sorted(variables)}), not {v.shape}")  # fmt: skip
        ticket = self.batch(None) if ticket is None else ticket
        occurrence = self._count("work")
        entry = self._new(Op.WORK)
        self.book.check_data(self.members, name)
        mask = self._mask(verb.options["among"])
        seconds = self.book.oracle_seconds(self.members, name, ticket.size if ticket else None, occurrence)
        entry.seconds = seconds if mask is None else np.where(mask, seconds, 0.0)
        shape = () if name == "loss" else verb.values[-1].shape
        entry.tasks = tuple(v.id for v in verb.values)
        payload = (name, ticket, mask, streams.key(self.book.seed, "direction", self.role, occurrence))
        entry.results = (self.graph.add("oracle", verb.values, payload=payload, shape=shape),)
        return entry

    def _enter_work(self, verb: Verb, split: bool) -> Entry:
        entry = self._new(Op.WORK)
        entry.seconds = self.book.work_seconds(self.members, verb.options["flop"], self._count("work"))
        return entry

    def _enter_wait(self, verb: Verb, split: bool) -> Entry:
        seconds = float(verb.options["seconds"])
        if not seconds >= 0:
            raise ProgramError(f"node.wait takes seconds of at least 0, not {seconds}")
        entry = self._new(Op.WAIT)
        entry.seconds = np.full(len(self.members), seconds)
        return entry

    def _enter_read(self, verb: Verb, split: bool) -> Entry:
        (value,) = verb.values
        if value.numel != 1:
            raise ProgramError(f"node.read gives one number, and this Value has shape {value.shape}")
        entry = self._new(Op.READ)
        self.graph.add("read", (value,), payload=entry, shape=())
        entry.mark = self.graph.next
        return entry

    def _enter_gossip(self, verb: Verb, split: bool) -> Entry:
        return self._enter_exchange(verb, split)

    def _enter_exchange(self, verb: Verb, split: bool) -> Entry:
        if not verb.values:
            raise ProgramError(f"node.{verb.kind} needs at least one Value to send")
        kind = "gossip" if verb.kind == "gossip" else "rows"
        k = self._count(("channel", verb.place))
        entry = self._new(Op.START if split else Op.EXCHANGE)
        round = len(self.reports)
        payload = self._payload(verb)
        entry.travel = self.book.exchange(self.role, verb.place, k, verb.options, payload, kind, round)
        entry.tasks = tuple(v.id for v in verb.values)
        entry.shapes = tuple(v.shape[-1:] for v in verb.values)
        if isinstance(verb.options["when"], Value):
            entry.when_task = verb.options["when"].id
            entry.results = (verb.options["when"], *verb.values)
        if entry.travel.active_n is not None:
            entry.active = entry.travel.active_n[self.members].tolist()
        if not split:
            entry.results = self._mixed(entry, verb)
        else:
            entry.results = tuple(verb.values) + entry.results
        return entry

    def _payload(self, verb: Verb) -> int:
        """Bytes of one message: a (d,) Value whole, of a Value with one row per out-neighbour one row."""
        numbers = 0
        for v in verb.values:
            rows = verb.kind == "exchange" and v.ndim == 2
            numbers += v.shape[1] if rows else v.numel
        return self.book.bytes_of(numbers)

    def _mixed(self, entry: Entry, verb: Verb) -> tuple[Value, ...]:
        """The results of an exchange or average, one per operand."""
        if isinstance(entry.travel, Average):
            kind, travel = entry.travel.kind, entry.travel
            rows = (len(self.book.members[self.role]),) if kind == "all_gather" else ()
            return tuple(
                self.graph.add(kind, (v,), payload=(travel, i), shape=(*rows, *v.shape))
                for i, v in enumerate(verb.values)
            )
        exchange: Exchange = entry.travel
        when, missing = verb.options["when"], verb.options["missing"]
        extra = tuple(v for v in (when, missing) if isinstance(v, Value))
        names = tuple(n for n, v in (("when", when), ("missing", missing)) if isinstance(v, Value))
        if exchange.kind == "gossip":
            return tuple(
                self.graph.add("mix", (v, *extra), payload=(exchange, i, names), shape=v.shape)
                for i, v in enumerate(verb.values)
            )
        degrees = np.diff(exchange.edges.in_ptr)[self.members]
        widest = int(degrees.max(initial=0))
        return tuple(
            self.graph.add("rows", (v, *extra), payload=(exchange, i, names), shape=(widest, *v.shape[-1:]))
            for i, v in enumerate(verb.values)
        )

    def _enter_average(self, verb: Verb, split: bool) -> Entry:
        n, hosts = self.book.n, self.book.members[self.role]
        everyone = np.zeros(n, bool)
        everyone[hosts] = True
        among_option, to_option = verb.options.get("among"), verb.options.get("to", "all")
        among = everyone if among_option is None else mask_over(among_option, everyone)
        to = {"all": everyone, "among": among}.get(to_option) if isinstance(to_option, str) else None
        if to is None:
            to = mask_over(to_option, everyone)
        if not among.any():
            raise ProgramError("node.average needs at least one node in 'among'")
        kind = verb.kind if verb.kind == "all_gather" else "average"
        payload = self.book.bytes_of(sum(v.numel for v in verb.values))
        entry = self._new(Op.START_AVERAGE if split else Op.AVERAGE)
        number = self._count("average")
        entry.travel = self.book.average(self.role, number, kind, among, to, payload, len(self.reports))
        entry.tasks = tuple(v.id for v in verb.values)
        entry.results = tuple(verb.values) if split else self._mixed(entry, verb)
        return entry

    def _enter_all_gather(self, verb: Verb, split: bool) -> Entry:
        return self._enter_average(verb, split)

    # ---- single messages ----------------------------------------------------------------------------------------

    def _hosts(self, who: Any, verb: str) -> np.ndarray:
        """Hosts by the name of a role, a sample, or host numbers."""
        if who is None:
            return self.book.members[self.role]
        if isinstance(who, Sample):
            return who.hosts
        if isinstance(who, str):
            if who not in self.book.members:
                raise ProgramError(f"node.{verb}: no role {who!r}{nearest(who, self.book.members)}; there are "
                                   f"{sorted(self.book.members)}")  # fmt: skip
            return self.book.members[who]
        return np.atleast_1d(np.asarray(who, dtype=np.int64))

    def _enter_send(self, verb: Verb, split: bool) -> Entry:
        entry = self._new(Op.SEND)
        entry.to = self._hosts(verb.options["to"], verb.kind).tolist()
        entry.tasks = tuple(v.id for v in verb.values)
        entry.reliable = verb.options.get("reliable", True)
        entry.shapes = tuple(v.shape for v in verb.values)
        entry.results = ()
        entry.number = self.book.bytes_of(sum(v.numel for v in verb.values))
        entry.occurrence = self._count("send")
        self.graph.add("sent", verb.values, payload=entry, shape=())
        entry.mark = self.graph.next
        return entry

    def _enter_scatter(self, verb: Verb, split: bool) -> Entry:
        (rows,) = verb.values
        entry = self._enter_send(verb, split)
        if rows.ndim == 0 or rows.shape[0] < len(entry.to):
            raise ProgramError(f"node.scatter needs a row for each of {len(entry.to)} nodes, and this Value has "
                               f"shape {rows.shape}")  # fmt: skip
        entry.rows = True
        entry.shapes = (rows.shape[1:],)
        entry.number = self.book.bytes_of(rows.numel // rows.shape[0])
        return entry

    def _enter_receive(self, verb: Verb, split: bool) -> Entry:
        entry = self._new(Op.RECEIVE)
        frm, missing = verb.options["frm"], verb.options["missing"]
        entry.frm = "any" if frm == "any" else self._hosts(frm, verb.kind).tolist()
        entry.rows = verb.kind == "gather"
        entry.timeout_s = verb.options["timeout_s"]
        if missing is not None:
            entry.results = (missing,)
        if entry.frm != "any" and not entry.rows and len(entry.frm) != 1:
            raise ProgramError(f"node.receive takes one sender, and {frm!r} are {len(entry.frm)}: use node.gather")
        if entry.timeout_s is not None and missing is None and len(self.members) > 1:
            raise ProgramError("a receive with a timeout needs missing=, a Value that stands in, where the role has "
                               "several members")  # fmt: skip
        return entry

    def _enter_gather(self, verb: Verb, split: bool) -> Entry:
        return self._enter_receive(verb, split)


_SPLIT = frozenset({"gossip", "exchange", "average", "all_gather"})


def mask_over(who: Any, everyone: np.ndarray) -> np.ndarray:
    """A mask over hosts from a sample or a mask over the role's nodes."""
    if isinstance(who, Sample):
        return who.mask_n & everyone
    mask = np.zeros_like(everyone)
    mask[everyone] = np.asarray(who, dtype=bool)
    return mask


def capability(algorithm: Any, book: Book) -> None:
    """CapabilityError, naming the node, where an algorithm needs gradients and a node has none."""
    lacking = np.flatnonzero(book.zo_n & (book.rank_n >= 0))
    if algorithm.first_order and len(lacking):
        first = book.network.hosts[int(lacking[0])]
        raise CapabilityError(
            f"{type(algorithm).__name__} needs first-order nodes, and node {first} is ZO-only: "
            "give it 'oracle: fo', or choose an algorithm that takes zeroth-order estimates"
        )


__all__ = ["FLOAT", "Entry", "Op", "Recording", "Report", "capability"]
