"""Run a scenario: the time plane drives, the value plane follows, the record keeps.

record = simnet.run("scenario.yaml", set={"network.link.loss": 0.1})
record = simnet.estimate("scenario.yaml")          # the time plane alone: no tensors
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import simnet
from simnet.book import Book
from simnet.costs import ByProfile, Calibrated, Flops, Measured, Replayed
from simnet.errors import ProgramError, ScenarioError
from simnet.preflight import guessed_sizes
from simnet.prepare import Plan, prepare
from simnet.presence import Presence
from simnet.profile import ANY
from simnet.record import Record, RecordWriter
from simnet.recording import Recording
from simnet.scaling import estimated, unlike
from simnet.scenario import Scenario
from simnet.simulation import Progress, Simulation
from simnet.timeplane.account import NeedsEvents, NeedsWalker
from simnet.timeplane.walker import NeedsItems

_FOLLOWED = {"stop": {}, "target": {}, "execution.tier": "auto", "record.timeline": False, "record.messages": False}
_WORTH_FOLLOWING = 1 << 22  # bytes of one state
WORTH_COMPILING = 300_000  # messages: fewer take the plain walker less time than loading compiled code
WORTH_COMPILING_SHARED = 20_000  # the same over shared links, where the plain walker needs 20 to 70 us more for each

Source = str | Path | Mapping[str, Any] | Scenario


def run(
    scenario: Source,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Record:
    """Run a scenario for real and return its record.

    Args:
        scenario: a file, the name of a shipped scenario, a mapping, or a Scenario.
        set: dotted fields to change, `{"network.link.loss": 0.1}`.
        out: directory for the record; None keeps it in memory.
        progress: called with round, rounds, sim_time_s, wire_bytes, messages and, where known, objective.
        overwrite: replace a record that is already there.

    Raises an InputError before any work starts. A run that ends badly does not raise: its record says how it ended
    (`record.outcome`, `record.ended`). Ctrl-C ends the run with a last row and raises Interrupted (a
    KeyboardInterrupt), which has the `record`.
    """
    chosen = _read(scenario, set)
    plan = prepare(chosen)
    from simnet.valueplane import check_memory, make_values, settle_device

    device, dtype = settle_device(chosen)
    predicted = check_memory(plan, device, dtype, followed_bytes(plan, dtype))
    plan.problem.prepare(device, dtype, chosen.execution.kernels)
    _let_measure(plan, lambda: (device, dtype))
    directory = None if out is None else Path(out)
    header = _header(plan, str(device)) | {"states_bytes_predicted": predicted}
    with RecordWriter(directory, header, chosen.dump(), overwrite=overwrite) as writer:
        return attempts(plan, writer, progress, lambda book, kind: make_values(chosen, book, device, dtype, kind))


def estimate(
    scenario: Source,
    set: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    rounds_simulated: int | None = None,
    full: bool = False,
) -> Record:
    """Simulate time and bytes alone; no tensor is made. Arguments, errors and record as in `run`, kept in memory.

    A run too long to simulate whole within seconds is scaled from its first rounds, once these have become steady:
    then the summary has `simulated_rounds`, `scaled_rounds` and `scaled_spread` (see `simnet.scaling`). Where later
    rounds do not follow from the first (absences, slow periods, partners set by time, `stop`) all are simulated.

    Args:
        rounds_simulated: simulate exactly so many rounds and scale the rest.
        full: simulate all rounds, however long it takes.
    """
    chosen = _read(scenario, set)
    plan = prepare(chosen)
    if plan.costs.on_arrival:
        raise ScenarioError(
            "measured durations are those of a run: use 'simnet run', or estimate with calibrated ones, or {replay: "
            "RECORD} of a measured run",
            field="nodes.durations",
        )

    @cache
    def there() -> tuple[Any, Any]:
        from simnet.valueplane import settle_device

        device, dtype = settle_device(chosen)
        plan.problem.prepare(device, dtype, chosen.execution.kernels)
        return device, dtype

    _let_measure(plan, there)

    def simulate(rounds: int) -> Record:
        part = plan
        if rounds < chosen.rounds:  # every round is a row: what is scaled is seen round by round
            part = replace(plan, scenario=chosen.with_values({"rounds": rounds, "evaluate_every": 1}))
        header = _header(part, "none")
        if guessed := guessed_sizes(plan):
            header["notes"] = [*header.get("notes", ()), *guessed]
        with RecordWriter(None, header, chosen.dump()) as writer:
            return attempts(part, writer, progress, lambda book, kind: NoValues())

    return estimated(simulate, plan.network.n, chosen.rounds, rounds_simulated, full, unlike(plan))


def followed_bytes(plan: Plan, dtype: Any) -> int | None:
    """The bytes of states that a lockstep program keeps, from following its first rounds; None for other programs, and
    where one state is small.
    """
    from simnet.valueplane.footprint import Footprint

    if plan.network.n * plan.problem.dim * dtype.itemsize < _WORTH_FOLLOWING:
        return None
    algorithm, execution = plan.algorithm, plan.scenario.execution
    if execution.node_run or execution.executor != "batched" or execution.tier == "processes":
        return None
    if algorithm.roles or algorithm.partners_by_time or algorithm.node_by_node:
        return None
    scenario = plan.scenario.with_values(_FOLLOWED | {"rounds": min(3, plan.scenario.rounds)})
    part = replace(
        plan, scenario=scenario, costs=Flops(), presence=Presence(plan.network.n),
        network=replace(plan.network, model="independent"),
        profiles=replace(plan.profiles, step_s={ANY: np.ones(plan.network.n)}),
    )  # fmt: skip
    found: list[Footprint] = []

    def follow(book: Book, kind: str) -> Any:
        if kind != "lockstep":
            raise ProgramError("only whole tasks can be followed")
        found.append(Footprint(book, dtype))
        return found[-1]

    try:
        with RecordWriter(None, {}, "") as writer:
            attempts(part, writer, None, follow)
    except (ProgramError, ScenarioError):  # it decides by numbers, or says elsewhere what is wrong with it
        return None
    return found[-1].bytes


def _let_measure(plan: Plan, there: Callable[[], tuple[Any, Any]]) -> None:
    """Give the source of durations what it measures with; `there` gives device and dtype, the problem's data on it."""
    costs = plan.costs
    if isinstance(costs, Flops | Replayed) and not isinstance(costs, ByProfile):
        return

    @cache
    def meter(book: Book) -> Any:
        from simnet.valueplane.meter import Meter

        return Meter(book, *there())

    @cache
    def rate() -> float:
        from simnet.valueplane.meter import product_flop_per_s

        return product_flop_per_s(*there())

    costs.rate = rate
    if isinstance(costs, ByProfile):
        costs.count = lambda book: meter(book).operators
    if isinstance(costs, Calibrated):
        costs.meter = meter


