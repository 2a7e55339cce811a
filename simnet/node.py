"""The handle that a program holds: what one node can ask for.

Calls that return a `Verb` cost simulated time and are yielded; the others are recorded at once. The exact meaning of
every call is in the documentation of verbs; here each has its one-line reminder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from simnet.errors import ProgramError
from simnet.graph import Shape, Value

if TYPE_CHECKING:
    from simnet.batches import Size
    from simnet.compressor import Compressor
    from simnet.recording import Recording
    from simnet.topology import Topology

Missing: TypeAlias = Value | tuple[Value, ...] | None  # what stands in for a message that does not come


class Verb:
    """A request that takes simulated time: give it to `yield`, or to `node.start`."""

    __slots__ = ("kind", "options", "place", "values")

    def __init__(self, kind: str, values: tuple[Any, ...], place: Any, **options: Any) -> None:
        self.kind, self.values, self.place, self.options = kind, values, place, options

    def __repr__(self) -> str:
        return f"node.{self.kind}(...)"

    def forgotten(self, *_: Any) -> Any:
        """Refuse to stand for a result that is not there yet."""
        name = self.options.get("name", self.kind)  # an oracle by its own name: node.gradient
        raise ProgramError(f"the result of node.{name}(...) is used before it is there: write 'yield node.{name}(...)'")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = forgotten
    __neg__ = __matmul__ = __getitem__ = __bool__ = __iter__ = forgotten

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        next(a for a in args if isinstance(a, Verb)).forgotten()


class Pending:
    """A verb that was started; `yield pending` waits for its result."""

    __slots__ = ("entry", "verb")

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.entry: Any = None


class Peers:
    """One node for each member of the asking role: a target that differs from node to node. Known when recorded."""

    def __init__(self, hosts_M: np.ndarray) -> None:
        self.hosts_M = hosts_M

    def __repr__(self) -> str:
        return f"Peers({self.hosts_M.tolist()})"


class Batch:
    """A ticket for one minibatch of `size` rows; the same ticket (its `key`) gives the same rows. Executors that run
    nodes at different rounds as one batch give a key for each node.
    """

    __slots__ = ("key", "size")

    def __init__(self, key: Any, size: Size) -> None:
        self.key, self.size = key, size


class Sample:
    """Some nodes of a role, known when recorded. `.mask` is the same as a 0/1 Value of the asking node."""

    def __init__(self, hosts: np.ndarray, mask_n: np.ndarray, recording: Recording) -> None:
        self.hosts, self.mask_n, self._recording = hosts, mask_n, recording

    @property
    def mask(self) -> Value:
        return self._recording.per_node(self.mask_n.astype(np.float64))

    def where(self, keep_n: np.ndarray) -> Sample:
        """Those of the sample for whom `keep_n`, one entry for each host, is true."""
        kept_n = self.mask_n & keep_n
        return Sample(np.flatnonzero(kept_n), kept_n, self._recording)

    def __repr__(self) -> str:
        return f"Sample({self.hosts.tolist()})"


class Node:
    """One node, as its program sees it; in a group run the same handle stands for every node of the role."""

    def __init__(self, recording: Recording) -> None:
        self._r = recording

    # ---- recorded at once ------------------------------------------------------------------------------------------

    def rounds(self) -> Iterator[int]:
        """Count the rounds: the loop of every program. `report` ends a round."""
        return self._r.rounds()

    def initial(self, name: str = "x") -> Value:
        """The problem's first point by that name, the same at all nodes."""
        return self._r.initial(name)

    def zeros(self, shape: Shape | None = None) -> Value:
        """A Value of zeros, by default of the shape of `x`."""
        return self._r.zeros(shape)

    def constant(self, per_kind: float | Mapping[str, float]) -> Value | float:
        """A number per node: one for all, or one for each oracle kind, `{"fo": 0.1, "zo": 0.01}`."""
        return self._r.constant(per_kind)

    def batch(self, size: int | None = None, stream: str = "batch") -> Batch | None:
        """A ticket for one minibatch, so that one sample can serve two points or two oracles. What is drawn from one
        `stream` does not depend on how often the others are asked.
        """
        return self._r.batch(size, stream)

    def random(self, purpose: str, shape: Shape | None = None, law: str = "normal") -> Value:
        """Random numbers of `law` normal, uniform or sign, by default of the shape of `x`."""
        return self._r.random(purpose, shape, law)

    def compress(self, compressor: Compressor, v: Value) -> Value:
        """What receivers make of v sent through a compressor: a Value that knows its bits on the wire."""
        return self._r.compress(compressor, v)

    def coin(self, p: float) -> bool:
        """One draw common to all nodes: True with probability p."""
        return self._r.coin(p)

    def sample(self, role: str | None = None, k: int | None = None) -> Sample:
        """k nodes of a role (default: one's own), drawn without replacement, the same at every node."""
        return self._r.sample(role, k)

    def report(self, **values: Any) -> None:
        """End the round; `x=` is the iterate, `tracker=` and `estimate=` pair up for the tracker residual."""
        self._r.report(values)

    @property
    def index(self) -> Value:
        """The node's number within its role."""
        return self._r.index()

    def durations(self, oracle: str = "gradient") -> np.ndarray:
        """Seconds of one call of an oracle at each host, before jitter and stragglers, (n,); NaN outside one's role."""
        return self._r.durations(oracle)

    def degree(self, side: str = "in") -> Value:
        """Neighbours on the `in` or `out` side of the topology."""
        return self._r.degree(side)

    def weights(self, side: str = "in") -> Value:
        """Mixing weights of the `in` or `out` neighbours in node order, padded with 0: shape (largest degree,)."""
        return self._r.neighbour_weights(side)

    def pair(self) -> Sample:
        """Two nodes joined by an edge of the topology, drawn from all its edges; one draw common to all nodes."""
        return self._r.pair()

    def matchings(self) -> Topology:
        """For `gossip(over=...)`: at each exchange a random matching of the topology's edges, averaged pair by pair."""
        return self._r.book.matchings

    def publish(self, v: Value) -> None:
        """Put v where a partner may read and replace it while this node computes."""
        self._r.publish(v)

    @property
    def published(self) -> Value:
        """What stands there now: one's own last `publish`, or what a meeting has made of it since."""
        return self._r.published()

    def peer(self) -> Peers:
        """One neighbour drawn at random, for `send(..., to=)`; another one at each call and for each node."""
        return self._r.peer()

    @property
    def slices(self) -> dict[str, slice]:
        """Where the problem's named parts (layers) lie in x: `x[node.slices["0.weight"]]` is that part, flat."""
        return self._r.book.problem.slices

    def start(self, verb: Verb) -> Pending:
        """Split phase: begin a communication now; `yield` the pending handle for its result."""
        return self._r.start(verb)

    # ---- verbs: yield them -----------------------------------------------------------------------------------------

    def gradient(self, x: Value, batch: Batch | None = None, among: Any = None) -> Verb:
        """The node's own gradient at x; a ZO-only node answers with its zeroth-order estimate."""
        return Verb("oracle", (x,), None, name="gradient", batch=batch, among=among)

    def oracle(self, name: str, *v: Value, batch: Batch | None = None, among: Any = None) -> Verb:
        """An oracle of the problem by name: `gradient`, `loss`, `hvp`, or what it declares; one pass may give
        several Values.
        """
        return Verb("oracle", v, None, name=name, batch=batch, among=among)

    def hvp(self, x: Value, v: Value, batch: Batch | None = None, among: Any = None) -> Verb:
        """The node's own Hessian at x times v."""
        return Verb("oracle", (x, v), None, name="hvp", batch=batch, among=among)

    def work(self, flop: float) -> Verb:
        """Charge arithmetic that is no oracle."""
        return Verb("work", (), None, flop=flop)

    def gossip(
        self,
        *v: Value,
        over: Any = None,
        weights: str = "mixing",
        missing: str | Value = "self",
        deadline_s: float | None = None,
        when: Any = None,
        channel: str | None = None,
        names: Sequence[str] | None = None,
    ) -> Verb:
        """One message to each neighbour carrying all of v; returns the weighted sums, own value included. With `names`,
        one for each v, the ledger counts their bytes apart.
        """
        return Verb(
            "gossip", v, channel or _place(), over=over, weights=weights, missing=missing,
            deadline_s=deadline_s, when=when, names=names,
        )  # fmt: skip

    def exchange(
        self,
        *v: Value,
        over: Any = None,
        missing: str | Value = "self",
        deadline_s: float | None = None,
        when: Any = None,
        channel: str | None = None,
    ) -> Verb:
        """Each v is (d,) or one row per out-neighbour (out, d); returns one row per in-neighbour (in, d)."""
        return Verb("exchange", v, channel or _place(), over=over, missing=missing, deadline_s=deadline_s, when=when)

    def average(self, *v: Value, among: Any = None, to: Any = "all") -> Verb:
        """The mean over `among`, delivered to `to` ("all", "among" or a sample); others keep their own."""
        return Verb("average", v, None, among=among, to=to)

    def all_gather(self, v: Value) -> Verb:
        """Every node's v, one row per node: shape (nodes, *v.shape)."""
        return Verb("all_gather", (v,), None)

    def send(self, *v: Value, to: Any, reliable: bool = True) -> Verb:
        """One message carrying all of v to `to` (a role, a sample, a `peer()`); done when handed to the port."""
        return Verb("send", v, None, to=to, reliable=reliable)

    def broadcast(self, *v: Value, to: Any = None) -> Verb:
        """Send v to every other node of `to` (default: one's own role); they `receive` it."""
        return Verb("send", v, None, to=to, reliable=True)

    def scatter(self, rows: Value, to: Any) -> Verb:
        """Send row i of `rows` to the i-th node of `to`."""
        return Verb("scatter", (rows,), None, to=to)

    def receive(
        self, frm: Any, timeout_s: float | None = None, missing: Missing = None, until: Pending | None = None
    ) -> Verb:
        """The next message from the one node of `frm`; `frm="any"`: the earliest that waits. `until`: a started
        `wait` whose end ends this too, as a timeout would.
        """
        return Verb("receive", (), None, frm=frm, timeout_s=timeout_s, missing=missing, until=until)

    def gather(self, frm: Any, timeout_s: float | None = None, missing: Missing = None) -> Verb:
        """The next message from each node of `frm`, as rows: shape (nodes of frm, *shape)."""
        return Verb("gather", (), None, frm=frm, timeout_s=timeout_s, missing=missing, until=None)

    def meet(self, pool: str = "neighbours") -> Verb:
        """Replace what this node and one partner have published by their mean, at both or at neither; gives the mean.

        pool="neighbours": a random neighbour, whatever it does meanwhile; one's message goes first, the answer comes
        back. "ready": a random one of the neighbours that wait to meet too, or the first that will.
        """
        return Verb("meet", (), None, pool=pool)

    def wait(self, seconds: float, spread: float = 0.0) -> Verb:
        """Let simulated seconds pass; with `spread`, times a uniform factor between 1 - spread and 1 + spread."""
        return Verb("wait", (), None, seconds=seconds, spread=spread)

    def read(self, v: Value) -> Verb:
        """A number, now; where the role has several members they must all hold the same."""
        return Verb("read", (v,), None)


def _place() -> tuple[str, int, int]:
    """Where in the program the calling verb stands: its channel by default. Two verbs on one line are two places."""
    frame = sys._getframe(2)
    return frame.f_code.co_qualname, frame.f_lineno, frame.f_lasti
