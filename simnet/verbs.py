"""From what a program yields to rows of its verb table."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet import streams
from simnet.book import mask_of
from simnet.costs import OnArrival
from simnet.entries import Entry, Op
from simnet.errors import ProgramError, nearest
from simnet.exchange import INF, Average, Exchange
from simnet.graph import Value
from simnet.node import Peers, Pending, Sample, Verb
from simnet.oracle import Oracle
from simnet.payload import Sizes, sizes_of

if TYPE_CHECKING:
    from simnet.recording import Recording

SPLIT = frozenset({"gossip", "exchange", "average", "all_gather", "wait"})  # what may be started and finished apart


def enter(r: Recording, verb: Any, split: bool = False) -> Entry:
    """Record a verb: its row of the table and the tasks of its results. `split`: it is only started."""
    if isinstance(verb, Pending):
        return _finish(r, verb)
    if not isinstance(verb, Verb):
        raise ProgramError(f"'yield' takes a verb such as node.gossip(x), not {type(verb).__name__} {verb!r}")
    for v in verb.values:
        if isinstance(v, Verb):
            v.forgotten()
        if not isinstance(v, Value):
            raise ProgramError(f"node.{verb.kind} takes Values, not {type(v).__name__}; "
                               "start from node.initial, node.zeros or node.constant")  # fmt: skip
    entry: Entry = _ENTER[verb.kind](r, verb, split)
    return entry


def _finish(r: Recording, pending: Pending) -> Entry:
    started = pending.entry
    if started is None:
        raise ProgramError("a pending handle gives its result once")
    if started.op == Op.START_WAIT:
        raise ProgramError("a started wait is for receive(..., until=): to let time pass, write 'yield node.wait(...)'")
    entry = r.new(Op.FINISH if started.op == Op.START else Op.FINISH_AVERAGE)
    entry.tasks, entry.travel, entry.active = started.tasks, started.travel, started.active
    entry.when_task, entry.shapes = started.when_task, started.shapes
    entry.results = _mixed(r, entry, pending.verb)
    started.results = ()
    pending.entry = None
    return entry


def _mask(r: Recording, among: Any) -> np.ndarray | None:
    """Members taking part, by a sample or a mask over the role's nodes; None for all."""
    mask_n = mask_of(among, "among", r.book.n, r.book.members[r.role])
    return None if mask_n is None else mask_n[r.members]


def _oracle(r: Recording, verb: Verb, split: bool) -> Entry:
    name, ticket = verb.options["name"], verb.options["batch"]
    oracle = r.oracles.get(name)
    if oracle is None:
        raise ProgramError(
            f"the problem has no oracle {name!r}{nearest(name, r.oracles)}; {type(r.book.problem).__name__} has "
            f"{', '.join(r.oracles)}"
        )
    if tuple(v.shape for v in verb.values) != oracle.takes:
        raise ProgramError(
            f"node.{name} takes Values of shape {', '.join(map(str, oracle.takes))}, not "
            f"{', '.join(str(v.shape) for v in verb.values)}"
        )
    ticket = r.batch(None) if ticket is None else ticket
    occurrence = r.count("work")
    entry = r.new(Op.WORK)
    r.book.check_data(r.members, name)
    mask = _mask(r, verb.options["among"])
    entry.tasks = tuple(v.id for v in verb.values)
    payload = (name, ticket, mask, streams.key(r.book.seed, "direction", r.role, occurrence))
    answer = r.graph.add("oracle", verb.values, payload=payload, shape=oracle.shape)
    size, costs, after = ticket.size if ticket else None, r.book.costs, r.graph.next
    entry.results = _apart(answer, oracle)

    def seconds() -> np.ndarray:
        """Of this call, at each member."""
        found = r.book.oracle_seconds(r.members, name, size, occurrence, lambda: costs.call(r, name, occurrence, after))
        return found if mask is None else np.where(mask, found, 0.0)

    entry.seconds = OnArrival(seconds) if costs.on_arrival else seconds()
    return entry