def _read(scenario: Source, set: Mapping[str, Any] | None) -> Scenario:
    chosen = Scenario.of(scenario)
    return chosen.with_values(set) if set else chosen


def _header(plan: Plan, device: str) -> dict[str, Any]:
    scenario = plan.scenario
    versions = {"simnet": simnet.__version__, "python": platform.python_version(), "numpy": np.__version__}
    return {
        "name": scenario.name,
        "seed": scenario.seed,
        "device": device,
        "dtype": scenario.execution.dtype,
        "threads": scenario.execution.threads,
        "cost_source": _cost_source(plan),
        "versions": versions,
        **plan.facts(),
    }


def _cost_source(plan: Plan) -> str:
    """Whether durations come from counted FLOP or another source, from given steps, or some from each."""
    scenario, source = plan.scenario, plan.costs.name
    steps = [scenario.nodes.step is not None, *(group.step is not None for group in scenario.nodes.groups)]
    return "step_s" if steps[0] and all(steps) else f"{source}, step_s" if any(steps) else source


# ---- which tier and which executor ---------------------------------------------------------------------------------


def attempts(
    plan: Plan, writer: RecordWriter, progress: Progress | None, values_of: Callable[[Book, str], Any]
) -> Record:
    """Take the fastest tier that is exact; what turns out to need a slower one is begun again, its rows forgotten."""
    execution = plan.scenario.execution
    for tier, kind in _candidates(plan):
        book = plan.book()
        values = values_of(book, kind)
        if isinstance(plan.costs, Measured):
            plan.costs.values = values
        simulation = Simulation(plan, book, values, tier, kind, writer, progress)
        try:
            return simulation.run()
        except (NeedsEvents, NeedsWalker, NeedsItems) as reason:
            if execution.tier in ("arrays", "compiled"):
                raise ScenarioError(
                    f"the {execution.tier} tier cannot run this exactly: {reason}; leave the tier to 'auto'",
                    field="execution.tier",
                    value=execution.tier,
                ) from reason
            if simulation.interrupt.asked:
                raise KeyboardInterrupt from None
            writer.restart()
    raise ProgramError("no tier can run this program")


