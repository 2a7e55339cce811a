"""The time plane alone: messages per CPU second of each tier, values left out."""

from __future__ import annotations

import resource
import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import networkx as nx

from simnet.benches.timing import Keep, Row, Stopwatch, Timed, interleaved, ratio
from simnet.prepare import Plan, prepare
from simnet.recording import Recording
from simnet.scenario import Scenario
from simnet.session import NoValues
from simnet.timeplane.account import Account
from simnet.timeplane.arrays import ArraysPlane
from simnet.timeplane.walker import Walker

DEGREE = 4


def time_scenario(n: int, rounds: int, deadline_s: float | None = None, **network: Any) -> Scenario:
    """A lossless 4-regular network of unequal nodes, a problem without data."""
    graph = nx.random_regular_graph(DEGREE, n, seed=1)
    return Scenario.of(
        {
            "name": "time plane",
            "network": {"graph": graph, "link": {"bandwidth": "10 Mbit/s", "latency": "20 ms"}, **network},
            "nodes": {"step": "10 ms", "jitter": 0.3},
            "problem": {"name": "Quadratic", "dim": 650},
            "algorithm": {"name": "DPSGD", "eta": 0.1, "deadline_s": deadline_s},
            "rounds": rounds,
            "record": {"timeline": False},
        }
    )


def rows(chosen: Namespace) -> Iterator[Row]:
    """Messages per CPU second of the tiers, interleaved, and the large case with its peak memory."""
    cases = {
        "lossless": prepare(time_scenario(1000, 100)),
        "5 % loss": prepare(time_scenario(1000, 100, policy="drop", link={"loss": 0.05})),
        "5 % loss, deadline": prepare(time_scenario(1000, 100, 0.05, policy="drop", link={"loss": 0.05})),
    }
    for case, plan in cases.items():
        contenders: dict[str, Timed] = {
            tier: (lambda tier=tier, plan=plan: walked(plan, tier))  # type: ignore[misc]
            for tier in ("events", "compiled", "arrays")
        }
        messages = 1000 * DEGREE * 100
        seconds = interleaved(contenders, chosen.repeats)
        for tier, spent in seconds.items():
            yield {"job": f"time plane, {tier}, {case}", "nodes": 1000, "messages": messages,
                   "messages_per_s": messages / statistics.median(spent),
                   "events_to_this": ratio(seconds["events"], spent)}  # fmt: skip
    yield large()


def large() -> Row:
    """A hundred thousand nodes in the arrays tier."""
    plan = prepare(time_scenario(100_000, 20))
    plan.book().edges(plan.topology, 0, "node")
    spent = statistics.median(walked(plan, "arrays") for _ in range(3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"job": "time plane, arrays", "nodes": 100_000, "messages": 8_000_000, "messages_per_s": 8e6 / spent,
            "cpu_s": spent, "peak_memory_bytes": peak}  # fmt: skip


def walked(plan: Plan, tier: str) -> float:
    """CPU seconds of one walk with ledger and clocks per round, values left out."""
    watch = Stopwatch()
    with watch.running():
        book, values = plan.book(), NoValues()
        account, keep = Account(book, timeline=False), Keep(values, plan.scenario.rounds)
        recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
        _plane(tier)(book, recording, account, values, keep).run()
    return watch.seconds


def _plane(tier: str) -> Any:
    if tier == "arrays":
        return ArraysPlane
    if tier == "compiled":
        from simnet.timeplane.events import CompiledWalker

        return CompiledWalker
    return lambda book, recording, *rest: Walker(book, [recording], *rest)