def _apart(answer: Value, oracle: Oracle) -> tuple[Value, ...]:
    """The answers of one pass, each a Value of its own."""
    if len(oracle.gives) == 1:
        return (answer,)
    ends = list(accumulate(map(math.prod, oracle.gives)))
    parts = [answer[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return tuple(
        part if len(shape) == 1 else part.graph.call(_shaped, (part,), {"shape": shape})
        for part, shape in zip(parts, oracle.gives, strict=True)
    )


def _shaped(v: Any, shape: tuple[int, ...]) -> Any:
    return v.reshape(shape)


def _work(r: Recording, verb: Verb, split: bool) -> Entry:
    entry = r.new(Op.WORK)
    entry.seconds = r.book.work_seconds(r.members, verb.options["flop"], r.count("work"))
    return entry


def _wait(r: Recording, verb: Verb, split: bool) -> Entry:
    seconds, spread = float(verb.options["seconds"]), float(verb.options["spread"])
    if not 0 <= seconds < INF:
        raise ProgramError(f"node.wait takes seconds of at least 0, not {seconds}")
    if not 0 <= spread <= 1:
        raise ProgramError(f"node.wait(spread={spread}): a spread is between 0 and 1")
    entry = r.new(Op.START_WAIT if split else Op.WAIT)
    entry.seconds = np.full(len(r.members), seconds)
    if spread:
        keys = streams.keys(streams.key(r.book.seed, "wait", r.role, r.count("wait")), r.members)
        entry.seconds *= 1.0 + spread * (2.0 * streams.uniform(keys, 1)[:, 0] - 1.0)
    return entry


def _meet(r: Recording, verb: Verb, split: bool) -> Entry:
    if r.shown is None:
        raise ProgramError("node.meet needs something published: call node.publish(x) first")
    entry = r.new(Op.MEET)
    entry.pool = verb.options["pool"]
    if entry.pool not in ("neighbours", "ready"):
        raise ProgramError(f"node.meet(pool={entry.pool!r}): say 'neighbours' or 'ready'")
    r.book.partners(r.role)
    entry.number = r.book.bytes_of(math.prod(r.shown))
    entry.results = (r.graph.add("published", payload=(entry, 0), shape=r.shown),)
    return entry


def _read(r: Recording, verb: Verb, split: bool) -> Entry:
    (value,) = verb.values
    if value.numel != 1:
        raise ProgramError(f"node.read gives one number, and this Value has shape {value.shape}")
    entry = r.new(Op.READ)
    r.graph.add("read", (value,), payload=entry, shape=())
    entry.mark = r.graph.next
    return entry


def _gossip(r: Recording, verb: Verb, split: bool) -> Entry:
    return _exchange(r, verb, split)


def _exchange(r: Recording, verb: Verb, split: bool) -> Entry:
    if not verb.values:
        raise ProgramError(f"node.{verb.kind} needs at least one Value to send")
    kind = "gossip" if verb.kind == "gossip" else "rows"
    k = r.count(("channel", verb.place))
    entry = r.new(Op.START if split else Op.EXCHANGE)
    r.mixings += 1
    round = len(r.reports)
    payload = _payload(r, verb)
    entry.travel = r.book.exchange(r.role, verb.place, k, verb.options, payload, kind, round)
    entry.wires = [v.wire for v in verb.values]
    entry.tasks = tuple(v.id for v in verb.values)
    entry.shapes = tuple(v.shape[-1:] for v in verb.values)
    if isinstance(verb.options["when"], Value):
        entry.when_task = verb.options["when"].id
        entry.results = (verb.options["when"], *verb.values)
    if entry.travel.active_n is not None:
        entry.active = entry.travel.active_n[r.members].tolist()
    if not split:
        entry.results = _mixed(r, entry, verb)
    else:
        entry.results = tuple(verb.values) + entry.results
    return entry


def _payload(r: Recording, verb: Verb) -> Sizes:
    """The size of one message: a (d,) Value whole, of a Value with one row per out-neighbour one row."""
    numbers = 0
    wires = []
    for v in verb.values:
        if v.wire is not None:
            wires.append(v.wire)
            continue
        rows = verb.kind == "exchange" and v.ndim == 2
        numbers += v.shape[1] if rows else v.numel
    sizes = sizes_of(r.book.bytes_of(numbers), wires)
    names = verb.options.get("names")
    return sizes if names is None else sizes._replace(named=_named(r, verb, tuple(names)))


def _named(r: Recording, verb: Verb, names: tuple[str, ...]) -> dict[str, int]:
    """Bytes of each variable in one message."""
    if len(names) != len(verb.values) or any(v.wire is not None for v in verb.values):
        raise ProgramError(
            f"node.gossip(names={names!r}): give a name for each of its {len(verb.values)} Values, none compressed"
        )
    named: dict[str, int] = {}
    for name, v in zip(names, verb.values, strict=True):
        named[name] = named.get(name, 0) + r.book.bytes_of(v.numel)
    return named


def _mixed(r: Recording, entry: Entry, verb: Verb) -> tuple[Value, ...]:
    """The results of an exchange or average, one per operand."""
    if isinstance(entry.travel, Average):
        kind, travel = entry.travel.kind, entry.travel
        rows = (len(r.book.members[r.role]),) if kind == "all_gather" else ()
        return tuple(
            r.graph.add(kind, (v,), payload=(travel, i), shape=(*rows, *v.shape)) for i, v in enumerate(verb.values)
        )
    exchange: Exchange = entry.travel
    when, missing = verb.options["when"], verb.options["missing"]
    extra = tuple(v for v in (when, missing) if isinstance(v, Value))
    names = tuple(n for n, v in (("when", when), ("missing", missing)) if isinstance(v, Value))
    if exchange.kind == "gossip":
        return tuple(
            r.graph.add("mix", (v, *extra), payload=(exchange, i, names), shape=v.shape)
            for i, v in enumerate(verb.values)
        )
    degrees = np.diff(exchange.edges.in_ptr)[r.members]
    widest = int(degrees.max(initial=0))
    return tuple(
        r.graph.add("rows", (v, *extra), payload=(exchange, i, names), shape=(widest, *v.shape[-1:]))
        for i, v in enumerate(verb.values)
    )


def _average(r: Recording, verb: Verb, split: bool) -> Entry:
    n, hosts = r.book.n, r.book.members[r.role]
    everyone = np.zeros(n, bool)
    everyone[hosts] = True
    among = mask_of(verb.options.get("among"), "among", n, hosts)
    among = everyone if among is None else among
    asked = verb.options.get("to", "all")
    named = {"all": everyone, "among": among}
    to = named[asked] if isinstance(asked, str) and asked in named else mask_of(asked, "to", n, hosts)
    to = everyone if to is None else to
    if not among.any():
        raise ProgramError("node.average needs at least one node in 'among'")
    kind = verb.kind if verb.kind == "all_gather" else "average"
    payload = r.book.bytes_of(sum(v.numel for v in verb.values))
    entry = r.new(Op.START_AVERAGE if split else Op.AVERAGE)
    number = r.count("average")
    entry.travel = r.book.average(r.role, number, kind, among, to, payload, len(r.reports))
    entry.tasks = tuple(v.id for v in verb.values)
    entry.results = tuple(verb.values) if split else _mixed(r, entry, verb)
    return entry


def _all_gather(r: Recording, verb: Verb, split: bool) -> Entry:
    return _average(r, verb, split)


# ---- single messages -----------------------------------------------------------------------------------------------


def _hosts(r: Recording, who: Any, verb: str) -> np.ndarray:
    """Hosts by the name of a role, a sample, or host numbers."""
    if who is None:
        return r.book.members[r.role]
    if isinstance(who, Sample):
        return who.hosts
    if isinstance(who, str):
        if who not in r.book.members:
            raise ProgramError(f"node.{verb}: no role {who!r}{nearest(who, r.book.members)}; there are "
                               f"{sorted(r.book.members)}")  # fmt: skip
        return r.book.members[who]
    hosts = np.atleast_1d(np.asarray(who, dtype=np.int64))
    if ((hosts < 0) | (hosts >= r.book.n)).any():
        raise ProgramError(f"node.{verb}: there is no host {who!r}; they are 0 to {r.book.n - 1}")
    return hosts


def _send(r: Recording, verb: Verb, split: bool) -> Entry:
    entry = r.new(Op.SEND)
    to = verb.options["to"]
    if isinstance(to, Peers):
        entry.peers = to.hosts_M.tolist()
    else:
        entry.to = _hosts(r, to, verb.kind).tolist()
    entry.tasks = tuple(v.id for v in verb.values)
    entry.reliable = verb.options.get("reliable", True)
    entry.shapes = tuple(v.shape for v in verb.values)
    entry.results = ()
    entry.number = _payload(r, verb)
    entry.wires = [v.wire for v in verb.values]
    entry.occurrence = r.count("send")
    r.graph.add("sent", verb.values, payload=entry, shape=())
    entry.mark = r.graph.next
    return entry


def _scatter(r: Recording, verb: Verb, split: bool) -> Entry:
    (rows,) = verb.values
    if isinstance(verb.options["to"], Peers):
        raise ProgramError("node.scatter sends a row to each of several nodes; to one peer, use node.send")
    entry = _send(r, verb, split)
    if rows.ndim == 0 or rows.shape[0] < len(entry.to):
        raise ProgramError(f"node.scatter needs a row for each of {len(entry.to)} nodes, and this Value has "
                           f"shape {rows.shape}")  # fmt: skip
    entry.rows = True
    entry.shapes = (rows.shape[1:],)
    entry.number = sizes_of(r.book.bytes_of(rows.numel // rows.shape[0]), [])
    return entry


def _receive(r: Recording, verb: Verb, split: bool) -> Entry:
    entry = r.new(Op.RECEIVE)
    frm, missing = verb.options["frm"], verb.options["missing"]
    entry.frm = "any" if frm == "any" else _hosts(r, frm, verb.kind).tolist()
    entry.rows = verb.kind == "gather"
    entry.timeout_s = verb.options["timeout_s"]
    until = verb.options["until"]
    if until is not None:
        if not isinstance(until, Pending) or until.verb.kind != "wait":
            raise ProgramError("node.receive(until=) takes a started wait: timer = node.start(node.wait(seconds))")
        if entry.timeout_s is not None:
            raise ProgramError("node.receive takes timeout_s= or until=, not both")
        entry.timer = until.entry
    if missing is not None:
        entry.results = missing if isinstance(missing, tuple) else (missing,)
        entry.stand_ins = len(entry.results)
    if entry.frm != "any" and not entry.rows and len(entry.frm) != 1:
        raise ProgramError(f"node.receive takes one sender, and {frm!r} are {len(entry.frm)}: use node.gather")
    limited = entry.timeout_s is not None or entry.timer is not None
    if limited and missing is None and (entry.rows or len(r.members) > 1):
        raise ProgramError(
            f"node.{verb.kind} with a timeout needs missing=, a Value that stands in, where the role has several "
            "members or several messages are awaited"
        )
    return entry


def _gather(r: Recording, verb: Verb, split: bool) -> Entry:
    return _receive(r, verb, split)


_ENTER: dict[str, Callable[[Recording, Verb, bool], Entry]] = {
    "oracle": _oracle,
    "work": _work,
    "wait": _wait,
    "meet": _meet,
    "read": _read,
    "gossip": _gossip,
    "exchange": _exchange,
    "average": _average,
    "all_gather": _all_gather,
    "send": _send,
    "scatter": _scatter,
    "receive": _receive,
    "gather": _gather,
}