def _candidates(plan: Plan) -> list[tuple[str, str]]:
    """(tier, how values follow) to try in order: `lockstep` by whole tasks, `items` node by node."""
    execution, algorithm = plan.scenario.execution, plan.algorithm
    if plan.costs.on_arrival or execution.node_run or execution.tier == "processes" or algorithm.node_by_node:
        return [("processes", "items")]
    if algorithm.roles:
        if execution.tier in ("arrays", "compiled"):
            raise ScenarioError(
                f"the {execution.tier} tier runs programs of a single role",
                field="execution.tier",
                value=execution.tier,
            )
        return [("events", "items")]
    if algorithm.partners_by_time:
        return _meeting_candidates(plan)
    tiers = [("events", "lockstep"), ("events", "items")]
    if execution.tier == "events":
        return tiers
    if execution.tier in ("arrays", "compiled"):
        return [(execution.tier, "lockstep")]
    shared = plan.network.model != "independent"
    least = WORTH_COMPILING_SHARED if shared else WORTH_COMPILING
    worthwhile = len(plan.topology.edges(0)[0]) * plan.scenario.rounds >= least
    compiled = [("compiled", "lockstep")] if worthwhile and find_spec("numba") is not None else []
    return [("arrays", "lockstep"), *compiled, *tiers]


def _meeting_candidates(plan: Plan) -> list[tuple[str, str]]:
    """The same where partners are set by time: whole arrays of records, or node by node."""
    execution, algorithm = plan.scenario.execution, plan.algorithm
    if execution.tier == "arrays":
        raise ScenarioError("partners are set by time: the arrays tier has none", field="execution.tier",
                            value=execution.tier)  # fmt: skip
    if execution.executor != "batched" or not algorithm.only_meets:
        if execution.tier == "compiled":
            raise ScenarioError(
                "the compiled tier runs a batched program that computes and meets, and does nothing else",
                field="execution.tier",
                value=execution.tier,
            )
        return [("events", "items")]
    if execution.tier != "auto":
        return [(execution.tier, "pairs")]
    worthwhile = plan.network.n * plan.scenario.rounds >= WORTH_COMPILING / 20
    compiled = [("compiled", "pairs")] if worthwhile and find_spec("numba") is not None else []
    return [*compiled, ("events", "pairs")]


class NoValues:
    """The value plane of an estimate: recorded tasks are dropped."""

    name = "none"
    computes = False
    watch = None

    def catch_up(self, recording: Recording, mark: int) -> None:
        graph = recording.graph
        graph.pending.clear()
        graph.readers.clear()

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        raise ProgramError(_NEEDS_NUMBERS)

    def holds(self, *_: Any) -> bool:
        raise ProgramError(_NEEDS_NUMBERS)

    def read(self, *_: Any) -> None:
        raise ProgramError(_NEEDS_NUMBERS)

    def sizes(self, *_: Any) -> None:
        """Sizes that depend on values are not known: their bounds stand."""

    def sent(self, recording: Recording, *_: Any) -> tuple[Any, ...]:
        self.catch_up(recording, 0)
        return ()

    def publish(self, recording: Recording, *_: Any) -> None:
        self.catch_up(recording, 0)

    take = enter = publish

    def _ignore(self, *_: Any) -> None:
        """Values are nobody's concern here."""

    started = finished = late = averaged = closed = received = reported = met = forget = left = _ignore


_NEEDS_NUMBERS = (
    "this program decides by numbers that it computes (node.read, or a Value as when=), so its time cannot be "
    "estimated without computing: use 'simnet run'"
)
