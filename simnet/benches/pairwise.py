"""Partners set by time, against the same arithmetic on rows gathered by index, with nothing simulated around it.

The job: AD-PSGD, softmax on digits (d = 650; `--features 784` makes it d = 7,850, on made-up rows), 64 rows a node,
batch 32, a random 8-regular graph, steps of 100 ms give or take a half. Three floors, with nothing simulated: `index`
does the operations of the same run again, on rows gathered by index, in the order and the batches in which they came;
`by hand` takes the nodes in a random order, 200 at once, whatever rests on what: gradients of gathered rows and
minibatches, the mean of each row with another, the step; `contiguous` does the same with the nodes in order, where no
state is gathered. Nobody evaluates.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from simnet.benches.common import DIGITS, drawn_rows
from simnet.benches.timing import Keep, Row, Stopwatch, Timed, interleaved, ratio
from simnet.prepare import Plan, prepare
from simnet.recording import Recording
from simnet.scenario import Scenario
from simnet.session import NoValues
from simnet.timeplane.account import Account

ROUNDS, BATCH, ETA, AT_ONCE = 100, 32, 0.05, 200


def rows(chosen: Namespace) -> Iterator[Row]:
    """One row for each number of nodes."""
    for n in chosen.nodes:
        yield measure(n, chosen.repeats, chosen.device, chosen.features)


def ad_psgd(n: int, device: str, features: int = DIGITS) -> Scenario:
    """The job at n nodes; with other `features` than those of digits, on made-up rows."""
    return Scenario.of(
        {
            "network": {"nodes": n, "graph": {"name": "random_regular", "degree": 8}},
            "nodes": {"step": "100 ms", "jitter": 0.5},
            "problem": {"name": "Softmax", "batch": BATCH,
                        "data": "digits" if features == DIGITS else drawn_rows(features),
                        "split": {"name": "dirichlet", "alpha": 0.5, "rows": 64}},
            "algorithm": {"name": "ADPSGD", "eta": ETA},
            "rounds": ROUNDS,
            "execution": {"device": device, "threads": 1},
            "record": {"timeline": False},
        }
    )  # fmt: skip


def measure(n: int, repeats: int, device: str, features: int = DIGITS) -> Row:
    """Microseconds a step of one node: the simulation, its time plane alone, the floor, and the ratio to it."""
    from simnet.valueplane import make_values, settle_device

    plan = prepare(ad_psgd(n, device, features))
    place, dtype = settle_device(plan.scenario)
    plan.problem.prepare(place, dtype)

    def simulated() -> float:
        book = plan.book()
        values = make_values(plan.scenario, book, place, dtype, "pairs")
        watch = Stopwatch(place)
        with watch.running():
            _walk(plan, book, values)
            values.flush()
        return watch.seconds

    def times_alone() -> float:
        watch = Stopwatch()
        with watch.running():
            _walk(plan, plan.book(), NoValues())
        return watch.seconds

    def floor() -> float:
        watch = Stopwatch(place)
        with watch.running():
            by_hand(plan, place)
        return watch.seconds

    def in_order() -> float:
        watch = Stopwatch(place)
        with watch.running():
            contiguous(plan, place)
        return watch.seconds

    def again() -> float:
        book = plan.book()
        values = make_values(plan.scenario, book, place, dtype, "pairs")
        done = Again(values)
        _walk(plan, book, values)
        values.flush()
        watch = Stopwatch(place)
        with watch.running():
            done.again()
        return watch.seconds

    contenders: dict[str, Timed] = {
        "simnet": simulated, "time plane": times_alone, "index": again, "by hand": floor, "contiguous": in_order,
    }  # fmt: skip
    seconds = interleaved(contenders, repeats)
    us = {name: statistics.median(spent) * 1e6 / (n * ROUNDS) for name, spent in seconds.items()}
    return {"job": "pairwise, AD-PSGD", "nodes": n, "parameters": plan.problem.dim, "device": str(place),
            "us_per_step": us["simnet"], "time_plane_us_per_step": us["time plane"],
            "index_floor_us_per_step": us["index"], "to_index_floor": ratio(seconds["simnet"], seconds["index"]),
            "by_hand_us_per_step": us["by hand"], "to_by_hand": ratio(seconds["simnet"], seconds["by hand"]),
            "contiguous_us_per_step": us["contiguous"],
            "to_contiguous": ratio(seconds["simnet"], seconds["contiguous"]),
    }  # fmt: skip


class Again:
    """Notes the operations that an executor runs, so that they can be run again."""

    def __init__(self, values: Any) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []
        for name in ("_by_levels", "_row_by_row"):
            setattr(values, name, self._noting(getattr(values, name)))

    def _noting(self, run: Any) -> Any:
        def noted(*operations: Any) -> None:
            self.calls.append((run, operations))
            run(*operations)

        return noted

    def again(self) -> None:
        """Run everything once more."""
        for run, operations in self.calls:
            run(*operations)


def _walk(plan: Plan, book: Any, values: Any) -> None:
    from simnet.timeplane.pairwise import PairwiseWalker

    recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
    hooks = Keep(values, -1)
    hooks.reporting = [recording]
    PairwiseWalker(book, recording, Account(book, timeline=False), values, hooks).run()


def by_hand(plan: Plan, device: Any) -> None:
    """Gradients, means of two and steps on rows gathered by index, as many as the job has."""
    import torch

    problem, n = plan.problem, plan.network.n
    generator = torch.Generator(device=device).manual_seed(7)
    fewest = int(problem.samples_N.min())
    x_ND = problem.initial("x").repeat(n, 1)
    for _ in range(ROUNDS):
        order, others = (torch.randperm(n, generator=generator, device=device) for _ in range(2))
        for a in range(0, n, AT_ONCE):
            one, other = order[a : a + AT_ONCE], others[a : a + AT_ONCE]
            samples_SB = torch.randint(fewest, (len(one), BATCH), generator=generator, device=device)
            gradient_SD = problem.gradients(x_ND.index_select(0, one), one, samples_SB)
            mean_SD = x_ND.index_select(0, one).add_(x_ND.index_select(0, other)).mul_(0.5)
            x_ND.index_copy_(0, other, mean_SD)
            x_ND.index_copy_(0, one, mean_SD.sub_(gradient_SD, alpha=ETA))


def contiguous(plan: Plan, device: Any) -> None:
    """The same with the nodes in their order: each piece meets the next one."""
    import torch

    problem, n = plan.problem, plan.network.n
    generator = torch.Generator(device=device).manual_seed(7)
    fewest = int(problem.samples_N.min())
    x_ND, nodes = problem.initial("x").repeat(n, 1), torch.arange(n, device=device)
    for _ in range(ROUNDS):
        for a in range(0, n, AT_ONCE):
            one = slice(a, min(a + AT_ONCE, n))
            size = one.stop - a
            b = one.stop if one.stop + size <= n else 0
            samples_SB = torch.randint(fewest, (size, BATCH), generator=generator, device=device)
            gradient_SD = problem.gradients(x_ND[one], nodes[one], samples_SB)
            mean_SD = (x_ND[one] + x_ND[b : b + size]).mul_(0.5)
            x_ND[b : b + size] = mean_SD
            torch.sub(mean_SD, gradient_SD, alpha=ETA, out=x_ND[one])
