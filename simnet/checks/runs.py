"""The checks that run an algorithm. Each returns a remark, or raises Failed or NotApplicable."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from simnet.checks.subject import KEEP_LOCAL, LINK, NODES, ROUNDS, Failed, NotApplicable, Subject, cure_of
from simnet.checks.watched import Place, random_calls, watch
from simnet.errors import CapabilityError, Outcome
from simnet.record import Record
from simnet.session import run

ONES_WITHIN, MEAN_WITHIN, VALUES_WITHIN = 1e-12, 1e-10, 1e-12
ROUNDOFF = 2.0**-53
ACROSS_TIERS = 1e-9  # clocks: max-plus steps and events add the same durations in another order


def _plain_run(subject: Subject) -> str:
    watched = watch(subject.algorithm)
    record = subject.run(algorithm=watched)
    subject.log = watched.log
    forgotten = watched.log.forgotten()
    if forgotten:
        lines = "\n".join(
            f"{place}\nnode.{name}(...) is made and never yielded: nothing happens" for name, place in forgotten
        )
        raise Failed(lines, "write 'yield node....(...)', or 'node.start(...)' and yield the handle later")
    _finite(record, "on a plain quadratic", "try a smaller default step size")
    return ""


def _finite(record: Record, when: str, cure: str) -> None:
    if record.ended is not Outcome.FINISHED:
        said = record.outcome.partition(";")[0]
        raise Failed(f"{when}, it {said}", cure if record.ended is Outcome.DIVERGED else record.ended.advice)
    if not all(np.isfinite(value).all() for value in record.final.values()):
        raise Failed(f"{when}, a reported value is no longer finite", cure)


def _reports(subject: Subject) -> str:
    record = subject.run()
    reports = record.nodes["reports"]
    made = int(reports[reports > 0].min(initial=0 if not reports.any() else ROUNDS))
    if made != ROUNDS or reports.max() != ROUNDS:
        raise Failed(
            f"{made} reports in {ROUNDS} rounds",
            "end every turn of 'for t in node.rounds()' with node.report(x=x)",
        )
    if "x" not in record.final:
        raise Failed(
            f"it reports {', '.join(record.final) or 'nothing'} and no x",
            "write node.report(x=x): the metrics are taken on x",
        )
    shape, hosts = record.final["x"].shape, int((record.nodes["reports"] > 0).sum())
    if shape != (hosts, 3):
        raise Failed(
            f"x of {hosts} nodes with 3 parameters each has shape {shape}",
            "report the iterate itself, of shape (d,) at one node",
        )
    return ""


def _borne(subject: Subject, *policies: str) -> tuple[str, ...]:
    """Those policies under which the algorithm promises something: `retry` alone where it bears no loss."""
    return ("retry",) if subject.algorithm.lost_for_good else policies


def _ones(subject: Subject) -> str:
    for when, network in subject.policies(*_borne(subject, "retry", "drop", "symmetric")):
        record = subject.run(problem=subject.flat(), network=network)
        _finite(record, when, "see the next line of the contract")
        off = np.abs(record.final["x"] - 1.0)
        if off.max(initial=0.0) > ONES_WITHIN:
            i, j = np.unravel_index(int(off.argmax()), off.shape)
            value = float(record.final["x"][i, j])
            seen = f"{when}, x[{j}] of the {_th(int(i))} node is {value:.6g} after {ROUNDS} rounds, and not 1"
            raise Failed("\n".join([seen, *subject.talk()]), _ones_cure(subject, when))
    return ""


def _ones_cure(subject: Subject, when: str) -> str:
    if "drop" not in when and "symmetric" not in when:
        return "without gradients and from equal points nothing may move: the weights of every combination add up to 1"
    zero = [place for place, fill in subject.log.fills().items() if fill == "zero"]
    if zero:
        return "a state needs missing='self' or 'stale'; 'zero' is for differences alone"
    return "what stands in for a missing message must leave equal points where they are"


def _mean(subject: Subject) -> str:
    if not subject.algorithm.keeps_mean:
        raise NotApplicable("keeps_mean is False: it does not promise this")
    for when, network in subject.policies(*_borne(subject, "retry", "symmetric")):
        watched = watch(subject.algorithm, numbered=True)
        record = subject.run(problem=subject.flat(), network=network, algorithm=watched)
        first, last = _first_mean(record), record.final["x"].mean(0)
        if not np.allclose(last, first, rtol=MEAN_WITHIN, atol=0):
            worst = float(last[np.argmax(np.abs(last - first))])
            seen = f"{when}, the mean of the x_i went from {first:g} to {worst:.6g} with all gradients zero"
            raise Failed("\n".join([seen, *subject.talk()]), _MEAN_CURE)
    return ""


_MEAN_CURE = (
    "combine with doubly stochastic weights, or say 'keeps_mean: ClassVar[bool] = False' where the method is such"
)


def _first_mean(record: Record) -> float:
    """The mean of the points at which `numbered` starts the nodes that report."""
    starts: list[int] = []
    for role in dict.fromkeys(record.nodes["role"].tolist()):
        reports = record.nodes["reports"][record.nodes["role"] == role]
        starts += [i + 1 for i, count in enumerate(reports) if count]
    return float(np.mean(starts))


def _same(
    subject: Subject, one: Record, other: Record, names: str, where: str, cure: str, clocks_within: float = 0.0
) -> None:
    """Clocks must agree to `clocks_within`, bytes exactly, values to rounding."""
    values_within = max(VALUES_WITHIN, 10 * ROUNDOFF * subject.algorithm.condition)
    for table, column, within in _COMPARED:
        a, b = getattr(one, table)[column], getattr(other, table)[column]
        within = clocks_within if within is None else within
        if a.shape != b.shape:
            raise Failed(f"{where}, {names} differ: {len(a)} and {len(b)} rows of {table}", cure)
        off = np.abs(a - b) > within * np.abs(a)
        if off.any():
            i = int(np.argmax(off))
            raise Failed(f"{where}, {names} differ in {table}.{column}: {a[i]} and {b[i]} in row {i}", cure)
    for name, a in one.final.items():
        b = other.final[name]
        off = float(np.abs(a - b).max(initial=0.0)) / max(1.0, float(np.abs(a).max(initial=0.0)))
        if not off <= values_within:
            raise Failed(f"{where}, {names} differ in {name} by {off:.2g} of its size", cure)


_COMPARED = (("rounds", "sim_time_s", None), ("nodes", "finish_s", None), ("rounds", "wire_bytes", 0.0))


def _node_run(subject: Subject) -> str:
    if not subject.algorithm.synchronous:
        raise NotApplicable("synchronous is False: there is no group run")
    cure = "the program must mean the same for one node as for all: no state outside it, no randomness but node.random"
    for when, network in subject.policies("retry", "drop", "symmetric"):
        for dim in (3, NODES):
            sections: dict[str, Any] = {"problem": subject.problem(dim), "network": network}
            where = f"{when}, n = {NODES}, d = {dim}"
            nodes = subject.run(**sections, execution={"node_run": True})
            _same(
                subject,
                subject.run(**sections, execution={"tier": "events"}),
                nodes,
                "group run and node run",
                where,
                cure,
            )
            _same(subject, subject.run(**sections), nodes, "group run and node run", where, cure, ACROSS_TIERS)
    return ""


def _executors(subject: Subject) -> str:
    cure = "a function must treat every node alike; a scalar per node has shape (), a row of the state (d,)"
    if not subject.algorithm.synchronous:
        raise NotApplicable("synchronous is False: values are always computed one by one")
    batched = subject.run()
    if batched.summary["executor"] != "batched":
        raise NotApplicable("values of this program are always computed node by node")
    for when, network in subject.policies("drop"):
        for dim in (3, NODES):
            sections: dict[str, Any] = {"problem": subject.problem(dim), "network": network}
            one = subject.run(**sections, execution={"executor": "one_by_one"})
            _same(
                subject, subject.run(**sections), one, "batched and one-by-one", f"{when}, n = {NODES}, d = {dim}", cure
            )
    return ""


def _deterministic(subject: Subject) -> str:
    fields = copy.deepcopy(vars(subject.algorithm))
    one, other = subject.run(), subject.run()
    calls = random_calls(subject.kind)
    if calls:
        raise Failed("\n".join(map(str, calls)) + "\nrandom numbers that do not follow from the scenario's seed",
                     "draw with node.random(purpose, shape), node.coin(p) or node.sample(role, k)")  # fmt: skip
    if repr(vars(subject.algorithm)) != repr(fields):
        changed = [name for name, value in vars(subject.algorithm).items() if repr(value) != repr(fields.get(name))]
        raise Failed(f"a run changed the field {', '.join(changed)} of the algorithm", KEEP_LOCAL)
    same = all(np.array_equal(one.final[name], other.final[name]) for name in one.final)
    if one.summary["log_hash"] != other.summary["log_hash"] or not same:
        raise Failed(
            "two runs of one scenario and seed differ",
            "every draw must come from the node: node.random, node.coin, node.sample",
        )
    return ""


def _one_lost(subject: Subject) -> str:
    whole = subject.run(rounds=4 * ROUNDS)
    messages = int(whole.summary["messages"])
    if not messages:
        raise NotApplicable("it sends no messages")
    heavy = {"policy": "drop", "loss_unit": "message", "link": {**LINK, "loss": 0.9}}
    if not subject.run(network=heavy).summary["lost_messages"]:
        raise NotApplicable("all its messages are reliable: sent again until they arrive")
    network = {"policy": "drop", "loss_unit": "message", "link": {**LINK, "loss": 1.0 / messages}}
    for seed in range(100):
        record = subject.run(rounds=4 * ROUNDS, network=network, seed=seed)
        if record.summary["lost_messages"] == 1:
            break
    else:
        raise NotApplicable("no seed below 100 loses one message alone")
    _finite(record, "after one lost message", "what stands in for it (missing=) must keep the state bounded")
    whole = subject.run(rounds=4 * ROUNDS, seed=seed)
    off = record.final["x"] - whole.final["x"]
    size = max(float(np.abs(whole.final["x"]).max()), 1e-300)
    return (f"after {4 * ROUNDS} rounds x is off by {np.abs(off).max() / size:.1g} of its size, "
            f"its mean by {np.abs(off.mean(0)).max() / size:.1g}")  # fmt: skip


def _bytes(subject: Subject) -> str:
    algorithm = subject.algorithm
    if algorithm.numbers_sent(3, NODES, 2 * NODES) is None:
        raise NotApplicable("it declares no formula: give it a method numbers_sent(self, dim, nodes, edges)")
    for nodes, dim in ((NODES, 3), (5, 7)):
        scenario = subject.scenario(nodes)
        edges = scenario["network"]["graph"].number_of_edges() * (1 if subject.directed else 2)
        problem = subject.problem(dim)
        bits = [
            subject.run(nodes, rounds=rounds, problem=problem).summary["nominal_bits"]
            for rounds in (ROUNDS, 2 * ROUNDS)
        ]
        sent, said = (bits[1] - bits[0]) / 32 / ROUNDS, algorithm.numbers_sent(dim, nodes, edges)
        if sent != said:
            lines = [str(Place(subject.file, type(algorithm).numbers_sent.__code__.co_firstlineno)), *subject.talk()]
            where = f"with {nodes} nodes, {edges} edges and d = {dim}"
            raise Failed("\n".join([f"{where}, a round sends {sent:g} numbers, and numbers_sent says {said}", *lines]),
                         "count every Value of every message once at its sender")  # fmt: skip
    return ""


def _alone(subject: Subject) -> str:
    if len(subject.algorithm.roles) > 1:
        raise NotApplicable(f"it has {len(subject.algorithm.roles)} roles, which need as many hosts")
    record = subject.run(1)
    _finite(record, "with n = 1", "a node without neighbours keeps its own value: divide by no degree")
    if record.summary["messages"]:
        raise Failed(f"with n = 1 it sends {record.summary['messages']} messages", "a node sends nothing to itself")
    return ""


def _zeroth_order(subject: Subject) -> str:
    try:
        record = run(subject.scenario(nodes={"groups": [{"count": 2, "oracle": "zo"}]}))
    except CapabilityError as error:
        if subject.algorithm.first_order:
            return "refused, with the node's name"
        raise Failed(str(error), cure_of(error)) from error
    if subject.algorithm.first_order:
        raise Failed(
            "first_order is True, and ZO-only nodes are not refused",
            "only data roles are looked at: list them in 'data_roles'",
        )
    _finite(record, "with ZO nodes", "a zeroth-order estimate is noisy; try a smaller default step size")
    return ""


def _th(i: int) -> str:
    return {0: "first", 1: "second", 2: "third"}.get(i, f"{i + 1}th")


GATES: tuple[tuple[str, Callable[[Subject], str]], ...] = (
    ("runs, and yields every verb that it makes", _plain_run),
    ("reports x at the end of every round", _reports),
    ("same seed, same run; the instance stays as it is", _deterministic),
)
CHECKS: tuple[tuple[str, Callable[[Subject], str]], ...] = (
    ("all ones stay all ones when gradients are zero, under every policy", _ones),
    ("the mean is kept when gradients are zero, without loss and under retry and symmetric", _mean),
    ("group run = node run, also where n = d", _node_run),
    ("batched = one by one, also where n = d", _executors),
    ("one lost message leaves it finite", _one_lost),
    ("bytes by formula", _bytes),
    ("runs alone, n = 1", _alone),
    ("ZO-only nodes are served, or refused by name", _zeroth_order),
)
